"""A queue that serves its parties in turn."""

from collections import OrderedDict, deque
from collections.abc import Hashable
from typing import Generic, TypeVar

T = TypeVar("T")


class FairQueue(Generic[T]):
    """Who waits, in the order in which they are served: one of each party after the other."""

    def __init__(self) -> None:
        self._waiting: OrderedDict[Hashable, deque[T]] = OrderedDict()

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def append(self, party: Hashable, one: T) -> None:
        """Have one more of a party wait."""
        self._waiting.setdefault(party, deque()).append(one)

    def popleft(self) -> T:
        """Who is next, and waits no longer."""
        party, ones = self._waiting.popitem(last=False)
        one = ones.popleft()
        if ones:
            self._waiting[party] = ones
        return one
