"""Presence on nodes that share a Redis. Loop thread only.

Every change is an event that is sent to the group of the channel. It takes effect on each node when it arrives there,
also on the node that sent it, which gives all nodes the same order of changes. A node that needs a new roster waits
until its own first event has come back: from then on it receives every event. Then it reads the seats that the other
nodes have written to Redis.

While Redis is unreachable, changes on this node take effect here immediately. When Redis is back, each node writes all
its seats again and compares its rosters.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from realtime.base import tasks
from realtime.base.portions import Portions
from realtime.cluster.redis_connection_counts import (
    LEASE_SECONDS,
    RENEW_SECONDS,
    REWRITE_RENEWALS,
    RedisConnectionCounts,
)
from realtime.fanout.hub import Member
from realtime.presence.local import Presence
from realtime.presence.seats import Seat, SeatId
from realtime.protocols.presence import Identity

EVENT = "presence.change"
# The interval at which rosters are compared with the seats in Redis, in case an event was lost, in seconds.
COMPARE_SECONDS = 20.0
# How long the members of a node stay after its lease has expired or was lost with Redis, in seconds. If the node renews
# the lease in time, they do not leave.
GRACE_SECONDS = 4.0
# How long an event of this node may take to come back, in seconds. After that it takes effect here anyway.
ECHO_SECONDS = 2.0
# How many groups are read from Redis in one request.
GROUPS_AT_ONCE = 50


class RedisPresence(Presence):
    """The rosters of all channels, on nodes that share a Redis.

    Args:
        node_id: the ID of this node.
        max_backlog_bytes: the backlog above which a client is disconnected; events wait long before that.
        counts: stores the seats in Redis, and knows which nodes are alive.
        send: sends an event to all nodes in a group.
    """

    def __init__(
        self,
        node_id: str,
        max_backlog_bytes: int,
        counts: RedisConnectionCounts,
        send: Callable[[str, dict[str, Any]], None],
    ) -> None:
        super().__init__(node_id, max_backlog_bytes)
        self._counts = counts
        self._send = send
        self._changes: list[_Change] = []
        self._changed = asyncio.Event()
        # Events of this node that have not come back yet, with their deadlines.
        self._returning: dict[tuple[SeatId, bool], tuple[float, str, Seat]] = {}
        # Changes that wait until the seats of their group have been read from Redis.
        self._held: dict[str, list[tuple[Seat, bool]]] = {}
        self._reading: dict[str, asyncio.Task[None]] = {}
        self._last_seen: dict[str, float] = {}  # when each node was last known to be alive
        self._compare_soon = False
        self._announced_rewrites = counts.rewrites
        self._seat_portions = Portions(self._all_seats, REWRITE_RENEWALS)
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        self._tasks = [
            tasks.keep("writing presence", self._write_changes),
            tasks.keep("checking presence", self._check),
        ]

    async def stop(self) -> None:
        await tasks.end([*self._tasks, *self._reading.values()])
        await self._write()

    def receive(self, event: dict[str, Any]) -> None:
        """Receive an event from a channel's group, sent by any node."""
        seat = Seat(event["node"], event["number"], event["place"], Identity.from_json(event["uuid"], event["json"]))
        self._returning.pop((seat.id, event["joined"]), None)
        self._last_seen[seat.node_id] = time.monotonic()
        self._receive_change(event["group"], seat, event["joined"])

    def leave(self, group: str, member: Member) -> None:
        super().leave(group, member)
        if group not in self._rosters:
            self._held.pop(group, None)

    async def uuids(self, groups: Sequence[str]) -> list[set[str]] | None:
        found = await super().uuids(groups) or []
        for start in range(0, len(groups), GROUPS_AT_ONCE):
            elsewhere = await self._counts.seats.of_groups(groups[start : start + GROUPS_AT_ONCE])
            living = await self._counts.living_nodes()
            if elsewhere is None or living is None or not {*living} - {self._node_id} <= {*elsewhere[1]}:
                return None
            for uuids, seats in zip(found[start:], elsewhere[0], strict=False):
                uuids.update(_seat(seat).identity.uuid for seat in seats)
        return found

    async def _seats(self, group: str) -> list[Seat]:
        elsewhere, _ = await self._counts.seats.of_group(group) or ([], [])
        return [*await super()._seats(group), *map(_seat, elsewhere)]

    def _prepare(self, group: str) -> None:
        self._held[group] = []

    def _announce(self, group: str, seat: Seat, *, joined: bool) -> None:
        self._changes.append(_Change(group, seat, joined))
        self._changed.set()

    def _receive_change(self, group: str, seat: Seat, joined: bool) -> None:
        held = self._held.get(group)
        if held is None:
            self._apply(group, seat, joined)
            return
        held.append((seat, joined))
        if seat.node_id == self._node_id and group not in self._reading:
            # This node now receives every event, so the seats in Redis and later events are complete.
            self._reading[group] = asyncio.create_task(self._read(group))

    async def _read(self, group: str) -> None:
        """Update a roster to the seats in Redis, and then apply the changes that have arrived meanwhile."""
        written = await self._counts.seats.of_group(group)
        held, roster = self._held.pop(group, []), self._rosters.get(group)
        del self._reading[group]
        if roster is None:
            return
        if written is not None:
            fields, complete_nodes = written
            seats = [_seat(seat) for seat in fields]
            present = {seat.id for seat in seats}
            for seat in roster.seats():
                if seat.node_id == self._node_id or seat.id in present:
                    continue
                if seat.node_id in complete_nodes:
                    roster.remove(seat.id)
                else:  # the node writes its seats again, or it is dead, which its lease tells
                    self._compare_soon = True
            for seat in sorted(seats, key=lambda seat: seat.place):
                self._apply(group, seat, True)
        for seat, joined in held:
            self._apply(group, seat, joined)

    async def _write_changes(self) -> None:
        while True:
            await self._changed.wait()
            self._changed.clear()
            await self._write()

    async def _write(self) -> None:
        """Write the changes to Redis and then announce them, in order. Without Redis, apply them on this node only."""
        changes, self._changes = self._changes, []
        rewrites = self._counts.rewrites
        is_written = await self._counts.seats.write(
            [(group, seat.number, _fields(seat) if joined else None) for group, seat, joined in changes],
            {change.group for change in changes if change.group not in self._local_seats},
        )
        if is_written and rewrites == self._counts.rewrites == self._announced_rewrites:
            self._counts.seats.are_complete = True
        deadline = time.monotonic() + ECHO_SECONDS
        for group, seat, joined in changes:
            if is_written:
                self._returning[seat.id, joined] = deadline, group, seat
                self._send(group, _event(group, seat, joined))
            else:
                self._apply_here(group, seat, joined)

    def _apply_here(self, group: str, seat: Seat, joined: bool) -> None:
        """Apply a change on this node, without waiting for other nodes."""
        for held_seat, held_joined in self._held.pop(group, []):
            self._apply(group, held_seat, held_joined)
        self._apply(group, seat, joined)

    async def _check(self) -> None:
        """Handle events that do not come back, nodes that have died, and outages of Redis."""
        compare_at, was_reachable = time.monotonic() + COMPARE_SECONDS, True
        while True:
            await asyncio.sleep(RENEW_SECONDS)
            now = time.monotonic()
            for key, (deadline, group, seat) in list(self._returning.items()):
                if deadline < now:
                    del self._returning[key]
                    self._apply_here(group, seat, key[1])
            living = await self._counts.living_nodes()
            if living is None:
                was_reachable = False
            else:
                # After an outage, other nodes may reconnect a little later than this node.
                alive = living if was_reachable else [*self._last_seen, *living]
                self._last_seen.update(dict.fromkeys(alive, time.monotonic()))
                was_reachable = True
                self._remove_dead_nodes()
            await self._counts.seats.write(
                [
                    (group, seat.number, _fields(seat))
                    for group, seat in self._seat_portions.take()
                    if seat.number in self._members
                ],
                [],
            )
            if self._counts.rewrites != self._announced_rewrites:
                # Compare now and again later, since other nodes may not have written their seats yet.
                self._announced_rewrites, compare_at = self._counts.rewrites, now + LEASE_SECONDS / 2
                self._announce_all()
                self._changed.set()  # also without any seats: this node has then written all of them
                self.compare()
            elif compare_at < now or self._compare_soon:
                self._compare_soon = False
                compare_at = now + COMPARE_SECONDS
                self.compare()

    def _remove_dead_nodes(self) -> None:
        """Remove the seats of nodes that have died."""
        oldest = time.monotonic() - GRACE_SECONDS
        dead = {node_id for node_id, seen in self._last_seen.items() if seen < oldest and node_id != self._node_id}
        for node_id in dead:
            del self._last_seen[node_id]
        for roster in self._rosters.values() if dead else ():
            for seat in roster.seats():
                if seat.node_id in dead:
                    roster.remove(seat.id)

    def _all_seats(self) -> list[tuple[str, Seat]]:
        return [(group, seat) for group, seats in self._local_seats.items() for seat in seats.values()]

    def _announce_all(self) -> None:
        for group, seat in self._all_seats():
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
    return Seat(node_id, number, place, Identity.from_json(uuid, json))
