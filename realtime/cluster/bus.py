"""How one node takes part in the channel layer: the groups of its channels, and the messages that cross between nodes.

The node joins the group of a channel with its first connection and leaves it with its last. What other nodes, and any
other code of the project, send to the group arrives here once, however many connections wait for it. Such code uses the
ordinary call of Channels, in every layer:

    await channel_layer.group_send(group, message_event(group, "text or bytes"))
"""

import asyncio
import logging
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Hashable
from typing import Any

from channels.layers import BaseChannelLayer

from realtime.base import tasks
from realtime.cluster.layer import PubSubLayer
from realtime.protocols.channels import MESSAGE_EVENT
from realtime.protocols.exclusions import split
from realtime.protocols.frames import Frames, Message
from realtime.protocols.pusher_channels import is_group

logger = logging.getLogger(__name__)

# Every node is in this group; changes of access are announced to it.
CONTROL_GROUP = "control"
# The type of the event with which the bus reports that messages and events of other nodes may have been missed.
INTERRUPTED = "bus.interrupted"

OnMessages = Callable[[str, Message | Frames], None]
OnEvent = Callable[[dict[str, Any]], None]


class Bus(ABC):
    """The channel layer as one node sees it. Loop thread only."""

    def __init__(self, on_messages: OnMessages, on_event: OnEvent) -> None:
        """
        Args:
            on_messages: called with a group and with messages for its connections on this node.
            on_event: called with every other event.
        """
        self._on_messages = on_messages
        self._on_event = on_event

    @abstractmethod
    def start(self) -> None:
        """Start to listen."""

    @abstractmethod
    async def stop(self) -> None:
        """Send what waits, as far as that is possible now, and leave the layer."""

    @abstractmethod
    async def join(self, group: str) -> None:
        """Join a group. When this returns, its messages arrive; if Redis is unreachable, they do as soon as it is back.

        Undo every call with one `leave`, also a call that was cancelled.
        """

    @abstractmethod
    def leave(self, group: str) -> None:
        """Undo one `join`."""

    @abstractmethod
    def publish(self, group: str, message: Message, party: Hashable) -> None:
        """Pass a message on to other nodes; the caller delivers it to this node's connections. Never waits.

        Args:
            group: the group of the channel.
            message: the message.
            party: the tenant, whose turn on the way to other nodes the message takes.
        """

    @abstractmethod
    def publish_in_order(
        self, group: str, message: Message, party: Hashable, on_done: Callable[[], None] | None
    ) -> None:
        """Deliver a message on all nodes, this one included, in one order with those of other nodes. Never waits.

        Args:
            group: the group of the channel.
            message: the message.
            party: the tenant, whose turn on the way to other nodes the message takes.
            on_done: called when this node has delivered the message and Redis, if it is reachable, has taken it.
        """

    @abstractmethod
    def send(self, group: str, event: dict[str, Any]) -> None:
        """Send an event to all nodes in a group, this one included. Never waits."""

    @property
    def is_reachable(self) -> bool:
        """Whether other nodes hear this one, and it hears them, as far as it knows."""
        return True

    @property
    def messages_sent(self) -> int:
        """Messages and events that Redis has taken."""
        return 0

    @property
    def messages_received(self) -> int:
        """Messages and events that have arrived from other nodes."""
        return 0

    @property
    def messages_dropped(self) -> int:
        """Messages and events that were dropped, since too much waited for Redis."""
        return 0

    @property
    def interruptions(self) -> int:
        """How often messages of other nodes may have been missed."""
        return 0

    def _handle(self, event: dict[str, Any]) -> None:
        if event.get("type") == MESSAGE_EVENT:
            self._on_messages(event["group"], Message(event["data"]))
        else:
            self._on_event(event)


def make_bus(
    layer: BaseChannelLayer, on_messages: OnMessages, on_event: OnEvent, on_round_trip: Callable[[float], None]
) -> Bus:
    """Return the bus for a channel layer.

    Args:
        layer: the project's channel layer.
        on_messages, on_event: see `Bus`.
        on_round_trip: called now and then with how long Redis took to answer, in seconds.
    """
    if isinstance(layer, PubSubLayer):
        return RedisBus(layer, on_messages, on_event, on_round_trip)
    return LocalBus(layer, on_messages, on_event)


