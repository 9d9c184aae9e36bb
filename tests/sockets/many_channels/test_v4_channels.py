"""PieSocket v4: connecting, subscribing to further channels, and leaving them."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from realtime.protocols import closes
from realtime.protocols.tokens import sign
from tests.clients import open_client, until
from tests.servers import LiveServer
from tests.sockets.v4 import TAG, Refused, V4Client, open_v4, v4_path

OpenV4 = Callable[..., Awaitable[V4Client]]

BAD_JWT = "Authentication failed, provide valid jwt token."


async def test_nothing_is_sent_before_the_client_sends_something(v4: OpenV4, channel: str) -> None:
    client = await v4(channel)
    await client.settle()
    assert client.frames == [{"system": "pong", TAG: channel}]


async def test_a_connection_subscribes_to_many_channels_at_the_same_time(v4: OpenV4, channel: str) -> None:
    client, others = await v4(channel), [f"{channel}-{number}" for number in range(20)]
    await asyncio.gather(*(client.subscribe(other) for other in others))
    assert {frame["event"] for frame in client.frames} == {"system::subscribe_success"}
    assert {frame["data"]["channel"] for frame in client.frames} == set(others)
    assert all(frame[TAG] == frame["data"]["channel"] and list(frame["data"]) == ["channel"] for frame in client.frames)
    await client.settle()


@pytest.mark.parametrize("event", ["system::{}", "system:{}"])
async def test_clients_may_write_one_colon_or_two_and_get_two(v4: OpenV4, channel: str, event: str) -> None:
    client, other = await v4(channel), f"{channel}-b"
    await client.control("subscribe", other, {"channel": other, "presence": False, "uuid": "a"}, event)
    await client.control("unsubscribe", other, {"channel": other}, event)
    await client.send({"event": event.format("get_members"), "data": {"channel": channel}})
    assert (await client.receive())["event"] == "system::member_list"
    assert [frame["event"] for frame in client.frames[:2]] == [
        "system::subscribe_success",
        "system::unsubscribe_success",
    ]


async def test_a_repeated_subscription_succeeds_again(v4: OpenV4, channel: str) -> None:
    client, other = await v4(channel), f"{channel}-b"
    for name in (channel, other, other):
        await client.subscribe(name)
    await client.settle()


async def test_a_channel_may_be_a_number_or_have_a_namespace(v4: OpenV4, channel: str) -> None:
    client = await v4(f"{channel}/1")
    await client.send({"event": "system::subscribe", "data": {"channel": 1998, "presence": False}})
    await client.subscribe(f"{channel}/2")
    await client.publish("x", 1, channel=f"{channel}/2")
    await client.settle()
    assert client.frames[0]["data"] == {"channel": 1998}


@pytest.mark.parametrize("name", ["", "a b", "é", "a/b/c", "x" * 129, "a.b", "a:b"])
async def test_a_channel_that_cannot_be_is_refused(v4: OpenV4, channel: str, name: str) -> None:
    client = await v4(channel)
    with pytest.raises(Refused, match="letters, digits"):
        await client.subscribe(name)
    with pytest.raises(Refused):
        await client.unsubscribe(name)


@pytest.mark.parametrize(
    "data", [None, 1, "x", [], {}, {"channel": None}, {"channel": {}}, {"channel": [1]}, {"channel": True}]
)
async def test_a_control_frame_without_a_channel_gets_an_error(v4: OpenV4, channel: str, data: Any) -> None:
    client = await v4(channel)
    for name in ("subscribe", "unsubscribe", "get_members"):
        await client.send({"event": f"system::{name}", "data": data})
    await until(lambda: len(client.frames) == 4)
    assert [frame["event"] for frame in client.frames] == [
        *("system::subscribe_error", "subscription-error"),
        *("system::unsubscribe_error", "system::member_list_error"),
    ]
    assert {frame["data"]["channel"] for frame in client.frames} == {None}


@pytest.mark.parametrize(
    "more",
    [
        {"uuid": ""},
        {"uuid": "x" * 65},
        {"uuid": []},
        {"user": "x" * 257},
        {"user": [0] * 200},
        {"user": json.loads("[" * 200 + "]" * 200)},
        {"jwt": 1},
        {"presence": "maybe"},
    ],
)
async def test_an_option_that_is_not_valid_is_refused(v4: OpenV4, channel: str, more: Any) -> None:
    client, other = await v4(channel), f"{channel}-b"
    with pytest.raises(Refused):
        await client.control("subscribe", other, {"channel": other, "presence": False, "uuid": "a", **more})


async def test_a_refused_subscription_is_also_told_in_an_ordinary_event(v4: OpenV4, channel: str) -> None:
    # The library ignores the answers to the subscriptions that it repeats after it has reconnected.
    client = await v4(channel)
    with pytest.raises(Refused, match=BAD_JWT):
        await client.subscribe("private-x")
    data = {"channel": "private-x", "error": BAD_JWT}
    assert await client.receive() == {"event": "subscription-error", "data": data}
    await client.settle()


async def test_a_private_channel_needs_a_jwt_that_names_it(v4: OpenV4, channel: str, secrets: dict[str, str]) -> None:
    client, private = await v4(channel), f"private-{channel}"
    for jwt in (None, "", "x", sign(secrets["demo"], channel, 60), sign("w" * 64, private, 60)):
        with pytest.raises(Refused, match=BAD_JWT):
            await client.subscribe(private, **({} if jwt is None else {"jwt": jwt}))
        await client.receive()
    await client.subscribe(private, jwt=sign(secrets["demo"], private, 60))
    await client.settle()


async def test_a_key_that_protects_all_channels_protects_further_ones(
    v4: OpenV4, channel: str, secrets: dict[str, str]
) -> None:
    client = await v4(channel, key="protected", jwt=sign(secrets["protected"], channel, 60))
    with pytest.raises(Refused, match=BAD_JWT):
        await client.subscribe(f"{channel}-b")


async def test_a_left_channel_brings_no_more_messages(v4: OpenV4, channel: str) -> None:
    (leaver, sender), other = [await v4(channel) for _ in "ab"], f"{channel}-b"
    for client in (leaver, sender):
        await client.subscribe(other)
    await leaver.unsubscribe(other)
    await sender.publish("x", 1, channel=other)
    await sender.settle()
    await leaver.settle()
    await leaver.subscribe(other)
    await sender.publish("x", 2, channel=other)
    assert await leaver.receive(other) == {"event": "x", "data": 2, "meta": None}


async def test_the_channel_in_the_url_and_one_without_subscription_cannot_be_left(v4: OpenV4, channel: str) -> None:
    client = await v4(channel)
    with pytest.raises(Refused, match="URL"):
        await client.unsubscribe(channel)
    with pytest.raises(Refused, match="not subscribed"):
        await client.unsubscribe(f"{channel}-b")


async def test_a_subscription_that_is_left_while_it_is_made_brings_nothing(v4: OpenV4, channel: str) -> None:
    client, other, times = await v4(channel), f"{channel}-b", 5
    subscribe = {"event": "system::subscribe", "data": {"channel": other, "presence": False}}
    for _ in range(times):
        await client.send(subscribe)
        await client.send({"event": "system::unsubscribe", "data": {"channel": other}})
    await client.send(subscribe)

    def is_subscribed() -> bool:
        events = [frame["event"] for frame in client.frames]
        left = [number for number, event in enumerate(events) if event == "system::unsubscribe_success"]
        return len(left) == times and "system::subscribe_success" in events[left[-1] :]

    await until(is_subscribed)  # earlier attempts may be refused until then, and later
    sender = await v4(other)
    await sender.publish("x", 1)
    assert await client.receive(other) == {"event": "x", "data": 1, "meta": None}


async def test_leaving_the_channel_in_the_url_takes_a_new_connection(v4: OpenV4, channel: str) -> None:
    first, member = await v4(channel, member="a"), "a"
    kept = f"{channel}-kept"
    await first.subscribe(kept)
    await first.client.socket.close()
    second, sender = await v4(f"{channel}-next", member=member), await v4(kept)
    await second.subscribe(kept)
    await sender.publish("x", 1)
    assert await second.receive(kept) == {"event": "x", "data": 1, "meta": None}


async def test_subscriptions_beyond_the_limit_are_refused(start: Callable[..., Any], keys: dict[str, str]) -> None:
    with start("serve", MAX_CHANNELS_PER_CONNECTION="2") as server:
        async with open_v4(server, "a", keys["demo"]) as client:
            await client.subscribe("b")
            with pytest.raises(Refused, match="at most 2"):
                await client.subscribe("c")
            await client.unsubscribe("b")
            await client.subscribe("c")


async def test_v3_v4_and_pusher_have_channels_of_their_own(
    v4: OpenV4, connect: Callable[..., Any], pusher: Callable[..., Any], channel: str
) -> None:
    other, old, pushed = await v4(channel), await connect(channel), await pusher()
    await pushed.join(channel)
    await other.publish("x", 1)
    await old.send("x")
    await other.settle()
    await old.settle()
    await pushed.settle()
    assert await old.count() == 1


@pytest.mark.parametrize(
    ("path", "close"),
    [
        ("/v4/a.b?api_key={}", closes.BAD_V4_REQUEST),
        ("/v4/?api_key={}", closes.BAD_V4_REQUEST),
        ("/v4/a/b/c?api_key={}", closes.BAD_V4_REQUEST),
        ("/v4/a?api_key=unknown", closes.BAD_KEY),
        ("/v4/a", closes.BAD_KEY),
        ("/v4/private-a?api_key={}", closes.BAD_JWT),
        ("/v4/a?api_key={}&jwt=x", closes.BAD_JWT),
        ("/v4/a?api_key={}&presence=2", closes.BAD_REQUEST.saying("The option presence must be 1 or 0.")),
    ],
)
async def test_a_refused_client_gets_the_frame_and_the_code_of_v3(
    server: LiveServer, keys: dict[str, str], path: str, close: closes.Close
) -> None:
    async with open_client(
        server, path.format(keys["demo"]) + ("&" if "?" in path else "?") + "uuid=" + path
    ) as client:
        frames, code = await client.ending()
    assert ([json.loads(frame) for frame in frames], code) == ([{"error": close.sentence}], close.code)


async def test_an_origin_that_the_key_does_not_allow_is_refused(
    server: LiveServer, keys: dict[str, str], channel: str
) -> None:
    path = v4_path(channel, keys["browser"], channel)
    async with open_client(server, path, origin="https://evil.org") as client:
        assert (await client.ending())[1] == 4003
    async with open_v4(server, channel, keys["browser"], origin="https://example.com") as allowed:
        await allowed.subscribe(f"{channel}-b")
