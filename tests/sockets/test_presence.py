"""Presence, on every kind of server."""

import asyncio
import json
from typing import Any

from tests.clients import Client
from tests.conftest import Connect
from tests.servers import LiveServer


async def next_event(client: Client) -> dict[str, Any]:
    return dict(json.loads(await client.receive()))


def uuids(event: dict[str, Any]) -> list[str]:
    """Return the uuids in an event's list."""
    return [member["uuid"] for member in event["data"]["members"]]


async def members(client: Client) -> list[str]:
    """Return the uuids in the next event's list."""
    return uuids(await next_event(client))


async def test_the_frames_match_the_contract_byte_for_byte(connect: Connect, channel: str) -> None:
    ann = await connect(channel, "presence=1", "uuid=a", "user=Ann")
    assert await ann.receive() == '{"event":"system:member_list","data":{"members":[{"uuid":"a","user":"Ann"}]}}'
    bob = await connect(channel, "presence", "uuid=b")
    both = '[{"uuid":"a","user":"Ann"},{"uuid":"b","user":"anonymous"}]'
    assert await bob.receive() == '{"event":"system:member_list","data":{"members":' + both + "}}"
    joined = '{"event":"system:member_joined","data":{"member":{"uuid":"b","user":"anonymous"},"members":' + both + "}}"
    assert await ann.receive() == joined
    await bob.socket.close()
    assert await ann.receive() == (
        '{"event":"system:member_left","data":{"member":{"uuid":"b","user":"anonymous"},'
        '"members":[{"uuid":"a","user":"Ann"}]}}'
    )


async def test_with_notify_self_a_new_member_gets_its_own_join_after_the_list(connect: Connect, channel: str) -> None:
    client = await connect(channel, "presence", "notify_self", "uuid=a")
    assert [(await next_event(client))["event"] for _ in "ab"] == ["system:member_list", "system:member_joined"]


async def test_presence_is_always_on_in_channels_whose_id_begins_with_presence(connect: Connect, channel: str) -> None:
    client = await connect(f"presence-{channel}", "presence=0", "uuid=a")
    assert await members(client) == ["a"]


async def test_a_client_without_presence_gets_no_events_and_is_not_listed(connect: Connect, channel: str) -> None:
    quiet = await connect(channel, "presence=0")
    loud = await connect(channel, "presence", "uuid=a")
    assert await members(loud) == ["a"]
    await quiet.settle()
    assert await loud.count() == 2


async def test_messages_reach_clients_with_and_without_presence(connect: Connect, channel: str) -> None:
    quiet, loud = await connect(channel), await connect(channel, "presence", "uuid=a")
    await members(loud)
    await quiet.send("x")
    assert await loud.receive() == "x"
    await loud.send("y")
    assert await quiet.receive() == "y"


async def test_a_member_that_loses_its_connection_leaves(connect: Connect, channel: str) -> None:
    ann = await connect(channel, "presence", "uuid=a")
    assert await members(ann) == ["a"]
    bob = await connect(channel, "presence", "uuid=b")
    assert await members(ann) == ["a", "b"]
    bob.socket.transport.abort()
    assert await members(ann) == ["a"]


async def test_one_user_with_two_uuids_is_two_members(connect: Connect, channel: str) -> None:
    ann = await connect(channel, "presence", "uuid=a", "user=Ann")
    both = [{"uuid": "a", "user": "Ann"}, {"uuid": "b", "user": "Ann"}]
    assert (await next_event(ann))["data"]["members"] == both[:1]
    too = await connect(channel, "presence", "uuid=b", "user=Ann")
    assert (await next_event(ann))["data"]["members"] == both
    assert (await next_event(too))["data"]["members"] == both
    await too.socket.close()
    assert (await next_event(ann))["data"] == {"member": both[1], "members": both[:1]}


async def test_a_newer_connection_with_the_same_uuid_replaces_the_older_one(connect: Connect, channel: str) -> None:
    watcher = await connect(channel, "presence", "uuid=w")
    assert await members(watcher) == ["w"]
    old = await connect(channel, "presence", "uuid=x")
    assert await members(watcher) == ["w", "x"]
    new = await connect(channel, "presence", "uuid=x")
    assert await members(watcher) == ["w", "x"]
    assert await members(new) == ["w", "x"]
    await old.socket.close()
    await asyncio.sleep(0.2)  # nobody may get an event because it left
    await watcher.settle()
    await new.socket.close()
    assert await members(watcher) == ["w"]


async def test_the_same_channel_in_other_clusters_and_namespaces_has_its_own_members(
    connect: Connect, channel: str
) -> None:
    await connect(channel, "presence", "uuid=a")
    assert await members(await connect(channel, "presence", "uuid=b", key="other")) == ["b"]
    assert await members(await connect(f"1/{channel}", "presence", "uuid=c")) == ["c"]


async def test_a_refused_client_does_not_join(connect: Connect, channel: str) -> None:
    watcher = await connect(channel, "presence", "uuid=w")
    await members(watcher)
    assert (await (await connect(channel, "presence", key="unknown")).ending())[1] == 4001
    await watcher.settle()


async def test_a_hundred_simultaneous_joins_and_leaves_are_each_announced_in_order(
    connect: Connect, channel: str
) -> None:
    watcher = await connect(channel, "presence", "uuid=w")
    await members(watcher)
    crowd = await asyncio.gather(*(connect(channel, "presence", f"uuid=m{number}") for number in range(100)))
    joined = [await next_event(watcher) for _ in crowd]
    order = uuids(joined[-1])
    known = {"w"}
    for join in joined:
        known.add(join["data"]["member"]["uuid"])
        assert uuids(join) == [uuid for uuid in order if uuid in known]
    assert len(known) == 101
    for client in crowd:
        listed = uuids(await next_event(client))
        assert listed == [uuid for uuid in order if uuid in listed]
    for client in crowd:
        client.socket.transport.abort()
    for _ in crowd:
        left = await next_event(watcher)
        known.remove(left["data"]["member"]["uuid"])
        assert uuids(left) == [uuid for uuid in order if uuid in known]
    assert known == {"w"}


async def test_a_server_can_ask_for_the_members_of_a_channel(
    server: LiveServer, connect: Connect, channel: str, keys: dict[str, str], secrets: dict[str, str]
) -> None:
    ada = await connect(channel, "presence", "uuid=a", "user=Ada")
    await ada.receive()
    grace = await connect(channel, "presence", "uuid=g", "user=Grace")
    await grace.receive()
    await connect(channel, "uuid=b", "user=Bob")
    credentials = {"key": keys["demo"], "secret": secrets["demo"]}
    async with server.http_client() as http:
        answer = await http.post("/api/members", json={**credentials, "channelId": channel})
        members = [{"uuid": "a", "user": "Ada"}, {"uuid": "g", "user": "Grace"}]
        assert (answer.status_code, answer.json()) == (200, {"members": members, "count": 2})
        answer = await http.post("/api/members", json={"channelId": "nobody"}, headers=credentials)
        assert (answer.status_code, answer.text) == (200, '{"members":[],"count":0}')
        answer = await http.post("/api/members", json=credentials)
        assert (answer.status_code, answer.json()) == (400, {"error": "Send the channelId."})
        wrong = {**credentials, "secret": "wrong", "channelId": channel}
        assert (await http.post("/api/members", json=wrong)).status_code == 401
