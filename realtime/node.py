"""One server process: its connections, their rooms, and its place on the channel layer.

The node alone changes hub and bus, in the right order on both. All of it belongs to the loop thread; the one door for
other threads is `Node.call`.
"""

import asyncio
import logging
import uuid
from collections.abc import Awaitable, Callable
from typing import Any

from channels.layers import get_channel_layer

from . import wire
from .admission import Admission
from .bus import Bus
from .closes import OVER_CAPACITY, RESTARTING, Close, Refusal
from .conf import conf
from .frames import Message
from .hub import Hub, Member, Room
from .keys import KeyCache, load_key
from .outlets import Outlet

logger = logging.getLogger(__name__)

# How long a stopping node waits for its clients to answer the close frame, in seconds.
DRAIN_SECONDS = 3.0


class Connection(Member):
    """One admitted connection."""

    __slots__ = ("admission", "allows_client_messages", "ended", "is_open", "room")

    def __init__(self, admission: Admission, outlet: Outlet) -> None:
        super().__init__(outlet, echo=admission.notify_self)
        self.admission = admission
        self.allows_client_messages = admission.access.allows_client_messages
        self.room: Room | None = None
        self.ended: Close | None = None

    def send(self, message: Message) -> None:
        """Send a message to this connection alone, after all that was sent to it before."""
        self.flush()
        self.outlet.deliver(message)

    def flush(self) -> None:
        """Deliver what waits for the end of this turn of the loop now."""
        if self.room is not None:
            self.room.flush()


class Node:
    """What one process serves. Made by `current_node`."""

    def __init__(self) -> None:
        self.id = uuid.uuid4().hex
        self.loop = asyncio.get_running_loop()
        self.hub = Hub(self.loop.call_soon)
        self.keys = KeyCache(load_key, conf().key_cache_seconds)
        self.connections: set[Connection] = set()
        self._bus = Bus(get_channel_layer(), self.id, self._deliver, self.react)
        self._draining = False

    def start(self) -> None:
        """Begin to listen to other nodes, and to the order to stop."""
        self._bus.start()
        wire.before_shutdown(self.drain)

    def check_capacity(self) -> None:
        """
        Raises:
            Refusal: this node takes no further connection now.
        """
        if self._draining:
            raise Refusal(RESTARTING)
        if len(self.connections) >= conf().max_connections:
            raise Refusal(OVER_CAPACITY)

    async def join(self, connection: Connection, accept: Callable[[], Awaitable[None]]) -> None:
        """Make a connection a member of its channel.

        It hears every message that is sent after its client has heard that it is open, on whatever node.

        Args:
            connection: not yet accepted.
            accept: tells the client that it is open.
        """
        self.connections.add(connection)
        await self._bus.join(connection.admission.group)
        await accept()
        if connection.ended is None:
            connection.room = self.hub.join(connection.admission.group, connection)
        else:  # its access was withdrawn while it waited
            connection.outlet.close(connection.ended)

    def leave(self, connection: Connection) -> None:
        """Forget a connection. Harmless at any time, also if it never joined."""
        if connection not in self.connections:
            return
        self.connections.remove(connection)
        room, connection.room = connection.room, None
        if room is not None:
            self.hub.leave(room, connection)
        self._bus.leave(connection.admission.group)

    def end(self, connection: Connection, close: Close) -> None:
        """Close a connection from this side. It counts no longer, sends nothing and receives nothing any more."""
        connection.ended = close
        if connection.room is not None:
            connection.flush()
            self.leave(connection)
            connection.outlet.close(close)

    def publish(self, sender: Connection, message: Message) -> None:
        """Send a client's message to its channel, here and on other nodes."""
        if sender.room is not None:
            self.hub.publish(sender.room, message, sender)
            self._bus.publish(sender.room.name, message.data)

    def call(self, function: Callable[..., object], *args: Any) -> None:
        """Run a function on the loop, soon. The only method for other threads."""
        self.loop.call_soon_threadsafe(function, *args)

    def drain(self) -> Awaitable[None]:
        """Close all connections (1012) at once; the result waits for their clients to hear of it, within reason."""
        self._draining = True
        connections = list(self.connections)
        for connection in connections:
            self.end(connection, RESTARTING)
        return self._drained([connection.outlet for connection in connections])

    async def _drained(self, outlets: list[Outlet]) -> None:
        deadline = self.loop.time() + DRAIN_SECONDS
        while self.loop.time() < deadline and not all(outlet.is_gone for outlet in outlets):  # noqa: ASYNC110
            await asyncio.sleep(0.02)
        await self._bus.stop()

    def react(self, event: dict[str, Any]) -> None:
        """Do what an event of the control group asks for."""
        reaction = reactions.get(event["type"])
        if reaction is None:
            logger.warning("Nothing here reacts to %r of the control group.", event["type"])
        else:
            reaction(self, event)

    def _deliver(self, group: str, data: str | bytes) -> None:
        room = self.hub.rooms.get(group)
        if room is not None:
            self.hub.publish(room, Message(data))


# What a node does at an event of the control group, by the event's type.
reactions: dict[str, Callable[[Node, dict[str, Any]], None]] = {}

_node: Node | None = None


def current_node() -> Node:
    """The node of this process, started by the first call. Loop thread only."""
    global _node  # noqa: PLW0603  (one a process)
    if _node is None or _node.loop is not asyncio.get_running_loop():
        _node = Node()
        _node.start()
    return _node


def running_node() -> Node | None:
    """The node of this process if it serves any connections; for other threads, which may use `Node.call` alone."""
    return _node
