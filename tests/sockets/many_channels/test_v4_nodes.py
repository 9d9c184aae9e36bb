"""PieSocket v4 on one node and on two: messages, presence, counts, changes of access, quotas and restarts."""

import asyncio
import json
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import httpx
import pytest

from realtime.protocols.tokens import sign
from tests.clients import open_client, until
from tests.servers import LiveServer
from tests.sockets.v4 import Refused, V4Client, open_v4, v4_path

OpenOn = Callable[..., Awaitable[V4Client]]


@pytest.fixture
async def at(places: list[LiveServer], keys: dict[str, str]) -> AsyncIterator[OpenOn]:
    async with AsyncExitStack() as stack:

        async def connect(place: int, primary: str, **options: Any) -> V4Client:
            return await stack.enter_async_context(open_v4(places[place], primary, keys["demo"], **options))

        yield connect


async def test_messages_and_presence_cross_nodes(at: OpenOn, channel: str) -> None:
    (ann, bob), other = [await at(place, channel, member=name) for place, name in enumerate("ab")], f"{channel}-b"
    await ann.subscribe(other, presence=True)
    await ann.receive(other)
    await bob.subscribe(other, presence=True)
    assert [each["uuid"] for each in (await bob.receive(other))["data"]["members"]] == ["a", "b"]
    assert (await ann.receive(other))["event"] == "system::member_joined"
    await bob.publish("x", 1, channel=other)
    await bob.send_bytes(b"y", channel)
    assert (await ann.receive(other))["data"] == 1
    assert await ann.receive() == b"y"
    await ann.ask_members(other)
    assert (await ann.receive(other))["data"]["count"] == 2
    await bob.client.socket.close()
    assert (await ann.receive(other))["event"] == "system::member_left"


async def test_the_connections_of_a_user_on_two_nodes_are_one_member(
    at: OpenOn, channel: str, secrets: dict[str, str]
) -> None:
    jwt = sign(secrets["demo"], channel, 60, "Ann")
    watcher = await at(1, channel, member="w", presence=1)
    await watcher.receive()
    tabs = []
    for place, name in enumerate("ab"):
        tabs.append(await at(place, channel, member=name, presence=1, jwt=jwt))
        await tabs[-1].receive()
        assert [each["user"] for each in tabs[-1].members[channel]] == ["anonymous", "Ann"]
    for tab in tabs:
        await tab.client.socket.close()
    await until(lambda: [each["uuid"] for each in watcher.members[channel]] == ["w"])


async def test_a_published_message_reaches_subscribers_on_all_nodes(
    at: OpenOn, places: list[LiveServer], keys: dict[str, str], secrets: dict[str, str], channel: str
) -> None:
    clients, other = [await at(place, channel) for place in (0, 1)], f"{channel}-b"
    for client in clients:
        await client.subscribe(other, presence=True)
        await client.receive(other)
    await clients[0].receive(other)
    credentials = {"key": keys["demo"], "secret": secrets["demo"]}
    async with httpx.AsyncClient(base_url=places[0].url("", scheme="http"), trust_env=False) as http:
        body = {"channelId": other, "message": {"event": "x"}}
        assert (await http.post("/api/v4/publish", json=body, headers=credentials)).json() == {"success": True}
        members = await http.post("/api/v4/members", json={"channelId": other}, headers=credentials)
        assert members.json()["count"] == 2
    for client in clients:
        assert await client.receive(other) == {"event": "x"}


async def test_connections_are_counted_on_all_nodes(at: OpenOn, channel: str) -> None:
    clients, other = [await at(place, channel) for place in (0, 1)], f"{channel}-b"
    await clients[0].subscribe(other)
    counter = await at(1, other)
    for client, count in ((clients[0], 2), (counter, 2)):
        async with asyncio.timeout(10):
            while True:
                await client.client.send("cmd_status")
                if (await client.receive())["system"]["connection_count"] == count:
                    break


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ("services.revoke_key(key)", 4001),
        ("services.suspend_account(key.cluster.account)", 4003),
        ("services.rotate_secret(key)", 4009),
        ("services.update_key(key, protects_channels=True)", 4009),
    ],
)
async def test_a_change_of_access_ends_the_connections_that_it_concerns(
    own_server: LiveServer, keys: dict[str, str], secrets: dict[str, str], channel: str, change: str, code: int
) -> None:
    async with open_v4(own_server, channel, keys["demo"]) as client:
        private = f"private-{channel}"
        await client.subscribe(private, jwt=sign(secrets["demo"], private, 3600))
        own_server.shell(
            "from accounts import services; from accounts.models import ApiKey\n"
            f"key = ApiKey.objects.get(public_key='{keys['demo']}')\n{change}",
        )
        async with asyncio.timeout(40):
            await client.listening
        assert client.client.socket.close_code == code
        assert list(client.frames[-1]) == ["error"]


async def test_a_restart_ends_connections_without_an_error(
    start: Callable[..., LiveServer], keys: dict[str, str], channel: str
) -> None:
    with start("serve", DRAIN_SECONDS="0") as server:
        async with open_v4(server, channel, keys["demo"]) as client:
            await client.subscribe(f"{channel}-b")
            server.process.send_signal(signal.SIGTERM)
            await client.listening
            assert client.client.socket.close_code == 1012
            assert "error" not in client.frames[-1]


async def test_quotas_hold_for_connections_and_for_messages(
    start: Callable[..., LiveServer], keys: dict[str, str], channel: str
) -> None:
    with start("serve", QUOTA_CONNECTIONS="1", QUOTA_MESSAGES_PER_DAY="1") as server:
        async with open_v4(server, channel, keys["demo"]) as client:
            other = f"{channel}-b"
            await client.subscribe(other)
            await client.publish("x", 1, channel=other)
            await client.publish("x", 2, channel=other)
            assert "quota" in (await client.receive())["system"]["error"]
            async with open_client(server, v4_path(channel, keys["demo"], "b")) as second:
                frames, code = await second.ending()
            assert (list(json.loads(frames[0])), code) == (["error"], 4004)


async def test_an_old_jwt_is_told_of_when_the_library_repeats_the_subscription(
    at: OpenOn, channel: str, secrets: dict[str, str]
) -> None:
    client, private = await at(0, channel), f"private-{channel}"
    with pytest.raises(Refused):
        await client.subscribe(private, jwt=sign(secrets["demo"], private, -60))
    event = await client.receive()
    assert (event["event"], event["data"]["channel"]) == ("subscription-error", private)
