"""One server process: its connections, their rooms, and its place on the channel layer.

The node alone changes hub and bus, in the right order on both. All of it belongs to the loop thread; the one door for
other threads is `Node.call`.
"""

import asyncio
import gc
import logging
import uuid
from collections import Counter
from collections.abc import Awaitable, Callable
from contextvars import Context
from typing import Any

from channels.db import database_sync_to_async
from channels.layers import get_channel_layer
from django.conf import settings

from accounts.key_access import KeyAccess
from accounts.usage import record_messages

from . import stopping
from .admission import Admission
from .bus import Bus
from .closes import OVER_CAPACITY, QUOTA_USED_UP, RESTARTING, TOO_MANY_OF_ADDRESS, Close, Refusal
from .conf import conf
from .frames import Frames, Message, frame_size
from .hub import Hub, Member, Room
from .keys import KeyCache, load_key
from .lag import Lag
from .limits import AccountUse, Attempts, Bucket, Limits, connection_quotas
from .outlets import Outlet
from .presence import EVENT as PRESENCE_EVENT
from .presence import Presence, RedisPresence
from .redis_shares import RedisShares
from .shares import Place, Shares
from .tally import Tally
from .turns import turns

logger = logging.getLogger(__name__)

# How many connections a stopping node closes in a second at least: few do not take as long as many.
DRAIN_RATE = 100
# How long it waits then for clients to answer the close frame, in seconds.
GOODBYE_SECONDS = 3.0


class Connection(Member):
    """One admitted connection."""

    __slots__ = (
        "admission",
        "allows_client_messages",
        "bucket",
        "ended",
        "max_frame_bytes",
        "network",
        "place",
        "room",
        "use",
    )

    def __init__(
        self, admission: Admission, outlet: Outlet, network: str | None, place: Place, use: AccountUse
    ) -> None:
        super().__init__(outlet, echo=admission.notify_self)
        self.admission = admission
        self.network = network
        self.place = place
        self.use = use
        self.room: Room | None = None
        self.ended: Close | None = None
        self.bucket = Bucket(admission.access.quotas.messages_per_second)
        self.take_settings(admission.access)

    def take_settings(self, access: KeyAccess) -> None:
        """Be as the key's settings are now."""
        self.allows_client_messages = access.allows_client_messages
        self.bucket.set_rate(access.quotas.messages_per_second)
        max_message_bytes = message_limit(access)
        self.max_frame_bytes = frame_size(max_message_bytes)
        self.outlet.limit_messages(max_message_bytes)

    def send(self, message: Message) -> None:
        """Send a message to this connection alone, after all that was sent to it before."""
        self.flush()
        self.outlet.deliver(message)

    def flush(self) -> None:
        """Deliver what waits for the end of this turn of the loop now."""
        if self.room is not None:
            self.room.flush()


def message_limit(access: KeyAccess) -> int:
    """The largest message that a key lets through, in bytes."""
    quota, limit = access.quotas.message_bytes, conf().max_message_bytes
    return limit if quota is None else min(quota, limit)


