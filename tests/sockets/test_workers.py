"""Several workers on one port, with a real Redis between them."""

import asyncio
import os
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from realtime.protocols import closes
from tests.clients import Client, Member, channel_path, open_client, until
from tests.servers import LiveServer, Redis
from tests.sockets.test_refusals import error
from tests.sockets.workers import SPREAD, WORKERS, pids_with_connections, until_replaced, worker_pids


@pytest.fixture(scope="module")
def server(start: Callable[..., LiveServer], redis: Redis) -> Iterator[LiveServer]:
    with start("serve", "--workers", str(WORKERS), REDIS_URL=redis.url) as server:
        yield server


async def test_connections_are_counted_across_all_workers(
    server: LiveServer, clients: list[Client], keys: dict[str, str], secrets: dict[str, str], channel: str
) -> None:
    assert len(pids_with_connections(server)) == 2
    assert [await client.count() for client in clients] == [SPREAD] * SPREAD
    for client in clients[:10]:
        client.socket.transport.abort()
    await until_count(clients[-1], SPREAD - 10)
    headers = {"key": keys["demo"], "secret": secrets["demo"]}
    async with httpx.AsyncClient(base_url=server.url("", scheme="http"), trust_env=False, headers=headers) as http:
        assert (await http.get("/api/connections/sum")).json() == {"connections": SPREAD - 10}
        listed = (await http.get("/api/connections")).json()
        assert listed == {"channels": [{"channel": channel, "connections": SPREAD - 10}]}


@pytest.fixture
async def join(server: LiveServer, keys: dict[str, str], channel: str) -> AsyncIterator[Callable[[str], Any]]:
    """A function that joins the channel's presence with a uuid, on any worker."""
    async with AsyncExitStack() as stack:

        async def join_as(uuid: str) -> Member:
            path = channel_path(channel, keys["demo"], "presence", f"uuid={uuid}")
            return Member(await stack.enter_async_context(open_client(server, path)), uuid)

        yield join_as


async def test_members_on_all_workers_share_one_list_in_one_order(
    server: LiveServer, join: Callable[[str], Any]
) -> None:
    members: list[Member] = []
    for number in range(SPREAD):
        members.append(await join(f"m{number}"))
        await until(lambda: bool(members[-1].events))
    assert len(pids_with_connections(server)) == 2
    everybody = [member.uuid for member in members]
    await until(lambda: all(member.members == everybody for member in members))
    for number, member in enumerate(members):
        first, *rest = member.events
        assert first["event"] == "system:member_list"
        assert [m["uuid"] for m in first["data"]["members"]] == everybody[: number + 1]
        assert [event["data"]["member"]["uuid"] for event in rest] == everybody[number + 1 :]
    for member in members[::3]:
        member.client.socket.transport.abort()
    rest = [member for number, member in enumerate(members) if number % 3]
    await until(lambda: all(member.members == [one.uuid for one in rest] for member in rest))


async def test_members_that_join_on_all_workers_simultaneously_get_the_same_list(
    server: LiveServer, join: Callable[[str], Any]
) -> None:
    first = await join("first")
    await until(lambda: bool(first.events))
    crowd = await asyncio.gather(*(join(f"m{number}") for number in range(100)))
    await until(lambda: all(len(member.members) == 101 for member in (first, *crowd)))
    assert all(member.members == first.members for member in crowd)
    assert len({event["data"]["member"]["uuid"] for event in first.events[1:]}) == 100
    for member in crowd:
        assert member.events[0]["event"] == "system:member_list"
        known = {m["uuid"] for m in member.events[0]["data"]["members"]}
        assert member.uuid in known
        assert not known & {event["data"]["member"]["uuid"] for event in member.events[1:]}


async def test_a_uuid_in_use_on_several_workers_is_one_member(server: LiveServer, join: Callable[[str], Any]) -> None:
    watcher = await join("w")
    again = [await join("x") for _ in range(10)]
    await until(lambda: all(member.members == ["w", "x"] for member in (watcher, *again)))
    for member in again[1:]:
        member.client.socket.transport.abort()
    await asyncio.sleep(0.5)
    assert watcher.members == ["w", "x"]
    again[0].client.socket.transport.abort()
    await until(lambda: watcher.members == ["w"])


