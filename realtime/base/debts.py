"""What each name, such as an address, owes: amounts that are paid off at a constant rate."""

import math
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable

# How many names are remembered. Above that, the name that has owed something for the longest time is forgotten.
MAX_REMEMBERED = 10_000


class Debts:
    """Amounts that names owe.

    Args:
        per_second: how much each name pays off in a second.
        limit: how much each name may owe.
        clock: returns the time, in seconds.
    """

    def __init__(self, per_second: float, limit: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_second = per_second
        self._limit_seconds = limit / per_second
        self._clock = clock
        self._paid_at: OrderedDict[Hashable, float] = OrderedDict()  # when each name will owe nothing

    def add(self, name: Hashable, amount: float) -> None:
        """Add an amount to what a name owes."""
        now = self._clock()
        self._paid_at[name] = max(self._paid_at.pop(name, now), now) + amount / self._per_second
        if len(self._paid_at) > MAX_REMEMBERED:
            self._paid_at.popitem(last=False)

    def seconds_over_limit(self, name: Hashable) -> int:
        """Return in how many seconds a name will owe what it may, rounded up; 0 if it does not owe more now."""
        return max(math.ceil(self._paid_at.get(name, 0) - self._limit_seconds - self._clock()), 0)
