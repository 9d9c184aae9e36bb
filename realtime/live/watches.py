"""The clusters that somebody watches now, on all nodes. Loop thread only.

A page that watches a cluster is connected to one node. That node tells all nodes what the page wants to see, which is a
lease: it expires unless the page renews it. Every node then filters and samples its own events, and sends batches of
them to the group of the cluster, which the nodes with such pages have joined.

A node with nothing to report looks at `watched`, which is empty, and does nothing else.
"""

import asyncio
import time
import uuid
from collections.abc import Callable
from typing import Any

from realtime.base.tasks import KeptTask
from realtime.cluster.bus import CONTROL_GROUP, Bus
from realtime.live.viewers import (
    EVENTS_PER_SECOND,
    REFUSAL,
    REFUSALS_PER_SECOND,
    Allowance,
    Build,
    Counts,
    Subject,
    Terms,
    Viewer,
)

PREFIX = "live."
"""Begins the types of the events between nodes."""
WATCH, UNWATCH, EVENTS = f"{PREFIX}watch", f"{PREFIX}unwatch", f"{PREFIX}events"
LEASE_SECONDS = 30.0
"""How long a page is served after it has last asked for it."""
MAX_VIEWERS = 5
"""How many pages may watch a cluster."""
BATCH_SECONDS = 0.2


class Watch:
    """A cluster that is watched."""

    __slots__ = ("account_id", "cluster_id", "cluster_pk", "viewers")

    def __init__(self, cluster_pk: int, cluster_id: str, account_id: int) -> None:
        self.cluster_pk = cluster_pk
        self.cluster_id = cluster_id
        self.account_id = account_id
        self.viewers: dict[str, Viewer] = {}

    def report(self, kind: str, subject: Subject, build: Build) -> None:
        """Offer an event to all viewers."""
        for viewer in self.viewers.values():
            viewer.offer(kind, subject, build)


class View:
    """A page that is connected to this node, and the events of all nodes that it has not got yet."""

    def __init__(self, cluster_pk: int, cluster_id: str, account_id: int) -> None:
        self.id = uuid.uuid4().hex
        self.cluster_pk = cluster_pk
        self.cluster_id = cluster_id
        self.account_id = account_id
        self.counts = Counts()
        self._refusals: list[dict[str, Any]] = []
        self._others: list[dict[str, Any]] = []
        now = time.monotonic()
        self._allowed = (Allowance(REFUSALS_PER_SECOND, now), Allowance(EVENTS_PER_SECOND, now))

    def receive(self, batch: dict[str, Any]) -> None:
        """Receive a batch of a node."""
        for event in batch["events"]:
            (self._refusals if event["kind"] == REFUSAL else self._others).append(event)
        self.counts.add(batch["counts"])

    def take(self) -> list[dict[str, Any]]:
        """Return the events that have arrived since the last call, in the order of time: a share, if there are many."""
        now = time.monotonic()
        for allowed in self._allowed:
            allowed.renew(now)
        refusals, others = _share(self._refusals, self._allowed[0]), _share(self._others, self._allowed[1])
        self.counts.unshown_refusals += len(self._refusals) - len(refusals)
        self._refusals, self._others = [], []
        return sorted([*refusals, *others], key=lambda event: event["at"])


