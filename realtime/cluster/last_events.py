"""The last event of each cache channel, which new subscribers get. Loop thread only."""

import time
from collections import OrderedDict
from collections.abc import Iterable
from typing import NamedTuple

from realtime.cluster.redis_client import RedisClient

KEPT_SECONDS = 30 * 60
# How much one node keeps, in characters. Beyond that it forgets the oldest events first.
MAX_CHARACTERS = 64 * 1024 * 1024


class LastEvent(NamedTuple):
    """The last event of a channel."""

    frame: str
    """The frame that subscribers get."""
    seconds_left: int
    """How long it is kept."""


class LastEvents:
    """The last events, on a single node."""

    def __init__(self) -> None:
        self._events: OrderedDict[str, tuple[str, float]] = OrderedDict()
        self._characters = 0

    async def put(self, events: Iterable[tuple[str, str]]) -> None:
        """Keep the last event of each of some channels.

        Args:
            events: the group of the channel and the frame that subscribers get, for each; later ones take precedence.
        """
        for group, frame in events:
            self._keep(group, frame)

    async def find(self, group: str) -> LastEvent | None:
        """Return the last event of a channel; None if there is none, or it is too old."""
        return self._find_here(group)

    def _keep(self, group: str, frame: str) -> None:
        self._forget(group)
        self._events[group] = frame, time.monotonic() + KEPT_SECONDS
        self._characters += len(frame)
        while self._events:
            oldest = next(iter(self._events))
            if self._characters <= MAX_CHARACTERS and self._seconds_left(oldest) >= 0:
                return
            self._forget(oldest)

    def _find_here(self, group: str) -> LastEvent | None:
        if group not in self._events:
            return None
        seconds_left = int(self._seconds_left(group))
        return LastEvent(self._events[group][0], seconds_left) if seconds_left > 0 else None

    def _seconds_left(self, group: str) -> float:
        return self._events[group][1] - time.monotonic()

    def _forget(self, group: str) -> None:
        frame, _ = self._events.pop(group, ("", 0))
        self._characters -= len(frame)


class SharedLastEvents(LastEvents):
    """The last events, on nodes that share a Redis. While it is unreachable, each node has those that it has published.

    Args:
        client: the node's client of Redis.
    """

    def __init__(self, client: RedisClient) -> None:
        super().__init__()
        self._client = client

    async def put(self, events: Iterable[tuple[str, str]]) -> None:
        last = dict(events)
        await super().put(last.items())
        await self._client.ask(*(("SET", self._key(group), last[group], "EX", str(KEPT_SECONDS)) for group in last))

    async def find(self, group: str) -> LastEvent | None:
        found = await self._client.ask(("GET", self._key(group)), ("TTL", self._key(group)))
        if found is None:
            return self._find_here(group)
        frame, seconds_left = found
        return LastEvent(frame, seconds_left) if frame is not None and seconds_left > 0 else None

    def _key(self, group: str) -> str:
        return f"{self._client.prefix}last:{group}"
