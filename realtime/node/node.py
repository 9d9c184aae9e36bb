"""One server process: its connections, their rooms, and its place on the channel layer.

The node alone changes hub and bus, in the right order on both. Everything here belongs to the loop thread; other
threads may use `Node.call` only.
"""

import asyncio
import gc
import logging
import uuid
from collections.abc import Awaitable, Callable
from contextvars import Context
from typing import Any

from channels.db import database_sync_to_async
from channels.layers import get_channel_layer
from django.conf import settings

from accounts.key_access import KeyAccess
from accounts.usage import record_messages
from realtime.cluster import bus
from realtime.cluster.bus import Bus
from realtime.cluster.connection_counts import ConnectionCounts
from realtime.cluster.redis_connection_counts import RedisConnectionCounts
from realtime.conf import conf
from realtime.fanout.hub import Hub, Room
from realtime.fanout.outlets import Outlet
from realtime.metrics.counters import Counters
from realtime.metrics.lag import Lag
from realtime.node import access_changes
from realtime.node.access_changes import AccessChanges
from realtime.node.connections import Connection
from realtime.node.key_cache import KeyCache, load_key
from realtime.node.message_quotas import MessageQuotas, connection_quotas
from realtime.node.shutdown import Shutdown
from realtime.presence import shared as shared_presence
from realtime.presence.local import Presence
from realtime.presence.shared import RedisPresence
from realtime.protocols.admission import Admission
from realtime.protocols.closes import OVER_CAPACITY, QUOTA_USED_UP, RESTARTING, Close, Refusal
from realtime.protocols.frames import Frames, Message
from realtime.server import signals
from realtime.server.addresses import address_limits
from realtime.server.fair_scheduling import scheduler

logger = logging.getLogger(__name__)


