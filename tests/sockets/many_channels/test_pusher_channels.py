"""Pusher's protocol: subscribing to channels of each kind, and leaving them."""

import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from tests.servers import Redis
from tests.sockets.pusher import PusherClient, channel_name, open_pusher

OpenPusher = Callable[..., Awaitable[PusherClient]]


@pytest.mark.parametrize("kind", ["", "private-", "private-encrypted-", "private-a=@,.;"])
async def test_a_connection_subscribes_to_many_channels(pusher: OpenPusher, kind: str) -> None:
    client = await pusher()
    for _ in range(100):
        assert await client.join(channel_name(kind)) == {}
    await client.settle()


async def test_a_repeated_subscription_succeeds_again(pusher: OpenPusher) -> None:
    client, channel = await pusher(), channel_name("presence-")
    await client.join(channel, {"user_id": "1"})
    assert (await client.join(channel, {"user_id": "1"}))["presence"]["count"] == 1
    await client.settle()


@pytest.mark.parametrize("channel", ["", "a b", "é", "#", "#x", "a/b", "a:b"])
async def test_a_name_outside_the_alphabet_is_refused(pusher: OpenPusher, channel: str) -> None:
    client = await pusher()
    assert (await client.refusal(channel))["type"] == "InvalidChannel"
    await client.settle()


@pytest.mark.parametrize("data", [None, 1, {}, {"channel": 1}, "x", "{}", {"channel": "a" * 165}])
async def test_a_subscription_without_a_channel_gets_an_error(pusher: OpenPusher, data: Any) -> None:
    client = await pusher()
    await client.send("pusher:subscribe", data)
    assert (await client.receive())["event"] == "pusher:error"
    await client.settle()


async def test_the_data_of_a_subscription_may_be_a_string(pusher: OpenPusher) -> None:
    client, channel = await pusher(), channel_name()
    await client.send("pusher:subscribe", json.dumps({"channel": channel}))
    assert (await client.receive())["channel"] == channel


@pytest.mark.parametrize("kind", ["private-", "private-encrypted-", "presence-"])
async def test_a_signature_that_is_missing_or_wrong_is_refused_and_never_told(pusher: OpenPusher, kind: str) -> None:
    client, channel, user = await pusher(), channel_name(kind), '{"user_id":"1"}'
    text = f":{channel}:{user}" if kind == "presence-" else f":{channel}"
    right = client.auth(text)
    for auth in (
        *("", None, "x", ":", f"{client.key}:", right[:-1], right.upper(), client.auth(f"{text}x")),
        *(client.auth(text, secret="wrong"), client.auth(text, key="x" * 60)),
    ):
        error = await client.refusal(channel, auth=auth, channel_data=user)
        assert (error["type"], error["status"]) == ("AuthError", 401)
        assert right.partition(":")[2] not in json.dumps(error)
    await client.subscribe(channel, auth=right, channel_data=user)
    assert (await client.receive())["event"] == "pusher_internal:subscription_succeeded"


async def test_an_unsubscription_has_no_answer_and_ends_the_events(pusher: OpenPusher) -> None:
    (leaver, sender), channel = [await pusher() for _ in "ab"], channel_name("private-")
    await leaver.join(channel)
    await sender.join(channel)
    await leaver.send("pusher:unsubscribe", {"channel": channel})
    await leaver.settle()
    await sender.send("client-x", 1, channel)
    await sender.settle()
    await leaver.settle()
    await leaver.join(channel)


async def test_subscriptions_beyond_the_limit_are_refused(
    start: Callable[..., Any], keys: dict[str, str], secrets: dict[str, str]
) -> None:
    with start("serve", MAX_CHANNELS_PER_CONNECTION="2") as server:
        async with open_pusher(server, keys["demo"], secrets["demo"]) as client:
            first = channel_name()
            await client.join(first)
            await client.join(channel_name())
            assert (await client.refusal(channel_name()))["type"] == "LimitReached"
            await client.send("pusher:unsubscribe", {"channel": first})
            await client.join(channel_name())


