"""Three nodes during and after failures of Redis, of PostgreSQL, of the network and of a node."""

import asyncio
import contextlib
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack

import httpx
import pytest
from websockets.exceptions import ConnectionClosed

from realtime.cluster.publisher import MAX_WAITING_BYTES
from realtime.cluster.redis_connection_counts import LEASE_SECONDS
from realtime.protocols import closes
from tests.clients import Client, Member, channel_path, open_client, until
from tests.faults import Link
from tests.nodes.service import NODES, Service
from tests.servers import Postgres, Redis
from tests.sockets.test_refusals import error

# How long it may take until everything is exact again, in seconds.
RECOVERY_SECONDS = 10
# How long a node may take to notice a failure and to stop making clients wait for it, in seconds.
NOTICE_SECONDS = 5.0
OUTAGE_SECONDS = 8
CUT_SECONDS = 60
# How long two clients of one node may receive nothing from each other, in seconds.
GAP_SECONDS = 4.0
LARGE_MESSAGE = "x" * 1024 * 1000

Fault = Callable[[Service], Awaitable[None]]


class Conversation:
    """Two clients of one node: one sends continuously, and the other must receive everything in order."""

    def __init__(self, sender: Client, receiver: Client) -> None:
        self._sender, self._receiver = sender, receiver
        self._sent = 0
        self._received: list[str | bytes] = []
        self._last = time.monotonic()
        self.longest_gap = 0.0
        self._tasks = [asyncio.create_task(self._send()), asyncio.create_task(self._receive())]

    def cancel(self) -> None:
        for task in self._tasks:
            task.cancel()

    async def _send(self) -> None:
        while True:
            await self._sender.send(str(self._sent))
            self._sent += 1
            await asyncio.sleep(0.02)

    async def _receive(self) -> None:
        while True:
            self._received.append(await self._receiver.socket.recv())
            now = time.monotonic()
            self.longest_gap, self._last = max(self.longest_gap, now - self._last), now

    async def end(self) -> int:
        """Stop sending, check that all messages arrive, and return how many were sent."""
        self._tasks[0].cancel()
        await until(lambda: len(self._received) >= self._sent)
        assert self._received == [str(number) for number in range(self._sent)]
        return self._sent


class Traffic:
    """Clients on each node: a conversation, one that asks for counts, one in a shared channel, and one in presence."""

    EACH = 5

    def __init__(self, service: Service, channel: str, stack: AsyncExitStack) -> None:
        self._service, self.cluster_id, self._stack = service, channel, stack
        self.key, self.secret = service.issue_key(self.cluster_id)
        self.conversations: list[Conversation] = []
        self.observers: list[Client] = []
        self.broadcasters: list[Client] = []
        self.received: list[list[str | bytes]] = []
        self.members: list[Member] = []
        self._receiving: list[asyncio.Task[None]] = []
        self.sent = self._rounds = 0

    async def connect(self, number: int, channel: str, *flags: str, key: str = "") -> Client:
        """Connect to a channel of this test's cluster on a node."""
        path = channel_path(channel, key or self.key, *flags)
        return await self._stack.enter_async_context(open_client(self._service.nodes[number], path))

    async def join(self, number: int, channel: str, uuid: str) -> Member:
        return Member(await self.connect(number, channel, "presence", f"uuid={uuid}"), uuid)

    async def start(self) -> None:
        for number in NODES:
            self.conversations.append(
                Conversation(*[await self.connect(number, f"conversation{number}") for _ in range(2)])
            )
            self.observers.append(await self.connect(number, "count"))
            self.broadcasters.append(await self.connect(number, "all"))
            self.received.append([])
            self._receiving.append(asyncio.create_task(self._receive(self.broadcasters[-1], self.received[-1])))
            self.members.append(member := await self.join(number, "people", f"m{number}"))
            await until(lambda member=member: bool(member.events))  # type: ignore[misc]
        await self.wait_until_exact()

    async def _receive(self, client: Client, received: list[str | bytes]) -> None:
        with contextlib.suppress(ConnectionClosed):
            while True:
                received.append(await client.socket.recv())

    async def check_new_clients(self, numbers: Sequence[int]) -> None:
        """Check that each node accepts new clients with cached keys, and that these receive each other's messages."""
        for number in numbers:
            async with asyncio.timeout(GAP_SECONDS):
                first, second = [await self.connect(number, f"new{number}") for _ in range(2)]
                await first.send("hello")
                self.sent += 1
                assert await second.receive() == "hello"
                await first.settle()
            visitor = await self.join(number, f"guests{number}", "visitor")
            await until(lambda visitor=visitor: visitor.members == ["visitor"])  # type: ignore[misc]
            for client in (first, second, visitor.client):
                await client.socket.close()

    async def wait_until_exact(self, numbers: Sequence[int] = NODES, within: float = RECOVERY_SECONDS) -> float:
        """Wait until the nodes agree and receive each other's messages, and return how many seconds that took."""
        begun = time.monotonic()
        expected = (len(numbers), Traffic.EACH * len(numbers), [f"m{number}" for number in numbers])
        while (states := [await self._state_of(number) for number in numbers]) != [expected] * len(numbers):
            assert time.monotonic() < begun + within, (states, expected)
            await asyncio.sleep(0.05)
        await self._wait_until_all_receive(numbers, begun + within)
        return time.monotonic() - begun

    async def _wait_until_all_receive(self, numbers: Sequence[int], deadline: float) -> None:
        self._rounds += 1
        while True:
            messages = {number: f"round {self._rounds} from {number}" for number in numbers}
            for number in numbers:
                await self.broadcasters[number].send(messages[number])
                self.sent += 1
            await asyncio.sleep(0.2)
            if all({*messages.values()} <= {*self.received[number], messages[number]} for number in numbers):
                return
            assert time.monotonic() < deadline, "Some nodes do not receive messages of the others."

    async def _state_of(self, number: int) -> tuple[int, int, list[str]]:
        """Return the connections to a channel and to the cluster that a node counts, and the members that it lists."""
        headers = {"key": self.key, "secret": self.secret}
        async with httpx.AsyncClient(trust_env=False, headers=headers) as http:
            answer = await http.get(self._service.nodes[number].url("/api/connections/sum", scheme="http"))
        return await self.observers[number].count(), answer.json()["connections"], self.members[number].members

    def cancel(self) -> None:
        for conversation in self.conversations:
            conversation.cancel()
        for task in self._receiving:
            task.cancel()

    async def end(self) -> None:
        """Stop sending, and add up the messages that were sent."""
        for conversation in self.conversations:
            self.sent += await conversation.end()


