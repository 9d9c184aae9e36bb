"""The rosters of this node's channels, and what nodes tell each other of them. Loop thread only.

Among nodes every change is an event of the channel's group, and counts on each node when it arrives there, on the one
that sent it too: so all see one order. A node that needs a roster waits until its own event has come back, since from
then on it misses none, and reads what the others have noted in Redis (see `shares.py`).

While Redis is away, what happens here counts at once; when it is back, everything is noted again and compared.
"""

import asyncio
import itertools
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from . import tasks
from .hub import Member
from .redis_shares import LEASE_SECONDS, RENEW_SECONDS, RedisShares
from .roster import Identity, Roster, Seat, SeatId

EVENT = "presence.change"
# How often rosters are compared with what is noted, in case an event was lost, in seconds.
COMPARE_SECONDS = 30.0
# How long a node whose lease has run out, or was lost with Redis, may take to renew it before its members leave, in
# seconds.
GRACE_SECONDS = 5.0
# How long an event of this node may take to come back to it before it counts all the same, in seconds.
ECHO_SECONDS = 2.0


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


class RedisPresence(Presence):
    """The same among nodes that share a Redis."""

    def __init__(
        self,
        node_id: str,
        max_backlog_bytes: int,
        shares: RedisShares,
        send: Callable[[str, dict[str, Any]], None],
    ) -> None:
        """
        Args:
            node_id: of this node.
            max_backlog_bytes: for how much waiting a connection is given up; events wait before it comes to that.
            shares: the Redis, and which nodes live.
            send: sends an event to all nodes that are in a group.
        """
        super().__init__(node_id, max_backlog_bytes)
        self._shares = shares
        self._send = send
        self._changes: list[_Change] = []
        self._changed = asyncio.Event()
        # Own events that have not come back yet, and until when they may.
        self._unheard: dict[tuple[SeatId, bool], tuple[float, str, Seat]] = {}
        # What arrives for a roster while what is noted for it is read.
        self._held: dict[str, list[tuple[Seat, bool]]] = {}
        self._reading: dict[str, asyncio.Task[None]] = {}
        self._seen: dict[str, float] = {}  # when a node was last known to live
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        self._tasks = [asyncio.create_task(self._note_changes()), asyncio.create_task(self._look_after())]

    async def stop(self) -> None:
        await tasks.end([*self._tasks, *self._reading.values()])
        await self._note()

    def hear(self, event: dict[str, Any]) -> None:
        """Take an event of a channel's group."""
        seat = Seat(event["node"], event["number"], event["place"], Identity.known(event["uuid"], event["json"]))
        self._unheard.pop((seat.id, event["joined"]), None)
        self._seen[seat.node_id] = time.monotonic()
        self._arrive(event["group"], seat, event["joined"])

    def leave(self, group: str, member: Member) -> None:
        super().leave(group, member)
        if group not in self._rosters:
            self._held.pop(group, None)

    def _prepare(self, group: str) -> None:
        self._held[group] = []

    def _announce(self, group: str, seat: Seat, *, joined: bool) -> None:
        self._changes.append(_Change(group, seat, joined))
        self._changed.set()

    def _arrive(self, group: str, seat: Seat, joined: bool) -> None:
        held = self._held.get(group)
        if held is None:
            self._apply(group, seat, joined)
            return
        held.append((seat, joined))
        if seat.node_id == self._node_id and group not in self._reading:
            # From here on no event is missed, so that what is noted now is complete.
            self._reading[group] = asyncio.create_task(self._read(group))

    async def _read(self, group: str) -> None:
        """Make a roster equal to what is noted, and then let count what has arrived meanwhile."""
        noted = await self._shares.seats(group)
        held, roster = self._held.pop(group, []), self._rosters.get(group)
        del self._reading[group]
        if roster is None:
            return
        if noted is not None:
            seats = [_seat(fields) for fields in noted]
            present = {seat.id for seat in seats}
            for seat in roster.seats():
                if seat.node_id != self._node_id and seat.id not in present:
                    roster.give_up(seat.id)
            for seat in sorted(seats, key=lambda seat: seat.place):
                self._apply(group, seat, True)
        for seat, joined in held:
            self._apply(group, seat, joined)

    async def _note_changes(self) -> None:
        while True:
            await self._changed.wait()
            self._changed.clear()
            await self._note()

    async def _note(self) -> None:
        """Note what has changed and then tell it, in order; if Redis is away, let it count here alone."""
        changes, self._changes = self._changes, []
        is_noted = await self._shares.note_seats(
            [(group, seat.number, _fields(seat) if joined else None) for group, seat, joined in changes],
            {change.group for change in changes if change.group not in self._here},
        )
        deadline = time.monotonic() + ECHO_SECONDS
        for group, seat, joined in changes:
            if is_noted:
                self._unheard[seat.id, joined] = deadline, group, seat
                self._send(group, _event(group, seat, joined))
            else:
                self._alone(group, seat, joined)

    def _alone(self, group: str, seat: Seat, joined: bool) -> None:
        """Let a change count that no other node can be told of now."""
        for held_seat, held_joined in self._held.pop(group, []):
            self._apply(group, held_seat, held_joined)
        self._apply(group, seat, joined)

    async def _look_after(self) -> None:
        """Notice nodes that have died, own events that do not come back, and that Redis was away."""
        told, compare_at, could_see = self._shares.times_told, time.monotonic() + COMPARE_SECONDS, True
        while True:
            await asyncio.sleep(RENEW_SECONDS)
            now = time.monotonic()
            for key, (deadline, group, seat) in list(self._unheard.items()):
                if deadline < now:
                    del self._unheard[key]
                    self._alone(group, seat, key[1])
            living = await self._shares.living()
            if living is None:
                could_see = False
            else:
                # After an outage others may be back a moment later than this node.
                seen = living if could_see else [*self._seen, *living]
                self._seen.update(dict.fromkeys(seen, time.monotonic()))
                could_see = True
                self._bury()
            if self._shares.times_told != told:
                # Twice: others may have to note theirs first.
                told, compare_at = self._shares.times_told, now + LEASE_SECONDS / 2
                self._tell_all()
                self.compare()
            elif compare_at < now:
                compare_at = now + COMPARE_SECONDS
                self.compare()

    def _bury(self) -> None:
        """Remove the seats of nodes that live no longer."""
        oldest = time.monotonic() - GRACE_SECONDS
        dead = {node_id for node_id, seen in self._seen.items() if seen < oldest and node_id != self._node_id}
        for node_id in dead:
            del self._seen[node_id]
        for roster in self._rosters.values() if dead else ():
            for seat in roster.seats():
                if seat.node_id in dead:
                    roster.give_up(seat.id)

    def _tell_all(self) -> None:
        for group, here in self._here.items():
            for seat in here.values():
                self._announce(group, seat, joined=True)

    def compare(self) -> None:
        for group in self._rosters:
            if group not in self._held:
                self._held[group] = []
                self._reading[group] = asyncio.create_task(self._read(group))


class _Change(NamedTuple):
    group: str
    seat: Seat
    joined: bool


def _event(group: str, seat: Seat, joined: bool) -> dict[str, Any]:
    node_id, number, place, uuid, json = _fields(seat)
    return {
        "type": EVENT,
        "group": group,
        "joined": joined,
        "node": node_id,
        "number": number,
        "place": place,
        "uuid": uuid,
        "json": json,
    }


def _fields(seat: Seat) -> tuple[str, int, int, str, str]:
    return seat.node_id, seat.number, seat.place, seat.identity.uuid, seat.identity.json


def _seat(fields: list[Any]) -> Seat:
    node_id, number, place, uuid, json = fields
    return Seat(node_id, number, place, Identity.known(uuid, json))
