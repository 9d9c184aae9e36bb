"""What three nodes go through when something that they need is away, or one of them is, and what is true afterwards."""

import asyncio
import contextlib
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack

import httpx
import pytest
from websockets.exceptions import ConnectionClosed

from realtime.cluster.bus import MAX_OUTGOING_BYTES
from realtime.cluster.redis_connection_counts import LEASE_SECONDS
from realtime.protocols import closes
from tests.clients import Client, Member, channel_path, open_client, until
from tests.faults import Link
from tests.nodes.service import NODES, Service
from tests.sockets.test_refusals import error

# How long it takes at most until everything is exact again, in seconds.
RECOVERY_SECONDS = 10
# How long it may take until a node has noticed that something is away and makes nobody wait for it, in seconds.
NOTICE_SECONDS = 5.0
CUT_SECONDS = 60
# How long two clients of one node may hear nothing of each other, in seconds.
GAP_SECONDS = 2.0
LARGE_MESSAGE = "x" * 1024 * 1000

Fault = Callable[[Service], Awaitable[None]]


class Talk:
    """Two clients of one node: one sends all the time, and the other must hear all of it, in order."""

    def __init__(self, sender: Client, receiver: Client) -> None:
        self._sender, self._receiver = sender, receiver
        self._sent = 0
        self._heard: list[str | bytes] = []
        self._last = time.monotonic()
        self.longest_gap = 0.0
        self._tasks = [asyncio.create_task(self._send()), asyncio.create_task(self._listen())]

    def forget(self) -> None:
        for task in self._tasks:
            task.cancel()

    async def _send(self) -> None:
        while True:
            await self._sender.send(str(self._sent))
            self._sent += 1
            await asyncio.sleep(0.02)

    async def _listen(self) -> None:
        while True:
            self._heard.append(await self._receiver.socket.recv())
            now = time.monotonic()
            self.longest_gap, self._last = max(self.longest_gap, now - self._last), now

    async def end(self) -> int:
        """Send no more, and return how many messages were sent, which all have arrived."""
        self._tasks[0].cancel()
        await until(lambda: len(self._heard) >= self._sent)
        assert self._heard == [str(number) for number in range(self._sent)]
        return self._sent


class Life:
    """Clients of each node: two that talk, one that asks for counts, one of a channel for all, one in presence."""

    EACH = 5

    def __init__(self, service: Service, channel: str, stack: AsyncExitStack) -> None:
        self._service, self.cluster_id, self._stack = service, channel, stack
        self.key, self.secret = service.issue_key(self.cluster_id)
        self.talks: list[Talk] = []
        self.askers: list[Client] = []
        self.speakers: list[Client] = []
        self.heard: list[list[str | bytes]] = []
        self.members: list[Member] = []
        self._listening: list[asyncio.Task[None]] = []
        self.sent = self._calls = 0

    async def connect(self, number: int, channel: str, *flags: str, key: str = "") -> Client:
        """Connect to a channel of this test's cluster on a node."""
        path = channel_path(channel, key or self.key, *flags)
        return await self._stack.enter_async_context(open_client(self._service.nodes[number], path))

    async def join(self, number: int, channel: str, uuid: str) -> Member:
        return Member(await self.connect(number, channel, "presence", f"uuid={uuid}"), uuid)

    async def begin(self) -> None:
        for number in NODES:
            self.talks.append(Talk(*[await self.connect(number, f"talk{number}") for _ in range(2)]))
            self.askers.append(await self.connect(number, "count"))
            self.speakers.append(await self.connect(number, "all"))
            self.heard.append([])
            self._listening.append(asyncio.create_task(self._listen(self.speakers[-1], self.heard[-1])))
            self.members.append(member := await self.join(number, "people", f"m{number}"))
            await until(lambda member=member: bool(member.events))  # type: ignore[misc]
        await self.is_exact()

    async def _listen(self, client: Client, heard: list[str | bytes]) -> None:
        with contextlib.suppress(ConnectionClosed):
            while True:
                heard.append(await client.socket.recv())

    async def goes_on(self, numbers: Sequence[int]) -> None:
        """On each of these nodes new clients with keys that are known are admitted, and hear each other."""
        for number in numbers:
            async with asyncio.timeout(GAP_SECONDS):
                one, two = [await self.connect(number, f"new{number}") for _ in range(2)]
                await one.send("hello")
                self.sent += 1
                assert await two.receive() == "hello"
                await one.settle()
            guest = await self.join(number, f"guests{number}", "guest")
            await until(lambda guest=guest: guest.members == ["guest"])  # type: ignore[misc]
            for client in (one, two, guest.client):
                await client.socket.close()

    async def is_exact(self, numbers: Sequence[int] = NODES, within: float = RECOVERY_SECONDS) -> float:
        """Soon all of these nodes count the same, list the same people, and hear each other; return how soon."""
        begun = time.monotonic()
        expected = (len(numbers), Life.EACH * len(numbers), [f"m{number}" for number in numbers])
        while (seen := [await self._seen_by(number) for number in numbers]) != [expected] * len(numbers):
            assert time.monotonic() < begun + within, (seen, expected)
            await asyncio.sleep(0.05)
        await self._all_are_heard(numbers, begun + within)
        return time.monotonic() - begun

    async def _all_are_heard(self, numbers: Sequence[int], deadline: float) -> None:
        self._calls += 1
        while True:
            calls = {number: f"call {self._calls} from {number}" for number in numbers}
            for number in numbers:
                await self.speakers[number].send(calls[number])
                self.sent += 1
            await asyncio.sleep(0.2)
            if all({*calls.values()} <= {*self.heard[number], calls[number]} for number in numbers):
                return
            assert time.monotonic() < deadline, "Not everybody hears everybody."

    async def _seen_by(self, number: int) -> tuple[int, int, list[str]]:
        """What a node says of connections to a channel and to the cluster, and who it says is present."""
        headers = {"key": self.key, "secret": self.secret}
        async with httpx.AsyncClient(trust_env=False, headers=headers) as http:
            answer = await http.get(self._service.nodes[number].url("/api/connections/sum", scheme="http"))
        return await self.askers[number].count(), answer.json()["connections"], self.members[number].members

    def forget(self) -> None:
        for talk in self.talks:
            talk.forget()
        for task in self._listening:
            task.cancel()

    async def end(self) -> None:
        """Send no more, and add up what was sent."""
        for talk in self.talks:
            self.sent += await talk.end()


