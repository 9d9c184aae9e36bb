"""Fair scheduling: a connection that floods the server cannot starve the others. Loop thread only.

Each connection may process what it has received for a short slice of time. The rest waits for a later iteration of the
event loop, and the connection is not read meanwhile, so TCP slows the sender down and nothing is lost. Slices are
shared among the connections of a *party*: a tenant whose clients send, or an address that sends HTTP requests. Waiting
connections are served one party after the other.

Switching between connections costs time too. Slices are therefore large while a single party sends, and small as soon
as several do.
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

# How long slices stay small after the sending party has changed, in seconds.
SHARED_SECONDS = 0.25


@dataclass(frozen=True, slots=True)
class Slices:
    """How long connections may process what they have received in one iteration of the event loop, in seconds."""

    per_connection: float
    """For one connection."""
    per_party: float
    """For all connections of a party that are not waiting."""
    for_waiting: float
    """For all waiting connections together."""


LARGE = Slices(per_connection=0.0002, per_party=math.inf, for_waiting=0.0005)
SMALL = Slices(per_connection=0.00005, per_party=0.0001, for_waiting=0.0001)


def nothing() -> None:
    """Do nothing."""


class SlicedConnection(ABC):
    """A connection that can process received data in several steps."""

    party: Hashable = None
    """The party whose slice it uses."""
    unconsumed = b""
    """Received data that is not completely processed; empty if none is."""
    position = 0
    """How many bytes of `unconsumed` are processed."""
    cost = 1
    """What processing costs in all, as a multiple of the time of `consume`; above 1 if most work is done later."""
    flush: Callable[[], None] = staticmethod(nothing)
    """Delivers the messages that were consumed."""
    transport: Any

    @abstractmethod
    def consume(self, data: bytes, position: int, until: float) -> int:
        """Process received data until it is all processed or the time is up; always process some of it.

        Args:
            data: the received data.
            position: how many bytes are processed already; fewer than all.
            until: when to stop, as a value of `time.perf_counter()`.

        Returns:
            The new position.
        """


class Scheduler:
    """Gives connections their slices and queues those that have used theirs up."""

    def __init__(self) -> None:
        self.on_turn: Callable[[], None] = nothing
        """Called in each iteration of the event loop before waiting connections get their slices."""
        self.slices = LARGE
        """The current size of slices."""
        self._latest_party: Hashable = None
        self._small_until = 0.0
        self._spent: dict[Hashable, float] = {}  # seconds used in this iteration of the loop
        self._waiting: FairQueue[SlicedConnection] = FairQueue()
        self._is_scheduled = False
        self._left_for_waiting = 0.0  # seconds left in this iteration of the loop

    def receive(self, connection: SlicedConnection, data: bytes) -> None:
        """Let a connection process received data for its slice, and queue the rest for a later loop iteration."""
        if connection.unconsumed:
            # Reading has stopped, but TLS may still deliver several records of what was read before.
            connection.unconsumed += data
            connection.transport.pauseProducing()
            return
        party = connection.party
        if party != self._latest_party:
            self._change_party(party)
        started_at = time.perf_counter()
        if self.slices is LARGE:  # no other party is sending, so there is nothing to charge
            position = connection.consume(data, 0, started_at + LARGE.per_connection)
        else:
            left = min(SMALL.per_connection, SMALL.per_party - self._spent.get(party, 0))
            position = connection.consume(data, 0, started_at + left) if left > 0 else 0
            self._charge(connection, started_at)
        if position < len(data):
            connection.unconsumed, connection.position = data, position
            connection.transport.pauseProducing()
            self.enqueue(connection)

    def enqueue(self, connection: SlicedConnection) -> None:
        """Queue a connection to process its unconsumed data, from the next loop iteration on."""
        self._waiting.append(connection.party, connection)
        self._schedule()

    def _change_party(self, party: Hashable) -> None:
        self._latest_party = party
        self.slices = SMALL
        self._small_until = time.perf_counter() + SHARED_SECONDS

    def _schedule(self) -> None:
        if not self._is_scheduled:
            self._is_scheduled = True
            asyncio.get_running_loop().call_soon(self._run)

    def _run(self) -> None:
        """Start a loop iteration: deliver what other connections sent in the last one, then serve waiting ones."""
        self._is_scheduled = False
        self._spent.clear()
        if time.perf_counter() > self._small_until:
            self.slices = LARGE
        self._left_for_waiting = self.slices.for_waiting
        self.on_turn()
        while self._waiting and self._left_for_waiting > 0:
            self._serve(self._waiting.popleft())
        if self._waiting:
            self._schedule()

    def _serve(self, connection: SlicedConnection) -> None:
        started_at = time.perf_counter()
        try:
            connection.position = connection.consume(
                connection.unconsumed, connection.position, started_at + self.slices.per_connection
            )
            connection.flush()  # delivering is part of the slice
        except Exception:
            # Twisted does the same when data arrives: a failure ends only its own connection.
            logger.exception("Closing a connection after an unexpected error.")
            connection.unconsumed = b""
            connection.transport.abortConnection()
            return
        self._charge(connection, started_at)
        if connection.position < len(connection.unconsumed):
            self.enqueue(connection)
        else:
            connection.unconsumed, connection.position = b"", 0
            connection.transport.resumeProducing()

    def _charge(self, connection: SlicedConnection, started_at: float) -> None:
        """Charge the time since `started_at` to the connection's party for this loop iteration."""
        seconds = (time.perf_counter() - started_at) * connection.cost
        self._left_for_waiting -= seconds
        self._spent[connection.party] = self._spent.get(connection.party, 0) + seconds
        self._schedule()


class RequestTurns:
    """Limits how many requests run in each iteration of the event loop, and lets accounts take turns. Loop thread only.

    A client that waits for its turn sends nothing more on that connection, so a flood is slowed down, not rejected.
    """

    def __init__(self, requests_per_turn: int) -> None:
        self._requests_per_turn = self._left = requests_per_turn
        self._waiting: FairQueue[asyncio.Future[None]] = FairQueue()

    async def wait(self, account_id: int) -> None:
        """Wait until a request of an account may run."""
        if self._left == self._requests_per_turn:
            asyncio.get_running_loop().call_soon(self._start_turn)
        if self._left:
            self._left -= 1
            return
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append(account_id, turn)
        await turn

    def _start_turn(self) -> None:
        """Start a loop iteration; waiting requests go first."""
        self._left = self._requests_per_turn
        while self._left and self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():  # otherwise its client has disconnected
                turn.set_result(None)
                self._left -= 1
        if self._left < self._requests_per_turn:
            asyncio.get_running_loop().call_soon(self._start_turn)


scheduler = Scheduler()
