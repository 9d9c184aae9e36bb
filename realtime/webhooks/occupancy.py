"""Which channels are occupied, for webhooks. Loop thread only.

What each webhook was told last is in the database, and only a difference is reported. So it does not matter which node
notices a change, or whether several do. A connection that joins proves that its channel is occupied. A channel that
this node has left is vacated if no node has a connection some seconds later. One node also compares all channels
regularly, which finds those of nodes that have died.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping

from accounts.webhooks.states import Endpoints
from realtime.cluster.connection_counts import ConnectionCounts
from realtime.protocols.channels import Channel

VACANT_SECONDS = 3.0
"""How long a channel is empty until it counts as vacated."""
COMPARE_SECONDS = 10.0
COUNT_SECONDS = 3.0
_COUNTED_AT_ONCE = 1_000


class Occupancy:
    """The channels of this node whose state may have changed."""

    def __init__(
        self,
        node_id: str,
        endpoints: Endpoints,
        counts: ConnectionCounts,
        record: Callable[[int, Mapping[str, bool]], Awaitable[None]],
        occupied: Callable[[int], Awaitable[list[tuple[int, str]]]],
    ) -> None:
        """
        Args:
            node_id: the ID of this node.
            endpoints: the current webhooks, which somebody else keeps up to date.
            counts: counts connections on all nodes.
            record: tells the webhooks of a cluster whether channels are occupied.
            occupied: returns the channels of a cluster that webhooks believe to be occupied.
        """
        self._node_id = node_id
        self._endpoints = endpoints
        self._counts = counts
        self._record = record
        self._occupied = occupied
        self._joined: set[Channel] = set()
        self._left: dict[Channel, float] = {}  # and when to count them
        self._known: set[Channel] = set()  # occupied, and recorded
        # Not immediately: after a restart, clients need a moment to connect again.
        self._compare_at = time.monotonic() + COMPARE_SECONDS

    def join(self, channel: Channel) -> None:
        """Note that a connection has joined a channel of a cluster with webhooks."""
        self._left.pop(channel, None)
        if channel not in self._known:
            self._joined.add(channel)

    def leave(self, channel: Channel) -> None:
        """Note that a connection has left a channel of a cluster with webhooks."""
        if not self._counts.count_here(channel):
            self._known.discard(channel)
            self._left[channel] = time.monotonic() + VACANT_SECONDS

    def change_endpoints(self) -> None:
        """Compare all channels soon, because the webhooks have changed."""
        self._known.clear()
        self._compare_at = min(self._compare_at, time.monotonic() + 1)

    async def write(self) -> None:
        """Report what has changed.

        Raises:
            django.db.Error: it is reported later.
        """
        joined, self._joined = self._joined, set()
        try:
            await self._write(joined, occupied=True)
        except BaseException:
            self._joined |= joined
            raise
        self._known |= {channel for channel in joined if self._counts.count_here(channel)}
        now = time.monotonic()
        due = [channel for channel, at in self._left.items() if at <= now][:_COUNTED_AT_ONCE]
        if due and (empty := await self._empty_ones(due)) is not None:
            await self._write(empty, occupied=False)
            for channel in due:
                # It may have been left again in the meantime.
                if self._left.get(channel, now + 1) <= now:
                    del self._left[channel]
        if now >= self._compare_at:
            self._compare_at = now + COMPARE_SECONDS
            await self._compare()

    async def _write(self, channels: set[Channel], *, occupied: bool) -> None:
        by_cluster: dict[int, dict[str, bool]] = {}
        for cluster_pk, path in channels:
            if cluster_pk in self._endpoints:
                by_cluster.setdefault(cluster_pk, {})[path] = occupied
        for cluster_pk, states in by_cluster.items():
            await self._record(cluster_pk, states)

    async def _empty_ones(self, channels: list[Channel]) -> set[Channel] | None:
        """Return the channels without connections on any node; None if not all nodes can be counted now."""
        counted: dict[Channel, int] = {}
        done = asyncio.Event()

        def note(channel: Channel, connections: int) -> None:
            counted[channel] = connections
            if len(counted) == len(channels):
                done.set()

        for channel in channels:
            self._counts.count(channel, lambda connections, channel=channel: note(channel, connections))  # type: ignore[misc]
        try:
            async with asyncio.timeout(COUNT_SECONDS):
                await done.wait()
        except TimeoutError:
            return None
        if not self._counts.is_reachable:
            return None
        # Those that were joined in the meantime are no longer among the left ones.
        return {channel for channel, number in counted.items() if not number and channel in self._left}

    async def _compare(self) -> None:
        """Find differences between the channels of all nodes and what webhooks were told, if this node is to do so."""
        nodes = await self._counts.living_nodes()
        if nodes is None or (nodes and self._node_id != min(nodes)):
            return
        for cluster_pk, endpoints in list(self._endpoints.items()):
            told = set(await self._occupied(cluster_pk))
            current = dict(await self._counts.of_cluster(cluster_pk))
            if not self._counts.is_reachable:
                return  # these are the connections of this node only
            now = time.monotonic()
            for _, path in told:
                if path not in current:
                    self._left.setdefault((cluster_pk, path), now + VACANT_SECONDS)
            for path in current:
                if any(each.wants_states(path) and (each.pk, path) not in told for each in endpoints):
                    self._joined.add((cluster_pk, path))