async def test_a_repeated_subscription_takes_no_second_place_while_redis_is_asked_for_its_members(
    start: Callable[..., Any], redis: Redis, keys: dict[str, str], secrets: dict[str, str]
) -> None:
    with start("serve", MAX_CHANNELS_PER_CONNECTION="2", REDIS_URL=redis.url) as server:
        async with open_pusher(server, keys["demo"], secrets["demo"]) as client:
            presence, user = channel_name("presence-"), {"user_id": "1"}
            await client.join(presence, user)
            await client.subscribe(presence, user)
            await client.subscribe(channel_name())
            answers = [await client.receive() for _ in "ab"]
            assert [answer["event"] for answer in answers] == ["pusher_internal:subscription_succeeded"] * 2


class TestPresence:
    """Who is in a presence channel, and what the others learn."""

    async def test_members_learn_of_users_not_of_their_connections(self, pusher: OpenPusher) -> None:
        channel, ann, bob = channel_name("presence-"), {"user_id": "1", "user_info": {"name": "Ann"}}, {"user_id": 2}
        first = await pusher()
        assert await first.join(channel, ann) == {
            "presence": {"ids": ["1"], "hash": {"1": {"name": "Ann"}}, "count": 1}
        }
        tabs = [await pusher() for _ in "ab"]
        for tab in tabs:
            assert await tab.join(channel, bob) == {
                "presence": {"ids": ["1", "2"], "hash": {"1": {"name": "Ann"}, "2": None}, "count": 2}
            }
        again = await tabs[1].join(channel, {"user_id": 2, "user_info": "of another tab"})
        assert again["presence"]["hash"] == {"1": {"name": "Ann"}, "2": None}
        added = await first.receive()
        assert (added["event"], added["channel"]) == ("pusher_internal:member_added", channel)
        assert json.loads(added["data"]) == {"user_id": "2", "user_info": None}
        await tabs[0].send("pusher:unsubscribe", {"channel": channel})
        await tabs[0].settle()
        await first.settle()
        await tabs[1].client.socket.close()
        removed = await first.receive()
        assert (removed["event"], removed["channel"]) == ("pusher_internal:member_removed", channel)
        assert json.loads(removed["data"]) == {"user_id": "2"}

    @pytest.mark.parametrize(
        "user",
        [
            *(None, 1, [], "x", {}, {"user_id": None}, {"user_id": True}, {"user_id": ""}, {"user_id": "x" * 129}),
            {"user_id": "1", "user_info": "x" * 1025},
        ],
    )
    async def test_a_user_who_cannot_be_a_member_is_refused(self, pusher: OpenPusher, user: Any) -> None:
        client, channel = await pusher(), channel_name("presence-")
        data = json.dumps(user)
        error = await client.refusal(channel, auth=client.auth(f":{channel}:{data}"), channel_data=data)
        assert (error["type"], error["status"]) == ("InvalidData", 400)

    async def test_without_channel_data_a_user_who_has_signed_in_is_the_member(self, pusher: OpenPusher) -> None:
        client, channel = await pusher(), channel_name("presence-")
        assert (await client.refusal(channel))["type"] == "AuthError"
        await client.sign_in({"id": "7", "user_info": {"name": "Ann"}})
        await client.receive()
        assert (await client.join(channel))["presence"]["hash"] == {"7": {"name": "Ann"}}