class Node:
    """What one process serves. Made by `current_node`."""

    def __init__(self) -> None:
        self.id = uuid.uuid4().hex
        self.loop = asyncio.get_running_loop()
        self.lag = Lag()
        self.tally = Tally()
        self.hub = Hub(self.loop.call_soon, self.tally)
        self.keys = KeyCache(load_key, conf().key_cache_seconds)
        on_round_trip = self.tally.round_trip_seconds.observe
        self.bus = Bus(get_channel_layer(), self.id, self._deliver, self.react, on_round_trip)
        self.shares: Shares
        self.presence: Presence
        if settings.REDIS_URLS:
            self.shares = shares = RedisShares(settings.REDIS_URLS[0], self.id)
            self.presence = RedisPresence(self.id, conf().max_backlog_bytes, shares, self.bus.send)
        else:
            self.shares = Shares()
            self.presence = Presence(self.id, conf().max_backlog_bytes)
        self.limits = Limits(database_sync_to_async(record_messages))
        self.connections: set[Connection] = set()
        self._of_network: Counter[str | None] = Counter()
        self._attempts = Attempts(conf().connects_per_minute_per_address)
        self.is_draining = self._is_hurried = False

    def start(self) -> None:
        """Begin to listen to other nodes, and to the order to stop."""
        self.lag.start()
        self.bus.start()
        self.shares.start()
        self.limits.start()
        self.presence.start()
        # What was loaded until now lives as long as the process. To look through it for garbage again and again would
        # keep everybody waiting, 40 ms each time.
        gc.freeze()
        turns.before = self.hub.flush
        stopping.before_stop(self.drain, self.hurry)

    @property
    def redis_is_reachable(self) -> bool | None:
        """Whether this node and others hear each other and count together, as far as it knows; None without Redis."""
        return self.shares.is_reachable and self.bus.is_reachable if settings.REDIS_URLS else None

    def check_capacity(self) -> None:
        """
        Raises:
            Refusal: this node takes no further connection now.
        """
        if self.is_draining:
            raise Refusal(RESTARTING)
        if len(self.connections) >= conf().max_connections:
            raise Refusal(OVER_CAPACITY)

    def check_address(self, network: str | None) -> None:
        """Count an attempt to connect.

        Raises:
            Refusal: its address has too many connections, or tries too often.
        """
        if network is not None and (
            self._attempts.note(network) or self._of_network[network] >= conf().max_connections_per_address
        ):
            raise Refusal(TOO_MANY_OF_ADDRESS)

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
        place = self.shares.enter(admission.channel, connection_quotas(admission.access))
        if place is None:
            raise Refusal(QUOTA_USED_UP)
        connection = Connection(admission, outlet, network, place, self.limits.open(admission.access))
        self.connections.add(connection)
        self._of_network[network] += 1
        self.tally.opened += 1
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
        if not await self.shares.may_stay(connection.place) and connection.ended is None:
            self.tally.refusals[QUOTA_USED_UP.reason] += 1
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
                self.tally.refusals[refusal.close.reason] += 1
                self.end(connection, refusal.close)

    def leave(self, connection: Connection) -> None:
        """Forget a connection. Harmless at any time, also if it never joined."""
        if connection not in self.connections:
            return
        self.connections.remove(connection)
        admission = connection.admission
        self.shares.leave(connection.place)
        self.limits.close(admission.access)
        self._of_network[connection.network] -= 1
        if not self._of_network[connection.network]:
            del self._of_network[connection.network]
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
        self.tally.published += 1
        room = self.hub.rooms.get(group)
        if room is not None:
            self.hub.publish(room, message)
        self.bus.publish(group, message)

    def call(self, function: Callable[..., object], *args: Any) -> None:
        """Run a function on the loop, soon. The only method for other threads."""
        # The caller's context would bind what is awaited there to the caller's thread, which may end first.
        self.loop.call_soon_threadsafe(function, *args, context=Context())

    async def drain(self) -> None:
        """Take no connection any more, close those that are open (1012) one after the other, and leave the others."""
        self.is_draining = True
        stopping.stop_listening()
        connections = list(self.connections)
        seconds = min(conf().drain_seconds, len(connections) / DRAIN_RATE)
        if connections:
            logger.info("Closing %d connections within %.1f s.", len(connections), seconds)
        begun = self.loop.time()
        for number, connection in enumerate(connections):
            due = begun + seconds * number / len(connections)
            while self.loop.time() < due and not self._is_hurried:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
            self._dismiss(connection)
        deadline = self.loop.time() + GOODBYE_SECONDS
        outlets = [connection.outlet for connection in connections]
        while self.loop.time() < deadline and not all(outlet.is_gone for outlet in outlets):  # noqa: ASYNC110
            await asyncio.sleep(0.02)
        await self.limits.stop()
        await self.presence.stop()
        await self.shares.stop()
        await self.bus.stop()
        await self.lag.stop()

    def hurry(self) -> None:
        """Close at once what is to be drained."""
        self._is_hurried = True

    def _dismiss(self, connection: Connection) -> None:
        """Ask a client to come back elsewhere. What it has sent before it hears of that is distributed still."""
        if connection.ended is None:
            room = connection.room
            self.end(connection, RESTARTING)
            connection.room = room

    def react(self, event: dict[str, Any]) -> None:
        """Do what an event of other nodes asks for."""
        reaction = reactions.get(event["type"])
        if reaction is None:
            logger.warning("Nothing here reacts to the event %r.", event["type"])
        else:
            reaction(self, event)

    def change(self, connection: Connection, access: KeyAccess) -> None:
        """Apply changed settings of a key to one of its connections."""
        self.limits.account(access)  # takes the account's quota over
        connection.take_settings(access)

    def _deliver(self, group: str, messages: Message | Frames) -> None:
        room = self.hub.rooms.get(group)
        if room is not None:
            self.hub.publish(room, messages)


def _hear_of_presence(node: Node, event: dict[str, Any]) -> None:
    if isinstance(node.presence, RedisPresence):
        node.presence.hear(event)


# What a node does at an event of other nodes, by the event's type.
reactions: dict[str, Callable[[Node, dict[str, Any]], None]] = {PRESENCE_EVENT: _hear_of_presence}

# Called with a node when it has started.
beginnings: list[Callable[[Node], None]] = []

_node: Node | None = None


def current_node() -> Node:
    """The node of this process, started by the first call. Loop thread only."""
    global _node  # noqa: PLW0603  (one a process)
    if _node is None or _node.loop is not asyncio.get_running_loop():
        _node = Node()
        _node.start()
        for begin in beginnings:
            begin(_node)
    return _node


def running_node() -> Node | None:
    """The node of this process if it serves any connections; for other threads, which may use `Node.call` alone."""
    return _node
