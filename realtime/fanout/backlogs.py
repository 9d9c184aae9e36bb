"""What waits for clients that read slowly: how much may wait for one, and for all of them together.

A client is given up, and disconnected with 4100, if more waits for it than the limit of one connection, if it has taken
nothing for some time while much waits, or if it has the largest backlog when all backlogs together exceed their limit.
Loop thread only.
"""

import time
from collections.abc import Callable
from typing import Protocol

# A client that takes nothing for STALL_SECONDS while STALL_BYTES or more wait for it is given up.
STALL_BYTES = 1024 * 1024
STALL_SECONDS = 10.0
# How often backlogs are checked, in seconds.
CHECK_SECONDS = 1.0


class SlowOutlet(Protocol):
    """An outlet with a backlog."""

    def waiting_bytes(self) -> int:
        """Return the size of the backlog."""

    def give_up(self) -> None:
        """Close the connection (4100)."""

    def abort(self) -> None:
        """End the connection now and free its backlog."""


class _Backlog:
    __slots__ = ("added", "is_given_up", "stalled_since", "waiting")

    def __init__(self, now: float) -> None:
        self.waiting = 0
        self.added = 0  # since `waiting` was measured
        self.stalled_since = now
        self.is_given_up = False


class Backlogs:
    """The outlets of a node that have a backlog."""

    def __init__(self, max_bytes: int, max_total_bytes: int, clock: Callable[[], float] = time.monotonic) -> None:
        """
        Args:
            max_bytes: how much may wait for one connection before it is given up.
            max_total_bytes: how much may wait for all connections together.
            clock: returns the time, in seconds.
        """
        self.max_bytes = max_bytes
        self._max_total_bytes = max_total_bytes
        self._clock = clock
        self._backlogs: dict[SlowOutlet, _Backlog] = {}
        self._total = 0  # an upper bound; exact after each check

    def grow(self, outlet: SlowOutlet, size: int) -> None:
        """Note that more waits for a connection; give up the slowest ones if that is too much for all together."""
        backlog = self._backlogs.get(outlet)
        if backlog is None:
            backlog = self._backlogs[outlet] = _Backlog(self._clock())
        backlog.added += size
        self._total += size
        if self._total > self._max_total_bytes:
            self.check()

    def forget(self, outlet: SlowOutlet) -> None:
        """Note that a connection has ended."""
        self._backlogs.pop(outlet, None)

    def check(self) -> None:
        """Give up the connections that have stalled, and those with the largest backlogs if there is too much."""
        now = self._clock()
        self._total = kept = 0
        for outlet, backlog in list(self._backlogs.items()):
            waiting = outlet.waiting_bytes()
            if not waiting:
                del self._backlogs[outlet]
                continue
            if waiting < backlog.waiting + backlog.added:
                backlog.stalled_since = now
            backlog.waiting, backlog.added = waiting, 0
            if waiting >= STALL_BYTES and now - backlog.stalled_since >= STALL_SECONDS:
                self._give_up(outlet, backlog)
            self._total += waiting
            kept += 0 if backlog.is_given_up else waiting
        if self._total > self._max_total_bytes:
            self._make_room(kept)

    def _make_room(self, kept: int) -> None:
        """Give up the slowest connections, and abort those given up before, whose backlog is still there."""
        slowest = sorted(self._backlogs.items(), key=lambda item: item[1].waiting, reverse=True)
        for outlet, backlog in slowest:
            if backlog.is_given_up:
                self._total -= backlog.waiting
                del self._backlogs[outlet]
                outlet.abort()
            elif kept > self._max_total_bytes:
                kept -= backlog.waiting
                self._give_up(outlet, backlog)

    def _give_up(self, outlet: SlowOutlet, backlog: _Backlog) -> None:
        if not backlog.is_given_up:
            backlog.is_given_up = True
            outlet.give_up()
