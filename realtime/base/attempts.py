"""Rate limits per minute, each under a name such as an address."""

import time
from collections import OrderedDict
from collections.abc import Callable, Hashable

# How many names are remembered. Above that, the name that has made no attempt for the longest time is forgotten.
MAX_REMEMBERED = 10_000


class Attempts:
    """Counts attempts in periods of one minute. The period of a name begins with its first attempt.

    Args:
        per_minute: returns how many attempts each name may make in a minute.
        clock: returns the time, in seconds.
    """

    def __init__(self, per_minute: Callable[[], int], clock: Callable[[], float] = time.monotonic) -> None:
        self._per_minute = per_minute
        self._clock = clock
        self._spans: OrderedDict[Hashable, tuple[float, int]] = OrderedDict()

    def note(self, name: Hashable) -> int:
        """Count an attempt. Return how many seconds to wait before the next one; 0 if this one is within the limit."""
        now = self._clock()
        begun, count = self._spans.pop(name, (now, 0))
        if now - begun >= 60:
            begun, count = now, 0
        self._spans[name] = (begun, count + 1)
        if len(self._spans) > MAX_REMEMBERED:
            self._spans.popitem(last=False)
        return 0 if count < self._per_minute() else max(int(begun + 60 - now), 1)

    def has_made_all(self, name: Hashable) -> bool:
        """Return whether a name has made as many attempts as it may, without counting another one."""
        begun, count = self._spans.get(name, (0.0, 0))
        return count >= self._per_minute() and self._clock() - begun < 60
