"""This node's one mailbox on the channel layer, and the groups that it is a member of.

A node joins the group of a channel with its first connection and leaves it with its last. What other nodes, and any
code of the project, send to a group arrives here once, however many connections wait for it. The way in is Channels'
ordinary call, in every layer:

    channel_layer.group_send(group, message_event(group, "text or bytes"))
"""

import asyncio
import hashlib
import logging
from collections import Counter, deque
from collections.abc import Callable
from typing import Any

from channels.layers import BaseChannelLayer, InMemoryChannelLayer

logger = logging.getLogger(__name__)

# All nodes are in this group; they hear there what may connect no longer.
CONTROL_GROUP = "control"
# How long a connection waits for its channel's group before it is accepted all the same, in seconds: it then hears this
# node's messages at once and those of others when the channel layer is back.
JOIN_SECONDS = 2.0
RETRY_SECONDS = 1.0
MAX_OUTGOING = 10_000


def group_name(cluster_id: str, path: str) -> str:
    """The group of a channel: unique, and within what channel layers allow (under 100 of `[A-Za-z0-9._-]`).

    Args:
        cluster_id: a DNS label.
        path: `CHANNEL_ID` or `NAMESPACE/CHANNEL_ID`.
    """
    name = f"channel.{cluster_id}.{path.replace('/', '.')}"
    if len(name) < 100:
        return name
    return f"channel-hash.{hashlib.sha256(name.encode()).hexdigest()}"


def message_event(group: str, data: str | bytes, origin: str = "") -> dict[str, Any]:
    """The channel-layer event that delivers a message to the connections of a channel.

    Args:
        group: where it is sent to; one mailbox hears of many groups, so the event has to say it.
        data: a text for a text message, bytes for a binary one.
        origin: the node that has delivered it to its own connections already, if any.
    """
    return {"type": "channel.message", "group": group, "data": data, "origin": origin}


class Bus:
    """The channel layer as one node sees it. Loop thread only."""

    def __init__(
        self,
        layer: BaseChannelLayer,
        node_id: str,
        on_message: Callable[[str, str | bytes], None],
        on_event: Callable[[dict[str, Any]], None],
    ) -> None:
        """
        Args:
            layer: the project's channel layer.
            node_id: marks what this node sends, so that it does not hear it again.
            on_message: called with group and data of each message from elsewhere.
            on_event: called with every other event.
        """
        self._layer = layer
        self._node_id = node_id
        self._on_message = on_message
        self._on_event = on_event
        # Nobody else can be listening on a layer that lives in this process.
        self._has_peers = not isinstance(layer, InMemoryChannelLayer)
        self._mailbox: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        # How many connections want a group, by its name.
        self._wanted: Counter[str] = Counter()
        self._joined: set[str] = set()
        self._changed: deque[str] = deque()
        self._joining: dict[str, asyncio.Future[None]] = {}
        self._outgoing: deque[tuple[str, dict[str, Any]]] = deque()
        self._dropped = 0
        self._work = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begin to listen and to send."""
        self._wanted[CONTROL_GROUP] = 1
        self._note_change(CONTROL_GROUP)
        self._tasks = [asyncio.create_task(self._work_off()), asyncio.create_task(self._listen())]

    async def stop(self) -> None:
        """Leave the layer."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def join(self, group: str) -> None:
        """Want a group: its messages are heard from the return of this call on, or soon if the layer is out of reach.

        Every call, also one that was cancelled, is undone by one `leave`.
        """
        self._wanted[group] += 1
        if group in self._joined and self._wanted[group] > 1:
            return
        future = self._joining.get(group)
        if future is None:
            future = self._joining[group] = asyncio.get_running_loop().create_future()
        self._note_change(group)
        try:
            await asyncio.wait_for(asyncio.shield(future), JOIN_SECONDS)
        except TimeoutError:
            logger.debug("Joining %s takes longer than %s s.", group, JOIN_SECONDS)

    def leave(self, group: str) -> None:
        """Want a group no longer; when nobody wants it, its messages are heard no more."""
        self._wanted[group] -= 1
        if not self._wanted[group]:
            del self._wanted[group]
            self._note_change(group)

    def publish(self, group: str, data: str | bytes) -> None:
        """Pass a message to the other nodes. Never waits; in an outage of the layer the oldest are dropped."""
        if self._has_peers:
            self.send(group, message_event(group, data, self._node_id))

    def send(self, group: str, event: dict[str, Any]) -> None:
        """Send an event to all nodes in a group, this one too. Never waits; in an outage the oldest are dropped."""
        if len(self._outgoing) >= MAX_OUTGOING:
            self._outgoing.popleft()
            if not self._dropped:
                logger.error("The channel layer is out of reach or too slow: messages to other nodes are dropped.")
            self._dropped += 1
        self._outgoing.append((group, event))
        self._work.set()

    def _note_change(self, group: str) -> None:
        self._changed.append(group)
        self._work.set()

    async def _work_off(self) -> None:
        """Send and change membership, one after the other, in order; begin again where an outage interrupted."""
        reachable = True
        while True:
            try:
                await self._work.wait()
                self._work.clear()
                if not self._mailbox.done():
                    self._mailbox.set_result(await self._layer.new_channel("node."))
                while self._changed or self._outgoing:
                    while self._changed:
                        await self._settle(self._changed[0])
                        self._changed.popleft()
                    if self._outgoing:
                        outgoing = self._outgoing[0]
                        await self._layer.group_send(*outgoing)
                        # An overflow while that waited may have dropped it already.
                        if self._outgoing and self._outgoing[0] is outgoing:
                            self._outgoing.popleft()
                if not reachable or self._dropped:
                    logger.warning("The channel layer is back; %d messages to other nodes were lost.", self._dropped)
                    reachable, self._dropped = True, 0
            except Exception as error:
                if reachable:
                    logger.error("The channel layer is out of reach (%s); trying again.", error)
                    reachable = False
                await asyncio.sleep(RETRY_SECONDS)
                self._work.set()

    async def _settle(self, group: str) -> None:
        """Make the membership of one group what is wanted now."""
        mailbox = self._mailbox.result()
        if group in self._wanted:
            await self._layer.group_add(group, mailbox)
            self._joined.add(group)
            if future := self._joining.pop(group, None):
                future.set_result(None)
        elif group in self._joined:
            self._joined.discard(group)
            await self._layer.group_discard(group, mailbox)

    async def _listen(self) -> None:
        mailbox = await self._mailbox
        while True:
            try:
                event = await self._layer.receive(mailbox)
                self._handle(event)
            except Exception:
                logger.exception("An event of the channel layer could not be handled.")
                await asyncio.sleep(RETRY_SECONDS)

    def _handle(self, event: dict[str, Any]) -> None:
        if event.get("type") == "channel.message":
            if event.get("origin") != self._node_id:
                self._on_message(event["group"], event["data"])
        else:
            self._on_event(event)
