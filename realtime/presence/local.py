"""Presence on a node that is alone: the rosters of its channels. Loop thread only."""

import itertools
import time

from realtime.fanout.hub import Member
from realtime.presence.roster import Roster
from realtime.presence.seats import Seat
from realtime.protocols.presence import Identity


class Presence:
    """The rosters of a node that is alone."""

    def __init__(self, node_id: str, max_backlog_bytes: int) -> None:
        """
        Args:
            node_id: of this node.
            max_backlog_bytes: for how much waiting a connection is given up; events wait before it comes to that.
        """
        self._node_id = node_id
        self._max_backlog_bytes = max_backlog_bytes
        self._rosters: dict[str, Roster] = {}
        self._here: dict[str, dict[Member, Seat]] = {}
        self._members: dict[int, Member] = {}
        self._numbers = itertools.count()
        self._last_place = 0

    def start(self) -> None:
        """Begin to listen to other nodes."""

    async def stop(self) -> None:
        """Listen no longer."""

    def join(self, group: str, member: Member, identity: Identity) -> None:
        """Add a member to a channel.

        Raises:
            Refusal: members of this channel come and go faster than the others can be told.
        """
        roster = self._rosters.get(group)
        if roster is None:
            roster = self._rosters[group] = Roster(self._max_backlog_bytes)
            self._here[group] = {}
            self._prepare(group)
        roster.check_room(identity)
        self._last_place = max(self._last_place + 1, time.time_ns() // 1000)
        seat = Seat(self._node_id, next(self._numbers), self._last_place, identity)
        self._here[group][member] = seat
        self._members[seat.number] = member
        self._announce(group, seat, joined=True)

    def leave(self, group: str, member: Member) -> None:
        """Remove a member from a channel. Harmless if it is none."""
        here = self._here.get(group, {})
        seat = here.pop(member, None)
        if seat is None:
            return
        del self._members[seat.number]
        self._rosters[group].leave(member)
        self._announce(group, seat, joined=False)
        if not here:
            del self._here[group], self._rosters[group]

    def compare(self) -> None:
        """Compare all rosters with what other nodes have noted, since an event may have been lost."""

    def _prepare(self, group: str) -> None:
        """Do what a new roster needs."""

    def _announce(self, group: str, seat: Seat, *, joined: bool) -> None:
        self._apply(group, seat, joined)

    def _apply(self, group: str, seat: Seat, joined: bool) -> None:
        """Let a change count."""
        roster = self._rosters.get(group)
        if roster is None:
            return
        if not joined:
            roster.give_up(seat.id)
            return
        roster.take(seat)
        member = self._members.get(seat.number) if seat.node_id == self._node_id else None
        if member is not None:
            roster.watch(member, seat.identity)
