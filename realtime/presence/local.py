"""Presence on a single node. Loop thread only."""

import itertools
import time
from collections.abc import Sequence

from realtime.fanout.hub import Member
from realtime.presence.roster import Roster
from realtime.presence.seats import Seat, SeatList
from realtime.protocols.presence import PIESOCKET_EVENTS, Identity, PresenceEvents


class Presence:
    """The rosters of all channels, on a single node.

    Args:
        node_id: the ID of this node.
        max_backlog_bytes: the backlog above which a client is disconnected; events wait long before that.
    """

    def __init__(self, node_id: str, max_backlog_bytes: int) -> None:
        self._node_id = node_id
        self._max_backlog_bytes = max_backlog_bytes
        self._rosters: dict[str, Roster] = {}
        self._local_seats: dict[str, dict[Member, Seat]] = {}
        self._members: dict[int, Member] = {}
        self._numbers = itertools.count()
        self._last_place = 0

    def start(self) -> None:
        """Start to share presence with other nodes."""

    async def stop(self) -> None:
        """Stop sharing presence with other nodes."""

    def join(self, group: str, member: Member, identity: Identity, events: PresenceEvents = PIESOCKET_EVENTS) -> None:
        """Add a member to a channel.

        Args:
            group: the group of the channel.
            member: the member.
            identity: how the others see it.
            events: what the members of this channel get; the same for all of them.

        Raises:
            Refusal: members join and leave faster than events can be sent, or the list would be too large to send.
        """
        roster = self._rosters.get(group)
        if roster is None:
            roster = self._rosters[group] = Roster(self._max_backlog_bytes, events)
            self._local_seats[group] = {}
            self._prepare(group)
        roster.check_room(identity)
        self._last_place = max(self._last_place + 1, time.time_ns() // 1000)
        seat = Seat(self._node_id, next(self._numbers), self._last_place, identity)
        self._local_seats[group][member] = seat
        self._members[seat.number] = member
        self._announce(group, seat, joined=True)

    def leave(self, group: str, member: Member) -> None:
        """Remove a member from a channel. Harmless if it is not a member."""
        seats = self._local_seats.get(group, {})
        seat = seats.pop(member, None)
        if seat is None:
            return
        del self._members[seat.number]
        self._rosters[group].leave(member)
        self._announce(group, seat, joined=False)
        if not seats:
            del self._local_seats[group], self._rosters[group]

    async def members(self, group: str, *, newest_is_listed: bool = True) -> list[Identity]:
        """Return the members of a channel on all nodes; while Redis is unreachable, those on this node.

        Args:
            group: the group of the channel.
            newest_is_listed: see `PresenceEvents`.
        """
        seats = SeatList()
        for seat in sorted(await self._seats(group), key=lambda seat: seat.place):
            if newest_is_listed or seat.identity.uuid not in seats:
                seats.put(seat)
        return seats.identities()

    async def uuids(self, groups: Sequence[str]) -> list[set[str]] | None:
        """Return the uuids of the members of channels on all nodes; None if some nodes cannot be asked now."""
        return [{seat.identity.uuid for seat in self._local_seats.get(group, {}).values()} for group in groups]

    async def _seats(self, group: str) -> list[Seat]:
        return list(self._local_seats.get(group, {}).values())

    def compare(self) -> None:
        """Compare all rosters with the seats of other nodes, since an event may have been lost."""

    def _prepare(self, group: str) -> None:
        """Prepare a new roster."""

    def _announce(self, group: str, seat: Seat, *, joined: bool) -> None:
        """Announce a change on this node to all nodes."""
        self._apply(group, seat, joined)

    def _apply(self, group: str, seat: Seat, joined: bool) -> None:
        """Apply a change to the roster."""
        roster = self._rosters.get(group)
        if roster is None:
            return
        if not joined:
            roster.remove(seat.id)
            return
        roster.add(seat)
        member = self._members.get(seat.number) if seat.node_id == self._node_id else None
        if member is not None:
            roster.watch(member, seat.identity)
