"""The lag of an event loop: how much longer clients of a busy or blocked node wait."""

import asyncio
from collections import deque

from realtime.base.tasks import KeptTask

TICK_SECONDS = 0.5
# How long a lag counts for `worst`, in seconds: longer than the interval at which Prometheus scrapes.
REMEMBERED_SECONDS = 60


class Lag:
    """The lag of the running loop, measured by a task that wakes up regularly."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._due = self._loop.time()
        self._last = 0.0
        self._recent: deque[float] = deque(maxlen=int(REMEMBERED_SECONDS / TICK_SECONDS))
        self._measuring = KeptTask("measuring the lag", self._measure)

    def start(self) -> None:
        """Start to measure."""
        self._due = self._loop.time() + TICK_SECONDS
        self._measuring.start()

    async def stop(self) -> None:
        """Stop measuring."""
        await self._measuring.stop()

    @property
    def seconds(self) -> float:
        """The last measured lag, or the current delay if that is larger, in seconds."""
        return max(self._last, self._loop.time() - self._due)

    @property
    def worst(self) -> float:
        """The largest lag of the last minute, in seconds."""
        return max(self.seconds, *self._recent, 0.0)

    async def _measure(self) -> None:
        while True:
            await asyncio.sleep(self._due - self._loop.time())
            now = self._loop.time()
            self._last = max(now - self._due, 0.0)
            self._recent.append(self._last)
            self._due = now + TICK_SECONDS
