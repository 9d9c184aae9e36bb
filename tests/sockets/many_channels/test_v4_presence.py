"""PieSocket v4: who is in a channel, and what the others learn."""

from collections.abc import Awaitable, Callable
from typing import Any

from realtime.protocols.tokens import sign
from tests.clients import until
from tests.sockets.v4 import V4Client

OpenV4 = Callable[..., Awaitable[V4Client]]


def member(uuid: str, user: Any = "anonymous") -> dict[str, Any]:
    return {"uuid": uuid, "user": user}


async def test_the_list_comes_after_the_success_and_includes_oneself(v4: OpenV4, channel: str) -> None:
    client, other = await v4(channel, member="a", user="Ann"), f"{channel}-b"
    await client.subscribe(other, presence=True, user="Ann")
    assert await client.receive(other) == {
        "event": "system::member_list",
        "data": {"channel": other, "members": [member("a", "Ann")], "count": 1},
    }
    assert [frame["event"] for frame in client.frames] == ["system::subscribe_success", "system::member_list"]
    await client.settle()


async def test_the_channel_in_the_url_has_presence_by_its_option_or_its_name(v4: OpenV4, channel: str) -> None:
    for name, presence in ((channel, 1), (f"presence-{channel}", 0)):
        client = await v4(name, member="a", presence=presence)
        assert (await client.receive())["data"] == {"channel": name, "members": [member("a")], "count": 1}


async def test_a_further_channel_has_presence_by_its_name(v4: OpenV4, channel: str) -> None:
    client, other = await v4(channel, member="a"), f"presence-{channel}"
    await client.subscribe(other)
    assert (await client.receive(other))["data"]["members"] == [member("a")]


async def test_others_learn_of_joins_and_leaves_as_changes(v4: OpenV4, channel: str) -> None:
    (first, second), other = [await v4(channel, member=name) for name in "ab"], f"{channel}-b"
    await first.subscribe(other, presence=True)
    await first.receive(other)
    await second.subscribe(other, presence=True, user={"name": "Bob"})
    bob = member("b", {"name": "Bob"})
    data = {"channel": other, "member": bob, "count": 2}
    assert await first.receive(other) == {"event": "system::member_joined", "data": data}
    assert first.members[other] == [member("a"), bob]
    await second.unsubscribe(other)
    data = {"channel": other, "member": bob, "count": 1}
    assert await first.receive(other) == {"event": "system::member_left", "data": data}
    await second.subscribe(other, presence=True)
    await first.receive(other)
    await second.client.socket.close()
    assert (await first.receive(other))["event"] == "system::member_left"
    assert first.members[other] == [member("a")]


async def test_with_notify_self_the_joiner_gets_the_event_of_its_own_joining(v4: OpenV4, channel: str) -> None:
    client = await v4(channel, member="a", presence=1, notify_self=1)
    assert (await client.receive())["event"] == "system::member_list"
    assert (await client.receive())["data"] == {"channel": channel, "member": member("a"), "count": 1}
    assert client.members[channel] == [member("a")]


async def test_a_client_asks_for_the_members_of_its_channels(v4: OpenV4, channel: str) -> None:
    client, visitor = await v4(channel, member="a", presence=1), await v4(channel)
    await client.receive()
    await visitor.ask_members(channel)
    expected = {"channel": channel, "members": [member("a")], "count": 1}
    assert await visitor.receive() == {"event": "system::member_list", "data": expected}
    await visitor.ask_members("elsewhere")
    answer = await visitor.receive()
    assert answer["event"] == "system::member_list_error"
    assert answer["data"] == {"channel": "elsewhere", "error": "The connection is not subscribed to this channel."}


async def test_a_repeated_subscription_with_presence_gets_the_list_again(v4: OpenV4, channel: str) -> None:
    client, other = await v4(channel, member="a"), f"{channel}-b"
    for _ in range(2):
        await client.subscribe(other, presence=True)
        assert (await client.receive(other))["data"]["members"] == [member("a")]


async def test_a_client_that_reconnects_with_its_uuid_remains_the_same_member(v4: OpenV4, channel: str) -> None:
    watcher, first = await v4(channel, member="w", presence=1), await v4(channel, member="a", presence=1)
    await until(lambda: len(watcher.frames) == 2)
    second = await v4(channel, member="a", presence=1)
    await second.receive()
    assert second.members[channel] == [member("w"), member("a")]
    await first.client.socket.close()
    await second.ask_members(channel)
    await second.receive()
    assert second.members[channel] == [member("w"), member("a")]
    assert len(watcher.frames) == 2


async def test_the_connections_of_a_user_in_a_jwt_are_one_member(
    v4: OpenV4, channel: str, secrets: dict[str, str]
) -> None:
    jwt = sign(secrets["demo"], channel, 60, "Ann")
    watcher = await v4(channel, member="w", presence=1)
    await watcher.receive()
    first = await v4(channel, member="a", presence=1, jwt=jwt, user="ignored")
    assert (await watcher.receive())["data"]["member"] == member("a", "Ann")
    second = await v4(channel, member="b", presence=1, jwt=jwt)
    assert (await second.receive())["data"]["count"] == 2
    # The member is listed with the uuid of its oldest connection. When that ends, the next one takes its place.
    await first.client.socket.close()
    assert (await watcher.receive())["event"] == "system::member_left"
    assert (await watcher.receive())["data"] == {"channel": channel, "member": member("b", "Ann"), "count": 2}
    await second.ask_members(channel)
    await until(lambda: second.members[channel] == watcher.members[channel] == [member("w"), member("b", "Ann")])
    await second.client.socket.close()
    assert (await watcher.receive())["data"] == {"channel": channel, "member": member("b", "Ann"), "count": 1}


async def test_nobody_becomes_the_member_of_a_jwt_by_inventing_a_uuid(
    v4: OpenV4, channel: str, secrets: dict[str, str]
) -> None:
    impostor = await v4(channel, member="user:Ann", presence=1)
    await impostor.receive()
    await v4(channel, member="a", presence=1, jwt=sign(secrets["demo"], channel, 60, "Ann"))
    await impostor.receive()
    assert impostor.members[channel] == [member("user:Ann"), member("a", "Ann")]