class Watches:
    """All watched clusters, and the pages that are connected to this node."""

    def __init__(self, node_id: str, bus: Bus, clock: Callable[[], float] = time.monotonic) -> None:
        """
        Args:
            node_id: the ID of this node.
            bus: sends events to other nodes.
            clock: returns the time, in seconds.
        """
        self._node_id = node_id
        self._bus = bus
        self._clock = clock
        self.watched: dict[int, Watch] = {}
        """The watched clusters, by primary key."""
        self._views: dict[str, View] = {}
        self._is_watched = asyncio.Event()
        self._sending = KeptTask("sending live events", self._run)

    def start(self) -> None:
        """Start to send batches."""
        self._sending.start()

    async def stop(self) -> None:
        """Stop sending batches."""
        await self._sending.stop()

    def find(self, cluster_pk: int | None, cluster_id: str | None) -> Watch | None:
        """Return the watch of a cluster by its primary key, or by its Cluster ID; None if nobody watches it."""
        if cluster_pk is not None:
            return self.watched.get(cluster_pk)
        return next((watch for watch in self.watched.values() if watch.cluster_id == cluster_id), None)

    def has_room(self, cluster_pk: int) -> bool:
        """Return whether another page may watch a cluster."""
        watch = self.watched.get(cluster_pk)
        return watch is None or len(watch.viewers) < MAX_VIEWERS

    async def open(self, view: View, terms: Terms) -> None:
        """Serve a page until its lease expires or `close`, which undoes this."""
        self._views[view.id] = view
        await self._bus.join(_group(view.cluster_pk))
        self.renew(view, terms)

    def renew(self, view: View, terms: Terms) -> None:
        """Renew the lease of a page, and apply what it wants to see now."""
        event = {
            "type": WATCH,
            "viewer": view.id,
            "node": self._node_id,
            "cluster_pk": view.cluster_pk,
            "cluster_id": view.cluster_id,
            "account_id": view.account_id,
            "terms": [list(terms.kinds), terms.text, list(terms.keys), terms.content],
        }
        self.receive(event)
        self._bus.send(CONTROL_GROUP, event)

    def close(self, view: View) -> None:
        """Stop serving a page."""
        del self._views[view.id]
        self._bus.leave(_group(view.cluster_pk))
        event = {"type": UNWATCH, "viewer": view.id, "cluster_pk": view.cluster_pk}
        self.receive(event)
        self._bus.send(CONTROL_GROUP, event)

    def receive(self, event: dict[str, Any]) -> None:
        """Receive an event of this package, from any node."""
        match event["type"]:
            case kind if kind == WATCH:
                self._add(event)
            case kind if kind == UNWATCH:
                self._remove(event["cluster_pk"], event["viewer"])
            case _ if (view := self._views.get(event["viewer"])) is not None:
                view.receive(event)

    def _add(self, event: dict[str, Any]) -> None:
        watch = self.watched.get(event["cluster_pk"])
        if watch is None:
            watch = Watch(event["cluster_pk"], event["cluster_id"], event["account_id"])
            self.watched[watch.cluster_pk] = watch
            self._is_watched.set()
        now, (kinds, text, keys, content) = self._clock(), event["terms"]
        terms = Terms(frozenset(kinds), text, frozenset(keys), content)
        viewer = watch.viewers.get(event["viewer"])
        if viewer is None:
            viewer = watch.viewers[event["viewer"]] = Viewer(event["node"], terms, now)
        viewer.terms, viewer.expires_at = terms, now + LEASE_SECONDS

    def _remove(self, cluster_pk: int, viewer_id: str) -> None:
        watch = self.watched.get(cluster_pk)
        if watch is not None:
            watch.viewers.pop(viewer_id, None)
            if not watch.viewers:
                del self.watched[cluster_pk]

    async def _run(self) -> None:
        while True:
            await self._is_watched.wait()
            while self.watched:
                await asyncio.sleep(BATCH_SECONDS)
                self.send()
            self._is_watched.clear()

    def send(self) -> None:
        """Send to each page what this node has for it, and end the leases that have expired."""
        now = self._clock()
        for watch in list(self.watched.values()):
            for viewer_id, viewer in list(watch.viewers.items()):
                if now >= viewer.expires_at:
                    self._remove(watch.cluster_pk, viewer_id)
                elif (taken := viewer.take(now)) is not None:
                    events, counts = taken
                    event = {"type": EVENTS, "viewer": viewer_id, "events": events, "counts": counts}
                    if viewer.node_id == self._node_id:
                        self.receive(event)
                    else:
                        self._bus.send(_group(watch.cluster_pk), event)


def _group(cluster_pk: int) -> str:
    """Return the group of the nodes with pages that watch a cluster."""
    return f"live.{cluster_pk}"


def _share(events: list[dict[str, Any]], allowed: Allowance) -> list[dict[str, Any]]:
    """Return as many of these events as are allowed now, evenly spread."""
    size = len(events)
    count = min(size, allowed.left)
    for _ in range(count):
        allowed.take()
    return [events[index * size // count] for index in range(count)] if count else []
