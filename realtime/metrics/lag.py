"""How late a loop does what is due: what every client of a node that is too busy, or blocked, waits longer."""

import asyncio
from collections import deque

TICK_SECONDS = 0.5
# How far back the worst lag is remembered, in seconds: longer than from one look of Prometheus to the next.
REMEMBERED_SECONDS = 60


class Lag:
    """The lag of the running loop, measured by a task that wants to wake now and then."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._due = self._loop.time()
        self._last = 0.0
        self._recent: deque[float] = deque(maxlen=int(REMEMBERED_SECONDS / TICK_SECONDS))
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to measure."""
        self._due = self._loop.time() + TICK_SECONDS
        self._task = asyncio.create_task(self._measure())

    async def stop(self) -> None:
        """Measure no longer."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    @property
    def seconds(self) -> float:
        """How late the loop was last, or is by now if that is more."""
        return max(self._last, self._loop.time() - self._due)

    @property
    def worst(self) -> float:
        """The most of the last minute, in seconds."""
        return max(self.seconds, *self._recent, 0.0)

    async def _measure(self) -> None:
        while True:
            await asyncio.sleep(self._due - self._loop.time())
            now = self._loop.time()
            self._last = max(now - self._due, 0.0)
            self._recent.append(self._last)
            self._due = now + TICK_SECONDS