class RedisBus(Bus):
    """A node among others, through the link of our own channel layer."""

    def __init__(
        self, layer: PubSubLayer, on_messages: OnMessages, on_event: OnEvent, on_round_trip: Callable[[float], None]
    ) -> None:
        super().__init__(on_messages, on_event)
        self._link = layer.attach(
            on_frames=self._take_frames,
            on_event=lambda group, event: self._handle(event),
            on_gap=lambda: on_event({"type": INTERRUPTED}),
            on_round_trip=on_round_trip,
        )
        self._joining: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._link.start()
        self._joining = asyncio.create_task(self._link.join(CONTROL_GROUP))

    async def stop(self) -> None:
        if self._joining is not None:
            await tasks.end([self._joining])
        await self._link.stop()

    async def join(self, group: str) -> None:
        await self._link.join(group)

    def leave(self, group: str) -> None:
        self._link.leave(group)

    def publish(self, group: str, message: Message, party: Hashable) -> None:
        self._link.publish(group, message.wire, 1, party)

    def publish_in_order(
        self, group: str, message: Message, party: Hashable, on_done: Callable[[], None] | None
    ) -> None:
        self._link.publish_in_order(group, message.between_nodes, 1, party, on_done or _ignore)

    def send(self, group: str, event: dict[str, Any]) -> None:
        self._link.send_event(group, event)

    def _take_frames(self, group: str, frames: bytes, count: int) -> None:
        if is_group(group):
            for part in split(frames, count):
                self._on_messages(group, part)
        else:
            self._on_messages(group, Frames(frames, count))

    @property
    def is_reachable(self) -> bool:
        return self._link.is_reachable

    @property
    def messages_sent(self) -> int:
        return self._link.messages_sent

    @property
    def messages_received(self) -> int:
        return self._link.messages_received

    @property
    def messages_dropped(self) -> int:
        return self._link.messages_dropped

    @property
    def interruptions(self) -> int:
        return self._link.gaps


class LocalBus(Bus):
    """A node that is alone: it hears what code of its own process sends to its one mailbox on the layer."""

    def __init__(self, layer: BaseChannelLayer, on_messages: OnMessages, on_event: OnEvent) -> None:
        super().__init__(on_messages, on_event)
        self._layer = layer
        self._mailbox: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._joins: Counter[str] = Counter()
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self) -> None:
        self._run(self._open_mailbox())
        self._tasks.add(tasks.keep("listening to the channel layer", self._listen))

    async def stop(self) -> None:
        await tasks.end(self._tasks)

    async def join(self, group: str) -> None:
        self._joins[group] += 1
        mailbox = await asyncio.shield(self._mailbox)
        await self._layer.group_add(group, mailbox)

    def leave(self, group: str) -> None:
        self._joins[group] -= 1
        if not self._joins[group]:
            del self._joins[group]
            self._run(self._discard(group))

    def publish(self, group: str, message: Message, party: Hashable) -> None:
        """There are no other nodes."""

    def publish_in_order(
        self, group: str, message: Message, party: Hashable, on_done: Callable[[], None] | None
    ) -> None:
        self._on_messages(group, message)
        if on_done is not None:
            on_done()

    def send(self, group: str, event: dict[str, Any]) -> None:
        self._handle(event)

    def _run(self, coroutine: Any) -> None:
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _discard(self, group: str) -> None:
        if group not in self._joins:  # else somebody has joined it again
            await self._layer.group_discard(group, await self._mailbox)

    async def _open_mailbox(self) -> None:
        mailbox = await self._layer.new_channel("node.")
        await self._layer.group_add(CONTROL_GROUP, mailbox)
        self._mailbox.set_result(mailbox)

    async def _listen(self) -> None:
        mailbox = await self._mailbox
        while True:
            event = await self._layer.receive(mailbox)
            try:
                self._handle(event)
            except Exception:
                logger.exception("Cannot handle an event of the channel layer.")


def _ignore() -> None: ...