class Node:
    """What one process serves. Made by `current_node`."""

    def __init__(self) -> None:
        self.id = uuid.uuid4().hex
        self.loop = asyncio.get_running_loop()
        self.lag = Lag()
        self.counters = Counters()
        self.hub = Hub(self.loop.call_soon, self.counters)
        self.keys = KeyCache(load_key, conf().key_cache_seconds)
        on_round_trip = self.counters.round_trip_seconds.observe
        self.bus = Bus(get_channel_layer(), self.id, self._deliver, self.react, on_round_trip)
        self.counts: ConnectionCounts
        self.presence: Presence
        if settings.REDIS_URLS:
            self.counts = counts = RedisConnectionCounts(settings.REDIS_URLS[0], self.id)
            self.presence = RedisPresence(self.id, conf().max_backlog_bytes, counts, self.bus.send)
        else:
            self.counts = ConnectionCounts()
            self.presence = Presence(self.id, conf().max_backlog_bytes)
        self.message_quotas = MessageQuotas(database_sync_to_async(record_messages))
        self.connections: set[Connection] = set()
        self.access_changes = AccessChanges(self.keys, self.connections, self.end, self._change)
        self._shutdown = Shutdown(
            self.connections,
            self._dismiss,
            [self.message_quotas.stop, self.presence.stop, self.counts.stop, self.bus.stop, self.lag.stop],
        )

    def start(self) -> None:
        """Begin to listen to other nodes, and to the order to stop."""
        self.lag.start()
        self.bus.start()
        self.counts.start()
        self.message_quotas.start()
        self.presence.start()
        # What was loaded until now lives as long as the process. To look through it for garbage again and again would
        # keep everybody waiting, 40 ms each time.
        gc.freeze()
        scheduler.before = self.hub.flush
        signals.before_stop(self._shutdown.drain, self._shutdown.hurry)

    @property
    def redis_is_reachable(self) -> bool | None:
        """Whether this node and others hear each other and count together, as far as it knows; None without Redis."""
        return self.counts.is_reachable and self.bus.is_reachable if settings.REDIS_URLS else None

    @property
    def is_draining(self) -> bool:
        """Whether the node is shutting down and accepts no further connections."""
        return self._shutdown.has_begun

    def check_capacity(self) -> None:
        """
        Raises:
            Refusal: this node takes no further connection now.
        """
        if self.is_draining:
            raise Refusal(RESTARTING)
        if len(self.connections) >= conf().max_connections:
            raise Refusal(OVER_CAPACITY)

    def open(self, admission: Admission, outlet: Outlet, network: str | None) -> Connection:
        """Make a connection, which counts from now on until it leaves.

        Args:
            admission: what it may do.
            outlet: the way to the client.
            network: where it comes from.

        Raises:
            Refusal: the node or a quota has no room for it.
        """
        self.check_capacity()
        place = self.counts.enter(admission.channel, connection_quotas(admission.access))
        if place is None:
            raise Refusal(QUOTA_USED_UP)
        connection = Connection(admission, outlet, network, place, self.message_quotas.open(admission.access))
        self.connections.add(connection)
        address_limits.open(network)
        self.counters.opened += 1
        return connection

    async def join(self, connection: Connection, accept: Callable[[], Awaitable[None]]) -> None:
        """Make a connection a member of its channel.

        It hears every message that is sent after its client has heard that it is open, on whatever node.

        Args:
            connection: not yet accepted.
            accept: tells the client that it is open.
        """
        admission = connection.admission
        await self.bus.join(admission.group)
        if not await self.counts.may_stay(connection.place) and connection.ended is None:
            self.counters.refusals[QUOTA_USED_UP.reason] += 1
            connection.ended = QUOTA_USED_UP
        await accept()
        if connection.ended is not None:  # its access may have been withdrawn while it waited
            self.leave(connection)
            connection.outlet.close(connection.ended)
            return
        connection.room = self.hub.join(admission.group, connection)
        if admission.identity is not None:
            try:
                self.presence.join(admission.group, connection, admission.identity)
            except Refusal as refusal:
                self.counters.refusals[refusal.close.reason] += 1
                self.end(connection, refusal.close)

    def leave(self, connection: Connection) -> None:
        """Forget a connection. Harmless at any time, also if it never joined."""
        if connection not in self.connections:
            return
        self.connections.remove(connection)
        admission = connection.admission
        self.counts.leave(connection.place)
        self.message_quotas.close(admission.access)
        address_limits.close(connection.network)
        room, connection.room = connection.room, None
        if room is not None:
            self.hub.leave(room, connection)
            if admission.identity is not None:
                self.presence.leave(admission.group, connection)
        self.bus.leave(admission.group)

    def end(self, connection: Connection, close: Close) -> None:
        """Close a connection from this side. It counts no longer, sends nothing and receives nothing any more."""
        connection.ended = close
        if connection.room is not None:
            connection.flush()
            self.leave(connection)
            connection.outlet.close(close)

    def publish(self, room: Room, message: Message, sender: Connection) -> None:
        """Send a client's message to its channel, here and on other nodes."""
        self.hub.publish(room, message, sender)
        self.bus.publish(room.name, message)

    def publish_to(self, group: str, message: Message) -> None:
        """Send a server's message to a channel, here and on other nodes."""
        self.counters.published += 1
        room = self.hub.rooms.get(group)
        if room is not None:
            self.hub.publish(room, message)
        self.bus.publish(group, message)

    def call(self, function: Callable[..., object], *args: Any) -> None:
        """Run a function on the loop, soon. The only method for other threads."""
        # The caller's context would bind what is awaited there to the caller's thread, which may end first.
        self.loop.call_soon_threadsafe(function, *args, context=Context())

    def _dismiss(self, connection: Connection) -> None:
        """Ask a client to come back elsewhere. What it has sent before it hears of that is distributed still."""
        if connection.ended is None:
            room = connection.room
            self.end(connection, RESTARTING)
            connection.room = room

    def react(self, event: dict[str, Any]) -> None:
        """Do what an event of another node, or of the bus itself, asks for."""
        match event["type"]:
            case access_changes.EVENT:
                self.access_changes.apply(event)
            case bus.INTERRUPTED:
                self.presence.compare()
                self.access_changes.check_all()
            case shared_presence.EVENT if isinstance(self.presence, RedisPresence):
                self.presence.receive(event)
            case unknown:
                logger.warning("Nothing here reacts to the event %r.", unknown)

    def _change(self, connection: Connection, access: KeyAccess) -> None:
        """Apply changed settings of a key to one of its connections."""
        self.message_quotas.account(access)  # takes the account's quota over
        connection.take_settings(access)

    def _deliver(self, group: str, messages: Message | Frames) -> None:
        room = self.hub.rooms.get(group)
        if room is not None:
            self.hub.publish(room, messages)


on_start: list[Callable[[Node], None]] = []
"""Functions that are called with the node when it has started."""

_node: Node | None = None


def current_node() -> Node:
    """The node of this process, started by the first call. Loop thread only."""
    global _node  # noqa: PLW0603  (one a process)
    if _node is None or _node.loop is not asyncio.get_running_loop():
        _node = Node()
        _node.start()
        for function in on_start:
            function(_node)
    return _node


def running_node() -> Node | None:
    """The node of this process if it serves any connections; for other threads, which may use `Node.call` alone."""
    return _node