@pytest.fixture
async def traffic(service: Service, channel: str) -> AsyncIterator[Traffic]:
    async with AsyncExitStack() as stack:
        traffic = Traffic(service, channel, stack)
        await traffic.start()
        yield traffic
        traffic.cancel()


async def redis_is_stopped(service: Service) -> None:
    await _stop_for_a_while(service.redis)


async def redis_is_cut_off(service: Service) -> None:
    await _cut_for(service.to_redis, CUT_SECONDS)


async def one_node_is_cut_off_from_redis(service: Service) -> None:
    await _cut_for(service.to_redis[:1], LEASE_SECONDS + 5)


async def redis_connections_die_silently(service: Service) -> None:
    for link in service.to_redis:
        link.mute()
    await asyncio.sleep(OUTAGE_SECONDS)


async def postgresql_is_stopped(service: Service) -> None:
    await _stop_for_a_while(service.postgres)


async def postgresql_is_cut_off(service: Service) -> None:
    await _cut_for(service.to_postgres, CUT_SECONDS)


async def _stop_for_a_while(store: Redis | Postgres) -> None:
    store.stop()
    try:
        await asyncio.sleep(OUTAGE_SECONDS)
    finally:
        store.start()


async def _cut_for(links: list[Link], seconds: float) -> None:
    for link in links:
        link.cut()
    try:
        await asyncio.sleep(seconds)
    finally:
        for link in links:
            link.restore()


REDIS_FAULTS = [
    redis_is_stopped,
    redis_is_cut_off,
    one_node_is_cut_off_from_redis,
    redis_connections_die_silently,
]


@pytest.mark.parametrize("fault", [*REDIS_FAULTS, postgresql_is_stopped, postgresql_is_cut_off])
async def test_clients_of_one_node_are_not_affected_and_everything_is_exact_afterwards(
    service: Service, traffic: Traffic, fault: Fault
) -> None:
    logged = [len(node.log) for node in service.nodes]
    failure = asyncio.create_task(fault(service))
    await asyncio.sleep(NOTICE_SECONDS)
    await traffic.check_new_clients(NODES)
    await asyncio.sleep(1)
    await traffic.check_new_clients(NODES)
    await failure
    print(f"exact again after {await traffic.wait_until_exact():.1f} s")
    await traffic.end()
    assert max(conversation.longest_gap for conversation in traffic.conversations) < GAP_SECONDS
    for node, start in zip(service.nodes, logged, strict=True):
        lines = node.log[start:].splitlines()
        assert len(lines) <= 8, lines
        assert len(lines) == len({line.partition(" realtime")[2] for line in lines}), lines
    deadline = time.monotonic() + RECOVERY_SECONDS
    while (found := service.recorded(traffic.cluster_id)) != traffic.sent:
        assert time.monotonic() < deadline, (found, traffic.sent)