async def test_the_members_of_a_worker_that_dies_leave_within_30_seconds(
    server: LiveServer, join: Callable[[str], Any]
) -> None:
    members = [await join(f"m{number}") for number in range(SPREAD)]
    await until(lambda: all(len(member.members) == SPREAD for member in members))
    assert len(pids_with_connections(server)) == 2
    victim = min(pids_with_connections(server))
    os.kill(int(victim), signal.SIGKILL)
    await until(lambda: any(member.listening.done() for member in members))
    await asyncio.sleep(0.5)
    left = [member for member in members if not member.listening.done()]
    assert 0 < len(left) < SPREAD
    await until(lambda: all(member.members == [one.uuid for one in left] for member in left), 30)
    again = await join("again")
    await until(lambda: all(member.members == [*(one.uuid for one in left), "again"] for member in (*left, again)))


async def until_count(client: Client, expected: int) -> None:
    async with asyncio.timeout(10):
        while await client.count() != expected:  # noqa: ASYNC110
            await asyncio.sleep(0.05)


async def test_the_connection_quota_applies_across_all_workers(server: LiveServer, channel: str) -> None:
    key = server.shell(NARROW_KEY).strip()
    path = channel_path(channel, key)
    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(open_client(server, path)) for _ in range(4)]
        await clients[0].settle()
        await asyncio.sleep(1.5)  # time for every worker to learn of the connections
        for _ in range(6):
            async with open_client(server, path) as refused:
                assert (await refused.ending())[1] == 4004


NARROW_KEY = """
from accounts import services
from accounts.models import Cluster
print(services.issue_key(Cluster.objects.get(cluster_id="demo"), "narrow", max_connections=4).key.public_key)
"""


async def test_messages_reach_other_workers_once_and_in_order(server: LiveServer, clients: list[Client]) -> None:
    assert len(pids_with_connections(server)) == 2
    sender, *others = clients
    messages: list[str | bytes] = [*(str(number) for number in range(500)), b"\x00\xff", "", b"", "😀"]
    for message in messages:
        await sender.send(message)
    for other in others:
        assert [await other.receive() for _ in messages] == messages
    await asyncio.sleep(0.2)
    for client in clients:
        await client.settle()


async def test_revoking_a_key_closes_its_connections_on_every_worker(
    server: LiveServer, keys: dict[str, str], channel: str
) -> None:
    async with AsyncExitStack() as stack:
        path = channel_path(channel, keys["second"])
        clients = [await stack.enter_async_context(open_client(server, path)) for _ in range(SPREAD)]
        async with httpx.AsyncClient(base_url=server.url("/api/v1/", scheme="http"), trust_env=False) as owner:
            answer = await owner.post("token/", json={"email": "owner@example.com", "password": "owner-password"})
            owner.headers["Authorization"] = f"Token {answer.json()['token']}"
            await owner.delete(f"keys/{keys['second']}/")
        begun = time.monotonic()
        for client in clients:
            assert await client.ending() == ([error(closes.KEY_REVOKED)], 4001)
        assert time.monotonic() - begun < 5  # without an announcement, up to 30


async def test_suspending_an_account_in_another_process_closes_its_connections(
    server: LiveServer, keys: dict[str, str], channel: str
) -> None:
    async with open_client(server, channel_path(channel, keys["other"])) as client:
        await client.settle()
        server.shell(SUSPEND)
        assert await client.ending() == ([error(closes.ACCOUNT_SUSPENDED)], 4003)


SUSPEND = """
from accounts import services
from accounts.models import Account
services.suspend_account(Account.objects.get(name="Other"))
"""


async def test_an_idle_bus_still_carries_messages_after_a_while(clients: list[Client]) -> None:
    """The bus must survive being idle for longer than the read timeout that redis-py gives its sockets."""
    await asyncio.sleep(12)
    await clients[0].send("still here")
    for client in clients[1:]:
        assert await client.receive() == "still here"


async def test_a_worker_that_dies_is_replaced(server: LiveServer, keys: dict[str, str], channel: str) -> None:
    victim = min(worker_pids(server))
    subprocess.run(["kill", "-KILL", str(victim)], check=True)
    await until_replaced(server, victim, 20)
    async with AsyncExitStack() as stack:
        path = channel_path(channel, keys["demo"])
        clients = [await stack.enter_async_context(open_client(server, path)) for _ in range(SPREAD)]
        await clients[0].send("a")
        for client in clients[1:]:
            assert await client.receive() == "a"


async def test_stopping_closes_the_connections_on_all_workers_with_1012(
    server: LiveServer, keys: dict[str, str], channel: str, tmp_path: Path
) -> None:
    async with AsyncExitStack() as stack:
        path = channel_path(channel, keys["demo"])
        clients = [await stack.enter_async_context(open_client(server, path)) for _ in range(SPREAD)]
        server.process.send_signal(signal.SIGTERM)
        for client in clients:
            assert await client.ending() == ([], 1012)
    assert server.process.wait(20) == 0
