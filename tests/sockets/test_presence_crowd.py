"""Presence, with a thousand members."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from statistics import median
from typing import Any

import pytest

from tests.clients import channel_path, until
from tests.servers import LiveServer
from tests.sockets.test_refusals import GOOD_HANDSHAKE, handshake

MEMBERS, LEAVING = 1000, 20
STORM_SECONDS = 15
JOIN_SECONDS = 0.5


class Listener(asyncio.Protocol):
    """A client that does as little as possible, so a thousand of them keep up with the server."""

    def __init__(self, path: str) -> None:
        self.handshake = handshake(path, *GOOD_HANDSHAKE)
        self.buffer = bytearray()
        self.count = self.size = 0
        self.last = b""
        self.received_at = 0.0
        self.is_closed = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        transport.write(self.handshake)

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        if self.handshake:
            head, end, rest = bytes(self.buffer).partition(b"\r\n\r\n")
            if not end:
                return
            assert head.startswith(b"HTTP/1.1 101"), head
            self.handshake, self.buffer = b"", bytearray(rest)
        while self._take_frame():
            pass

    def _take_frame(self) -> bool:
        buffer = self.buffer
        if len(buffer) < 2:
            return False
        size, start = {
            126: (int.from_bytes(buffer[2:4]), 4),
            127: (int.from_bytes(buffer[2:10]), 10),
        }.get(buffer[1], (buffer[1], 2))
        if len(buffer) < start + size:
            return False
        assert buffer[0] == 0x81, bytes(buffer[:100])
        self.last = bytes(buffer[start : start + size])
        self.count += 1
        self.size += size
        self.received_at = time.perf_counter()
        del buffer[: start + size]
        return True

    def connection_lost(self, error: Exception | None) -> None:
        self.is_closed = True

    @property
    def members(self) -> list[str]:
        """The uuids in the list of the last event."""
        return [member["uuid"] for member in json.loads(self.last)["data"]["members"]]


@pytest.fixture
async def listen(serve: LiveServer, keys: dict[str, str], channel: str) -> AsyncIterator[Callable[[str], Any]]:
    """A function that joins the channel with a uuid."""
    listeners: list[Listener] = []

    async def join(uuid: str) -> Listener:
        path = channel_path(channel, keys["demo"], "presence=1", f"uuid={uuid}", f"user=user-of-{uuid}")
        _, listener = await asyncio.get_running_loop().create_connection(
            lambda: Listener(path), "127.0.0.1", serve.port
        )
        listeners.append(listener)
        return listener

    yield join
    for listener in listeners:
        listener.transport.abort()


async def test_a_thousand_members_that_join_simultaneously_all_know_each_other(listen: Callable[[str], Any]) -> None:
    first = await listen("first")
    await until(lambda: first.count == 1, 5)
    begun = time.perf_counter()
    crowd = await asyncio.gather(*(listen(f"{number:036}") for number in range(MEMBERS - 1)))
    await until(lambda: first.count == MEMBERS, STORM_SECONDS)  # its list, and an event for each other member
    await until(lambda: all(len(listener.last) >= len(first.last) - 200 for listener in crowd), STORM_SECONDS)
    seconds = time.perf_counter() - begun
    everyone = (first, *crowd)
    megabytes = sum(listener.size for listener in everyone) / 1e6
    print(f"{MEMBERS} joined in {seconds:.2f} s, with {megabytes:,.0f} MB of events")
    assert seconds < STORM_SECONDS
    assert len(set(first.members)) == MEMBERS
    # By its length alone, the last event of somebody may lack a member or two.
    await until(lambda: all(listener.members == first.members for listener in crowd), STORM_SECONDS)

    latencies = []
    for number in range(5):
        counts = [listener.count for listener in everyone]
        begun = time.perf_counter()
        late = await listen(f"late-{number}")
        await until(lambda: all(each.count > count for each, count in zip(everyone, counts, strict=True)), 5)  # noqa: B023
        latencies += [listener.received_at - begun for listener in everyone]
        late.transport.abort()
        await until(lambda: all(each.count > count + 1 for each, count in zip(everyone, counts, strict=True)), 5)  # noqa: B023
    print(f"a join reached the others in {median(latencies) * 1000:.0f} ms, the last in {max(latencies) * 1000:.0f} ms")
    assert median(latencies) < JOIN_SECONDS

    counts = [listener.count for listener in everyone]
    for listener in crowd[:LEAVING]:
        listener.transport.abort()
    rest = [
        (listener, count + LEAVING)
        for listener, count in zip(everyone, counts, strict=True)
        if listener not in crowd[:LEAVING]
    ]
    await until(lambda: all(listener.count == count for listener, count in rest), 15)
    remaining = rest[0][0].members
    assert len(remaining) == MEMBERS - LEAVING
    assert all(listener.members == remaining for listener, _ in rest)
    assert not any(listener.is_closed for listener, _ in rest)
