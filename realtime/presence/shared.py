"""Presence on nodes that share a Redis. Loop thread only.

Every change is an event of the channel's group, and takes effect on each node when it arrives there, also on the node
that sent it, so that all nodes see one order. A node that needs a roster waits until its own event has come back, since
it misses none from then on, and then reads what the other nodes have noted in Redis.

While Redis is out of reach, changes on this node take effect here immediately; when Redis is back, everything is noted
again and compared.
"""

import asyncio
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from realtime.base import tasks
from realtime.cluster.redis_connection_counts import LEASE_SECONDS, RENEW_SECONDS, RedisConnectionCounts
from realtime.fanout.hub import Member
from realtime.presence.local import Presence
from realtime.presence.seats import Seat, SeatId
from realtime.protocols.presence import Identity

EVENT = "presence.change"
# How often rosters are compared with what is noted, in case an event was lost, in seconds.
COMPARE_SECONDS = 30.0
# How long a node whose lease has run out, or was lost with Redis, may take to renew it before its members leave, in
# seconds.
GRACE_SECONDS = 5.0
# How long an event of this node may take to come back to it before it takes effect all the same, in seconds.
ECHO_SECONDS = 2.0


class RedisPresence(Presence):
    """The same among nodes that share a Redis."""

    def __init__(
        self,
        node_id: str,
        max_backlog_bytes: int,
        counts: RedisConnectionCounts,
        send: Callable[[str, dict[str, Any]], None],
    ) -> None:
        """
        Args:
            node_id: of this node.
            max_backlog_bytes: for how much waiting a connection is given up; events wait before it comes to that.
            counts: the Redis, and which nodes live.
            send: sends an event to all nodes that are in a group.
        """
        super().__init__(node_id, max_backlog_bytes)
        self._counts = counts
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
        noted = await self._counts.seats(group)
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
        is_noted = await self._counts.note_seats(
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
        told, compare_at, could_see = self._counts.times_told, time.monotonic() + COMPARE_SECONDS, True
        while True:
            await asyncio.sleep(RENEW_SECONDS)
            now = time.monotonic()
            for key, (deadline, group, seat) in list(self._unheard.items()):
                if deadline < now:
                    del self._unheard[key]
                    self._alone(group, seat, key[1])
            living = await self._counts.living()
            if living is None:
                could_see = False
            else:
                # After an outage others may be back a moment later than this node.
                seen = living if could_see else [*self._seen, *living]
                self._seen.update(dict.fromkeys(seen, time.monotonic()))
                could_see = True
                self._bury()
            if self._counts.times_told != told:
                # Twice: others may have to note theirs first.
                told, compare_at = self._counts.times_told, now + LEASE_SECONDS / 2
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