@pytest.fixture
async def life(service: Service, channel: str) -> AsyncIterator[Life]:
    async with AsyncExitStack() as stack:
        life = Life(service, channel, stack)
        await life.begin()
        yield life
        life.forget()


async def redis_is_stopped(service: Service) -> None:
    service.redis.stop()
    try:
        await asyncio.sleep(8)
    finally:
        service.redis.start()


async def redis_is_cut_off(service: Service) -> None:
    await _cut(service.to_redis, CUT_SECONDS)


async def one_node_is_cut_off_from_redis(service: Service) -> None:
    await _cut(service.to_redis[:1], LEASE_SECONDS + 5)


async def redis_connections_die_without_a_sign(service: Service) -> None:
    for link in service.to_redis:
        link.mute()
    await asyncio.sleep(8)


async def postgresql_is_stopped(service: Service) -> None:
    service.postgres.stop()
    try:
        await asyncio.sleep(8)
    finally:
        service.postgres.start()


async def postgresql_is_cut_off(service: Service) -> None:
    await _cut(service.to_postgres, CUT_SECONDS)


async def _cut(links: list[Link], seconds: float) -> None:
    for link in links:
        link.cut()
    try:
        await asyncio.sleep(seconds)
    finally:
        for link in links:
            link.mend()


REDIS_FAULTS = [
    redis_is_stopped,
    redis_is_cut_off,
    one_node_is_cut_off_from_redis,
    redis_connections_die_without_a_sign,
]


@pytest.mark.parametrize("fault", [*REDIS_FAULTS, postgresql_is_stopped, postgresql_is_cut_off])
async def test_clients_of_one_node_notice_nothing_and_afterwards_everything_is_exact(
    service: Service, life: Life, fault: Fault
) -> None:
    logged = [len(node.log) for node in service.nodes]
    happening = asyncio.create_task(fault(service))
    await asyncio.sleep(NOTICE_SECONDS)
    await life.goes_on(NODES)
    await asyncio.sleep(1)
    await life.goes_on(NODES)
    await happening
    print(f"exact again after {await life.is_exact():.1f} s")
    await life.end()
    assert max(talk.longest_gap for talk in life.talks) < GAP_SECONDS
    for node, start in zip(service.nodes, logged, strict=True):
        lines = node.log[start:].splitlines()
        assert len(lines) <= 6, lines
        assert len(lines) == len({line.partition(" realtime")[2] for line in lines}), lines
    deadline = time.monotonic() + RECOVERY_SECONDS
    while (found := service.recorded(life.cluster_id)) != life.sent:
        assert time.monotonic() < deadline, (found, life.sent)


