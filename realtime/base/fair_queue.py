"""A queue that serves several parties in turn."""

from collections import OrderedDict, deque
from collections.abc import Hashable
from typing import Generic, TypeVar

T = TypeVar("T")


class FairQueue(Generic[T]):
    """Items of several parties. The parties take turns; the items of each party stay in order."""

    def __init__(self) -> None:
        self._waiting: OrderedDict[Hashable, deque[T]] = OrderedDict()

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def append(self, party: Hashable, item: T) -> None:
        """Add an item behind the others of its party."""
        self._waiting.setdefault(party, deque()).append(item)

    def popleft(self) -> T:
        """Remove and return the next item."""
        party, items = self._waiting.popitem(last=False)
        item = items.popleft()
        if items:
            self._waiting[party] = items
        return item
