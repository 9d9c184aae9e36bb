"""Going through many items a portion at a time, so that the loop serves others in between."""

import asyncio
import math
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Generic, TypeVar

T = TypeVar("T")


# About a third of a millisecond of light work.
PACE = 200


async def paced(items: Iterable[T]) -> AsyncIterator[T]:
    """Yield items, and let the loop serve others after every `PACE` of them."""
    for number, item in enumerate(items, 1):
        yield item
        if number % PACE == 0:
            await asyncio.sleep(0)


class Portions(Generic[T]):
    """Divides items into portions, and begins anew with the items of then when all were taken."""

    def __init__(self, items: Callable[[], list[T]], number: int) -> None:
        """
        Args:
            items: returns all items.
            number: into how many portions they are divided.
        """
        self._items = items
        self._number = number
        self._left: list[T] = []
        self._size = 0

    def take(self) -> list[T]:
        """Return the next portion; some of its items may be gone by now."""
        if not self._left:
            self._left = self._items()
            self._size = math.ceil(len(self._left) / self._number)
        portion = self._left[: self._size]
        del self._left[: self._size]
        return portion
