"""Slices of the loop's time, so that who sends as fast as possible keeps nobody else waiting. Loop thread only.

What a connection has sent beyond its slice waits for a later turn of the loop, and TCP for it: so a flood is slowed
down, and loses nothing. Slices belong to a *party*: a tenant whose clients send, or an address that sends requests.
Those that wait are served one party after the other.

To stop in the middle and to change to another connection costs time too. While one party alone sends, slices are large;
as soon as several do, they are small.
"""

import asyncio
import logging
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any, Protocol

logger = logging.getLogger(__name__)

# For how long slices stay small after one party has sent and then another, in seconds.
SHARED_SECONDS = 0.25


@dataclass(frozen=True, slots=True)
class Slices:
    """How much time there is in one turn of the loop, in seconds."""

    of_connection: float
    """For what one connection has sent."""
    of_party: float
    """For all connections of a party that do not wait."""
    of_waiting: float
    """For all that wait together."""


LARGE = Slices(of_connection=0.0002, of_party=float("inf"), of_waiting=0.0005)
SMALL = Slices(of_connection=0.00005, of_party=0.0001, of_waiting=0.0001)


class Taker(Protocol):
    """A connection that takes what has come in as many pieces as it has to."""

    party: Hashable
    """Whose slice it takes."""
    untaken: bytes
    """What was read and is not all taken yet."""
    position: int
    """How much of that is taken."""
    cost: int
    """How many times the time of taking it all costs: more than 1 where the most is done later."""
    transport: Any

    def take(self, data: bytes, position: int, until: float) -> int:
        """Take what has come, or as much as there is time for, but some of it.

        Args:
            data: what has come.
            position: how much of it is taken already; not all.
            until: when to stop, by `time.perf_counter()`.

        Returns:
            How much of it is taken now.
        """

    def flush(self) -> None:
        """Deliver what was taken."""


class Turns:
    """Who sends, and who waits for a slice."""

    def __init__(self) -> None:
        self.before: Callable[[], None] = lambda: None
        """What is due before those who wait get their slices."""
        self.latest: Hashable = None
        """The party that has sent last."""
        self.slices = LARGE
        """How large they are now."""
        self._small_until = 0.0
        self._spent: dict[Hashable, float] = {}  # in this turn of the loop
        self._waiting: OrderedDict[Hashable, deque[Taker]] = OrderedDict()
        self._is_scheduled = False
        self._left = 0.0  # for those who wait, in this turn of the loop

    def receive(self, taker: Taker, data: bytes, taken: int = 0) -> None:
        """Have a connection take what has come, as far as there is time, and keep the rest for a later turn.

        Args:
            taker: the connection.
            data: what has come.
            taken: how much of it is taken already; not all.
        """
        if taker.untaken:
            # It is not read any more, but TLS may have several records of what was read before.
            taker.untaken += data
            taker.transport.pauseProducing()
            return
        party = taker.party
        if party != self.latest:
            self._meet(party)
        left = self.slices.of_party - self._spent.get(party, 0)
        if left > 0:
            taken = self._take(taker, data, taken, min(left, self.slices.of_connection))
        if taken < len(data):
            taker.untaken, taker.position = data, taken
            taker.transport.pauseProducing()
            self.wait(taker)

    def wait(self, taker: Taker) -> None:
        """Have a connection take what it has not taken yet, from the next turn of the loop on."""
        self._waiting.setdefault(taker.party, deque()).append(taker)
        self._schedule()

    def _meet(self, party: Hashable) -> None:
        self.latest = party
        self.slices = SMALL
        self._small_until = time.perf_counter() + SHARED_SECONDS

    def _schedule(self) -> None:
        if not self._is_scheduled:
            self._is_scheduled = True
            asyncio.get_running_loop().call_soon(self._run)

    def _run(self) -> None:
        """Begin a turn of the loop: deliver what others have sent in the last, and serve those who wait."""
        self._is_scheduled = False
        self._spent.clear()
        if time.perf_counter() > self._small_until:
            self.slices = LARGE
        self._left = self.slices.of_waiting
        self.before()
        while self._waiting and self._left > 0:
            party, takers = self._waiting.popitem(last=False)
            taker = takers.popleft()
            if takers:
                self._waiting[party] = takers
            self._serve(taker)
        if self._waiting:
            self._schedule()

    def _serve(self, taker: Taker) -> None:
        begun = time.perf_counter()
        try:
            taker.position = self._take(taker, taker.untaken, taker.position, self.slices.of_connection)
            taker.flush()  # what it takes to deliver is part of the slice
        except Exception:
            # As Twisted does where data arrives: a fault ends one connection and no other.
            logger.exception("A connection is given up.")
            taker.untaken = b""
            taker.transport.abortConnection()
            return
        self._left -= (time.perf_counter() - begun) * taker.cost
        if taker.position < len(taker.untaken):
            self.wait(taker)
        else:
            taker.untaken, taker.position = b"", 0
            taker.transport.resumeProducing()

    def _take(self, taker: Taker, data: bytes, taken: int, seconds: float) -> int:
        begun = time.perf_counter()
        taken = taker.take(data, taken, begun + seconds)
        if self.slices is SMALL:
            party = taker.party
            self._spent[party] = self._spent.get(party, 0) + (time.perf_counter() - begun) * taker.cost
            self._schedule()
        return taken


turns = Turns()