@pytest.mark.parametrize("fault", [redis_is_stopped, one_node_is_cut_off_from_redis])
async def test_a_key_that_was_revoked_meanwhile_is_refused_afterwards(
    service: Service, life: Life, fault: Fault
) -> None:
    key, _ = service.issue_key(life.cluster_id)
    client = await life.connect(0, "revoked", key=key)
    await client.settle()
    happening = asyncio.create_task(fault(service))
    await asyncio.sleep(2)
    await asyncio.to_thread(service.revoke, key)
    await happening
    assert await client.ending() == ([error(closes.KEY_REVOKED)], 4001)
    refused = await life.connect(0, "revoked", key=key)
    assert (await refused.ending())[1] == 4001


async def test_what_was_sent_while_redis_was_away_arrives_when_it_is_back(service: Service, life: Life) -> None:
    happening = asyncio.create_task(redis_is_stopped(service))
    await asyncio.sleep(1)
    messages = [f"meanwhile {number}" for number in range(500)]
    for message in messages:
        await life.speakers[0].send(message)
    await happening
    for number in NODES[1:]:
        await until(lambda heard=life.heard[number]: heard[-500:] == messages)  # type: ignore[misc]


async def test_memory_stays_bounded_while_much_is_sent_that_cannot_cross(service: Service, life: Life) -> None:
    node, sender = service.nodes[0], await life.connect(0, "large")
    before = node.memory_kib()
    happening = asyncio.create_task(redis_is_stopped(service))
    await asyncio.sleep(2)
    for _ in range(200):
        await sender.send(LARGE_MESSAGE)
        await sender.settle()
    grown = (node.memory_kib() - before) * 1024
    print(f"{200 * len(LARGE_MESSAGE) / 2**20:.0f} MiB were sent, and memory has grown by {grown / 2**20:.0f} MiB")
    assert grown < 1.5 * MAX_OUTGOING_BYTES
    await happening
    assert node.log.count("the oldest messages to them are dropped") == 1
    await sender.socket.close()
    await life.is_exact()


async def test_a_key_that_is_not_known_is_told_to_come_back_while_the_database_is_away(
    service: Service, life: Life
) -> None:
    key, _ = service.issue_key(life.cluster_id)
    happening = asyncio.create_task(postgresql_is_stopped(service))
    await asyncio.sleep(2)
    stranger = await life.connect(0, "new", key=key)
    assert await stranger.ending() == ([], closes.OVER_CAPACITY.code)
    await happening
    deadline = time.monotonic() + RECOVERY_SECONDS
    while await _is_turned_away(await life.connect(0, "new", key=key)):
        assert time.monotonic() < deadline


async def _is_turned_away(client: Client) -> bool:
    try:
        await client.settle()
    except ConnectionClosed:
        return True
    return False


async def test_a_node_that_is_frozen_goes_on_as_if_nothing_had_been(service: Service, life: Life) -> None:
    frozen, others = service.nodes[2], NODES[:2]
    frozen.process.send_signal(signal.SIGSTOP)
    begun = time.monotonic()
    try:
        await life.is_exact(others, within=LEASE_SECONDS + RECOVERY_SECONDS)
        await life.speakers[0].send("while you were away")
        await asyncio.sleep(begun + 20 - time.monotonic())
    finally:
        frozen.process.send_signal(signal.SIGCONT)
    await until(lambda: "while you were away" in life.heard[2])
    print(f"exact again after {await life.is_exact():.1f} s")
    await life.end()
    assert max(talk.longest_gap for talk in life.talks[:2]) < GAP_SECONDS


async def test_a_node_that_is_killed_takes_its_connections_and_its_people_with_it(service: Service, life: Life) -> None:
    killed, others = service.nodes[2], NODES[:2]
    killed.stop(signal.SIGKILL)
    try:
        seconds = await life.is_exact(others, within=30)
        print(f"exact again after {seconds:.1f} s")
        assert seconds < LEASE_SECONDS + RECOVERY_SECONDS
    finally:
        killed.start()
    for talk in life.talks[:2]:
        await talk.end()
        assert talk.longest_gap < GAP_SECONDS