@pytest.mark.parametrize("fault", [redis_is_stopped, one_node_is_cut_off_from_redis])
async def test_a_key_that_is_revoked_during_a_failure_is_rejected_afterwards(
    service: Service, traffic: Traffic, fault: Fault
) -> None:
    key, _ = service.issue_key(traffic.cluster_id)
    client = await traffic.connect(0, "revoked", key=key)
    await client.settle()
    failure = asyncio.create_task(fault(service))
    await asyncio.sleep(2)
    await asyncio.to_thread(service.revoke, key)
    await failure
    assert await client.ending() == ([error(closes.KEY_REVOKED)], 4001)
    rejected = await traffic.connect(0, "revoked", key=key)
    assert (await rejected.ending())[1] == 4001


async def test_messages_that_are_sent_while_redis_is_down_arrive_when_it_is_back(
    service: Service, traffic: Traffic
) -> None:
    failure = asyncio.create_task(redis_is_stopped(service))
    await asyncio.sleep(1)
    messages = [f"meanwhile {number}" for number in range(500)]
    for message in messages:
        await traffic.broadcasters[0].send(message)
    await failure
    for number in NODES[1:]:
        await until(lambda received=traffic.received[number]: received[-500:] == messages)  # type: ignore[misc]


async def test_memory_stays_bounded_while_messages_cannot_reach_other_nodes(service: Service, traffic: Traffic) -> None:
    node, sender = service.nodes[0], await traffic.connect(0, "large")
    before = node.memory_kib()
    failure = asyncio.create_task(redis_is_stopped(service))
    await asyncio.sleep(2)
    for _ in range(200):
        await sender.send(LARGE_MESSAGE)
        await sender.settle()
    growth = (node.memory_kib() - before) * 1024
    print(f"sent {200 * len(LARGE_MESSAGE) / 2**20:.0f} MiB; memory grew by {growth / 2**20:.0f} MiB")
    assert growth < 1.5 * MAX_WAITING_BYTES
    await failure
    assert node.log.count("the oldest messages to them are dropped") == 1
    await sender.socket.close()
    await traffic.wait_until_exact()


async def test_clients_with_an_uncached_key_get_1013_while_the_database_is_down(
    service: Service, traffic: Traffic
) -> None:
    key, _ = service.issue_key(traffic.cluster_id)
    failure = asyncio.create_task(postgresql_is_stopped(service))
    await asyncio.sleep(2)
    stranger = await traffic.connect(0, "new", key=key)
    assert await stranger.ending() == ([], closes.OVER_CAPACITY.code)
    await failure
    deadline = time.monotonic() + RECOVERY_SECONDS
    while await _is_rejected(await traffic.connect(0, "new", key=key)):
        assert time.monotonic() < deadline


async def _is_rejected(client: Client) -> bool:
    try:
        await client.settle()
    except ConnectionClosed:
        return True
    return False


async def test_a_frozen_node_recovers_completely(service: Service, traffic: Traffic) -> None:
    frozen, others = service.nodes[2], NODES[:2]
    frozen.process.send_signal(signal.SIGSTOP)
    begun = time.monotonic()
    try:
        await traffic.wait_until_exact(others, within=LEASE_SECONDS + RECOVERY_SECONDS)
        await traffic.broadcasters[0].send("while you were away")
        await asyncio.sleep(begun + 20 - time.monotonic())
    finally:
        frozen.process.send_signal(signal.SIGCONT)
    await until(lambda: "while you were away" in traffic.received[2])
    print(f"exact again after {await traffic.wait_until_exact():.1f} s")
    await traffic.end()
    assert max(conversation.longest_gap for conversation in traffic.conversations[:2]) < GAP_SECONDS


async def test_connections_and_members_of_a_killed_node_disappear(service: Service, traffic: Traffic) -> None:
    killed, others = service.nodes[2], NODES[:2]
    killed.stop(signal.SIGKILL)
    try:
        seconds = await traffic.wait_until_exact(others, within=30)
        print(f"exact again after {seconds:.1f} s")
        assert seconds < LEASE_SECONDS + RECOVERY_SECONDS
    finally:
        killed.start()
    for conversation in traffic.conversations[:2]:
        await conversation.end()
        assert conversation.longest_gap < GAP_SECONDS
