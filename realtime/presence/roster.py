"""The members of one channel on all nodes. Loop thread only."""

from realtime.fanout.hub import Member
from realtime.presence.announcer import Announcer
from realtime.presence.seats import Seat, SeatId, SeatList
from realtime.protocols.closes import OVER_CAPACITY, TOO_MANY_MEMBERS, Refusal
from realtime.protocols.presence import Identity, PresenceEvents


class Roster:
    """The seats of one channel. Changes are reported to the members on this node.

    Args:
        max_backlog_bytes: the backlog above which a client is disconnected; events wait long before that.
        events: what the members get.
    """

    def __init__(self, max_backlog_bytes: int, events: PresenceEvents) -> None:
        self._newest_is_listed = events.newest_is_listed
        self._replaces_members = events.replaces_members
        self._max_list_bytes = max_backlog_bytes // 2
        self._seats: dict[SeatId, Seat] = {}
        self._by_uuid: dict[str, list[Seat]] = {}
        self._list = SeatList()
        self._size = 0  # the size of all identities, in bytes
        self._announcer = Announcer(self._list, max_backlog_bytes // 4, events)

    def check_room(self, identity: Identity) -> None:
        """Check that one more member can join.

        Raises:
            Refusal: members join and leave faster than events can be sent, or the list would be too large to send.
        """
        if self._announcer.is_full:
            raise Refusal(OVER_CAPACITY)
        if self._size + identity.size > self._max_list_bytes:
            raise Refusal(TOO_MANY_MEMBERS)

    def seats(self) -> list[Seat]:
        """Return all seats."""
        return list(self._seats.values())

    def add(self, seat: Seat) -> None:
        """Add a seat and report it to the members. Harmless if the seat is already there.

        If several seats have the same uuid, only the newest or the oldest is listed.
        """
        if seat.id in self._seats:
            return
        self._seats[seat.id] = seat
        same = self._by_uuid.setdefault(seat.identity.uuid, [])
        same.append(seat)
        same.sort(key=lambda seat: seat.place)
        self._size += seat.identity.size
        if self._newest_is_listed:
            if same[-1] is seat:
                self._list.put(seat)
                self._announcer.report(seat, joined=True)
        elif same[0] is seat:
            self._list.put(seat)
            if len(same) == 1:
                self._announcer.report(seat, joined=True)

    def remove(self, seat_id: SeatId) -> None:
        """Remove a seat and report it to the members. Harmless if the seat is not there.

        If another seat has the same uuid, that seat is listed instead. A leave is then reported only if clients would
        otherwise keep the member as it was listed before.
        """
        seat = self._seats.pop(seat_id, None)
        if seat is None:
            return
        same = self._by_uuid[seat.identity.uuid]
        listed = -1 if self._newest_is_listed else 0
        was_listed = same[listed] is seat
        same.remove(seat)
        self._size -= seat.identity.size
        if not same:
            del self._by_uuid[seat.identity.uuid], self._list[seat.identity.uuid]
            self._announcer.report(seat, joined=False)
        elif was_listed:
            self._list.put(same[listed])
            if self._newest_is_listed:
                self._announcer.report(same[listed], joined=True)
            elif self._replaces_members and same[listed].identity.json != seat.identity.json:
                self._announcer.report(seat, joined=False)
                self._announcer.report(same[listed], joined=True)

    def watch(self, member: Member, identity: Identity) -> None:
        """Send a member the list, and every later event. Harmless if the member already has the list."""
        self._announcer.watch(member, identity)

    def leave(self, member: Member) -> None:
        """Stop sending to a member."""
        self._announcer.leave(member)
