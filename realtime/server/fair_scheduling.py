"""Slices of the loop's time, so that who sends as fast as possible keeps nobody else waiting. Loop thread only.

What a connection has sent beyond its slice waits for a later turn of the loop, and TCP for it: so a flood is slowed
down, and loses nothing. Slices belong to a *party*: a tenant whose clients send, or an address that sends requests.
Those that wait are served one party after the other.

To stop in the middle and to change to another connection costs time too. While one party alone sends, slices are large;
as soon as several do, they are small.
"""

import asyncio
import logging
import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any

from realtime.base.fair_queue import FairQueue

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


LARGE = Slices(of_connection=0.0002, of_party=math.inf, of_waiting=0.0005)
SMALL = Slices(of_connection=0.00005, of_party=0.0001, of_waiting=0.0001)


def nothing() -> None:
    """Do nothing."""


class SlicedConnection(ABC):
    """A connection that takes what has come in as many pieces as it has to."""

    party: Hashable = None
    """Whose slice it takes."""
    untaken = b""
    """What was read and is not all taken yet."""
    position = 0
    """How much of that is taken."""
    cost = 1
    """How many times the time of taking it all costs: more than 1 where the most is done later."""
    flush: Callable[[], None] = staticmethod(nothing)
    """Delivers what was taken."""
    transport: Any

    @abstractmethod
    def take(self, data: bytes, position: int, until: float) -> int:
        """Take what has come, or as much as there is time for, but some of it.

        Args:
            data: what has come.
            position: how much of it is taken already; not all.
            until: when to stop, by `time.perf_counter()`.

        Returns:
            How much of it is taken now.
        """


class Scheduler:
    """Who sends, and who waits for a slice."""

    def __init__(self) -> None:
        self.before: Callable[[], None] = nothing
        """What is due before those who wait get their slices."""
        self.latest: Hashable = None
        """The party that has sent last."""
        self.slices = LARGE
        """How large they are now."""
        self._small_until = 0.0
        self._spent: dict[Hashable, float] = {}  # in this turn of the loop
        self._waiting: FairQueue[SlicedConnection] = FairQueue()
        self._is_scheduled = False
        self._left = 0.0  # for those who wait, in this turn of the loop

    def receive(self, taker: SlicedConnection, data: bytes) -> None:
        """Have a connection take what has come, as far as there is time, and keep the rest for a later turn.

        Args:
            taker: the connection.
            data: what has come.
        """
        if taker.untaken:
            # It is not read any more, but TLS may have several records of what was read before.
            taker.untaken += data
            taker.transport.pauseProducing()
            return
        party = taker.party
        if party != self.latest:
            self._meet(party)
        begun = time.perf_counter()
        if self.slices is LARGE:  # nobody else to keep accounts for
            taken = taker.take(data, 0, begun + LARGE.of_connection)
        else:
            left = min(SMALL.of_connection, SMALL.of_party - self._spent.get(party, 0))
            taken = taker.take(data, 0, begun + left) if left > 0 else 0
            self._charge(taker, begun)
        if taken < len(data):
            taker.untaken, taker.position = data, taken
            taker.transport.pauseProducing()
            self.wait(taker)

    def wait(self, taker: SlicedConnection) -> None:
        """Have a connection take what it has not taken yet, from the next turn of the loop on."""
        self._waiting.append(taker.party, taker)
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
            self._serve(self._waiting.popleft())
        if self._waiting:
            self._schedule()

    def _serve(self, taker: SlicedConnection) -> None:
        begun = time.perf_counter()
        try:
            taker.position = taker.take(taker.untaken, taker.position, begun + self.slices.of_connection)
            taker.flush()  # what it takes to deliver is part of the slice
        except Exception:
            # As Twisted does where data arrives: a fault ends one connection and no other.
            logger.exception("A connection is given up.")
            taker.untaken = b""
            taker.transport.abortConnection()
            return
        self._charge(taker, begun)
        if taker.position < len(taker.untaken):
            self.wait(taker)
        else:
            taker.untaken, taker.position = b"", 0
            taker.transport.resumeProducing()

    def _charge(self, taker: SlicedConnection, begun: float) -> None:
        """Count the time since then as spent, until the next turn of the loop."""
        seconds = (time.perf_counter() - begun) * taker.cost
        self._left -= seconds
        self._spent[taker.party] = self._spent.get(taker.party, 0) + seconds
        self._schedule()


class RequestTurns:
    """Lets so many requests through in each turn of the loop, one of each account after the other. Loop thread only.

    Who has to wait sends nothing more by that connection meanwhile, so that a flood is slowed down and not refused.
    """

    def __init__(self, requests_a_turn: int) -> None:
        self._requests_a_turn = self._left = requests_a_turn
        self._waiting: FairQueue[asyncio.Future[None]] = FairQueue()

    async def wait(self, account_id: int) -> None:
        """Return when a request of an account may be done."""
        if self._left == self._requests_a_turn:
            asyncio.get_running_loop().call_soon(self._begin)
        if self._left:
            self._left -= 1
            return
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append(account_id, turn)
        await turn

    def _begin(self) -> None:
        """Begin a turn of the loop, first with those who wait."""
        self._left = self._requests_a_turn
        while self._left and self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():  # else its client has gone
                turn.set_result(None)
                self._left -= 1
        if self._left < self._requests_a_turn:
            asyncio.get_running_loop().call_soon(self._begin)


scheduler = Scheduler()
