"""Seats: one for each connection that takes part in presence, and the order in which clients see them."""

from typing import NamedTuple

from realtime.protocols.presence import Identity

SeatId = tuple[str, int]


class Seat(NamedTuple):
    """The presence of one connection."""

    node_id: str
    """The node of the connection."""
    number: int
    """Identifies the connection on its node."""
    place: int
    """The sort key of the list, which gives all nodes the same order."""
    identity: Identity

    @property
    def id(self) -> SeatId:
        """Identifies the seat on all nodes."""
        return self.node_id, self.number


class SeatList(dict[str, Seat]):
    """Seats by their uuid, sorted by place."""

    def put(self, seat: Seat) -> None:
        """Add a seat. It replaces a seat with the same uuid."""
        self.pop(seat.identity.uuid, None)
        last = next(reversed(self.values()), None)
        self[seat.identity.uuid] = seat
        if last is not None and last.place > seat.place:
            items = sorted(self.items(), key=lambda item: item[1].place)
            self.clear()
            self.update(items)

    def identities(self) -> list[Identity]:
        """Return the members in order."""
        return [seat.identity for seat in self.values()]
