"""Clients that take a response in parts: how slow they may be before they are disconnected."""

import asyncio
from typing import Any

import pytest

from realtime.server import http_limits
from realtime.server.http_limits import BoundedHTTPChannel

PART_BYTES = 1_000


class Transport:
    connected = True
    aborted = False

    def abortConnection(self) -> None:
        self.aborted = True


@pytest.fixture
def channel(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A connection whose client must take a part in 0.1 s on average, and may fall behind by 2 s."""
    monkeypatch.setattr(http_limits, "MIN_BYTES_PER_SECOND", PART_BYTES / 0.1)
    monkeypatch.setattr(http_limits, "PATIENCE_SECONDS", 2)
    channel: Any = BoundedHTTPChannel()
    channel.transport = Transport()
    channel._handlingRequest = True
    return channel


async def take(channel: Any, seconds: float) -> None:
    """Take a part of a response, as slowly as this."""
    channel.pauseProducing()
    taking = asyncio.get_running_loop().call_later(seconds, channel.resumeProducing)
    await channel.drain(PART_BYTES)
    taking.cancel()


async def test_a_client_that_takes_nothing_is_disconnected(channel: Any) -> None:
    await take(channel, 60)
    assert channel.transport.aborted


async def test_a_client_that_takes_every_part_slowly_is_disconnected(channel: Any) -> None:
    parts = 0
    while not channel.transport.aborted:
        await take(channel, 0.5)
        parts += 1
        assert parts <= 2 / (0.5 - 0.1) + 1


async def test_a_client_that_is_fast_enough_on_average_may_pause(channel: Any) -> None:
    for _ in range(6):
        await take(channel, 0.5)
        for _ in range(20):
            await take(channel, 0)
    assert not channel.transport.aborted