class TestUsers:
    """Signing in."""

    async def test_a_user_signs_in_and_subscribes_to_a_channel_of_its_own(self, pusher: OpenPusher) -> None:
        client = await pusher()
        assert (await client.refusal("#server-to-user-1"))["type"] == "AuthError"
        await client.sign_in({"id": "1"})
        success = await client.receive()
        assert success["event"] == "pusher:signin_success"
        assert json.loads(success["data"]) == {"user_data": '{"id": "1"}'}
        assert await client.join("#server-to-user-1") == {}
        assert (await client.refusal("#server-to-user-2"))["type"] == "AuthError"

    @pytest.mark.parametrize("user", [{}, {"id": 1}, {"id": ""}, [], "x"])
    async def test_a_user_without_a_name_is_disconnected(self, pusher: OpenPusher, user: Any) -> None:
        client = await pusher()
        await client.sign_in(user)
        frames, code = await client.client.ending()
        assert (json.loads(frames[0])["data"]["code"], code) == (4009, 4009)

    async def test_a_wrong_signature_and_a_second_user_are_disconnected(self, pusher: OpenPusher) -> None:
        client, second = await pusher(), await pusher()
        client.secret = "wrong"
        await client.sign_in({"id": "1"})
        assert (await client.client.ending())[1] == 4009
        await second.sign_in({"id": "1"})
        await second.receive()
        await second.sign_in({"id": "2"})
        assert (await second.client.ending())[1] == 4009


class TestClientEvents:
    """Events that clients send to each other."""

    @pytest.mark.parametrize(("data", "received"), [({"a": "é"}, '{"a": "\\u00e9"}'), ("text", "text"), (None, "null")])
    async def test_an_event_reaches_the_others_with_its_data_as_a_string(
        self, pusher: OpenPusher, data: Any, received: str
    ) -> None:
        (sender, receiver, elsewhere), channel = [await pusher() for _ in "abc"], channel_name("private-")
        await sender.join(channel)
        await receiver.join(channel)
        await elsewhere.join(channel_name("private-"))
        await sender.send("client-x", data, channel)
        assert await receiver.receive() == {"event": "client-x", "channel": channel, "data": received}
        await sender.settle()
        await elsewhere.settle()

    async def test_on_presence_channels_the_sender_is_the_one_who_has_subscribed(self, pusher: OpenPusher) -> None:
        (sender, receiver), channel = [await pusher() for _ in "ab"], channel_name("presence-")
        await sender.join(channel, {"user_id": "1"})
        await receiver.join(channel, {"user_id": "2"})
        await sender.receive()  # member_added
        frame = {"event": "client-x", "channel": channel, "data": "", "user_id": "2", "socket_id": "1.1"}
        await sender.client.send(json.dumps(frame))
        assert await receiver.receive() == {"event": "client-x", "channel": channel, "data": "", "user_id": "1"}

    async def test_events_to_channels_without_a_subscription_are_ignored(self, pusher: OpenPusher) -> None:
        (sender, receiver), channel = [await pusher() for _ in "ab"], channel_name("private-")
        await receiver.join(channel)
        await sender.send("client-x", 1, channel)
        await sender.settle()
        await receiver.settle()

    @pytest.mark.parametrize(
        ("event", "kind"), [("client-x", ""), ("news", "private-"), (f"client-{'x' * 194}", "private-")]
    )
    async def test_events_that_clients_may_not_send_get_an_error(
        self, pusher: OpenPusher, event: str, kind: str
    ) -> None:
        client, channel = await pusher(), channel_name(kind)
        await client.join(channel)
        await client.send(event, 1, channel)
        assert (await client.receive())["event"] == "pusher:error"
        await client.settle()

    async def test_a_key_that_allows_no_messages_of_clients_allows_no_events(self, pusher: OpenPusher) -> None:
        client, channel = await pusher("silent"), channel_name("private-")
        await client.join(channel)
        await client.send("client-x", 1, channel)
        assert (await client.receive())["data"]["code"] == 4301
        await client.settle()

    async def test_events_beyond_ten_a_second_are_dropped_and_the_connection_stays_open(
        self, pusher: OpenPusher
    ) -> None:
        (sender, receiver), channel = [await pusher() for _ in "ab"], channel_name("private-")
        await sender.join(channel)
        await receiver.join(channel)
        for number in range(60):
            await sender.send("client-x", number, channel)
        assert (await sender.receive())["data"]["code"] == 4301
        assert (await receiver.receive())["data"] == "0"
