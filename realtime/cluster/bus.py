"""This node's one mailbox on the channel layer, and the groups that it is a member of.

A node joins the group of a channel with its first connection and leaves it with its last. What other nodes, and any
code of the project, send to a group arrives here once, however many connections wait for it. The way in is Channels'
ordinary call, in every layer:

    channel_layer.group_send(group, message_event(group, "text or bytes"))

What can go wrong in channels_redis' pub/sub layer, and what is done about it:

- One call waits for the one before it, an answer of Redis each. So what waits for one group goes in one event, and each
  Redis of several has a lane of its own, which waits for no other. Messages cross as the frames that their receivers
  get, so that no node encodes them again.
- A call to a Redis that does not answer hangs, and one that failed may have been heard all the same. So calls have a
  time limit and are repeated, and events are numbered: nobody delivers one twice.
- `group_add` returns before Redis has heard of it. So a group counts as joined when an event that this node has sent to
  it has come back.
- The layer subscribes again by itself where a connection was lost, and what was published meanwhile is lost without a
  sign. So each lane sends itself a beat and notices when it is not heard, and has redis-py tell of a new connection.
  A connection that has died without a sign, so that Redis takes what is sent and nothing arrives, is given up.
- Who subscribes while the layer's own task connects anew disturbs it ("readuntil() called while another coroutine is
  already waiting"), and both try again in step. So memberships are changed again when a beat has come back.
  What may have been missed is made good by those who know how (`INTERRUPTED`). After an outage messages wait until
  other nodes have subscribed too.
- Its queues have no bound, and no capacity at which they drop. So what waits to be sent is bounded here, in bytes; what
  arrives is handled faster than the layer reads it, and a node that cannot is cut off by Redis itself (its limit of 32
  MiB for output to subscribers), which is then such an interruption.
- Memberships do not expire in it.
"""

import asyncio
import contextlib
import itertools
import logging
import time
from collections import Counter, deque
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from channels.layers import BaseChannelLayer, InMemoryChannelLayer

from realtime.base import tasks
from realtime.cluster.outgoing import Entry, Outgoing
from realtime.protocols.frames import Frames, Message

logger = logging.getLogger(__name__)

# All nodes are in this group; they hear there what may connect no longer.
CONTROL_GROUP = "control"
# What the bus tells of itself as an event: other nodes may have said things that were not heard here.
INTERRUPTED = "bus.interrupted"
# How long a connection waits for its channel's group before it is accepted all the same, in seconds: it then hears this
# node's messages at once and those of others when the channel layer is back.
JOIN_SECONDS = 2.0
RETRY_SECONDS = 1.0
# How long a call to the layer may take, in seconds.
CALL_SECONDS = 3.0
# How often a lane sends itself a beat, and how long none may come back until the layer counts as out of reach.
BEAT_SECONDS = 0.5
SILENCE_SECONDS = 3.0
# How long messages wait after an outage, in seconds: the layers of other nodes try each second to subscribe again.
RESUBSCRIBE_SECONDS = 3.0
# How much may wait for each Redis, and how much of it goes together, in bytes.
MAX_OUTGOING_BYTES = 64 * 1024 * 1024
MAX_BATCH_BYTES = 256 * 1024
# How many memberships change before messages have their turn again.
_CHANGES_A_TURN = 100
_BEAT = "bus.beat"


class Lane:
    """The way to one Redis: what waits for it, and whether it is there."""

    def __init__(self, origin: str) -> None:
        """
        Args:
            origin: marks what this node sends by this lane.
        """
        self.origin = origin
        self.outgoing = Outgoing(MAX_OUTGOING_BYTES, MAX_BATCH_BYTES)
        self.sending: Entry | None = None  # was begun to send, and is repeated if that fails
        self.changed: deque[str] = deque()  # groups whose membership is to be looked at
        self.unconfirmed: dict[str, int] = {}  # groups that have been joined, by when, until an event has come back
        self.joins = 0
        self.work = asyncio.Event()
        self.beat_group = ""
        self.beat_is_due = False
        self.pubsub: Any = None  # redis-py's, by whose connection events arrive
        self.connection: Any = None
        self.is_deaf = False  # since the way was lost, no beat has come back
        self.unheard_beats = 0  # that Redis has taken since the last event was heard
        self.has_reconnected = False
        self.heard_at = time.monotonic()
        self.is_reachable = True
        self.lost_at = 0.0
        self.dropped = 0
        """Messages to other nodes that were dropped in this outage."""
        self.recovery: asyncio.TimerHandle | None = None

    def watch(self, shard: object) -> None:
        """Have redis-py tell when the connection by which events arrive was lost and is there again."""
        self.pubsub = getattr(shard, "_pubsub", None)
        connection = getattr(self.pubsub, "connection", None)
        if connection is not None and connection is not self.connection:
            self.connection = connection
            connection.register_connect_callback(self._note_reconnect)

    def _note_reconnect(self, connection: object) -> None:
        self.has_reconnected = True

    @property
    def is_reconnecting(self) -> bool:
        """Whether the layer connects its subscription anew, or should."""
        return self.is_deaf and self.pubsub is not None and bool(self.pubsub.subscribed)

    def hear(self) -> None:
        """Note that an event has arrived."""
        self.heard_at, self.unheard_beats = time.monotonic(), 0

    async def renew(self) -> None:
        """Give up a connection by which nothing arrives though Redis takes what is sent; redis-py makes a new one."""
        if self.connection is not None and self.unheard_beats > SILENCE_SECONDS / BEAT_SECONDS:
            self.unheard_beats = 0
            with contextlib.suppress(Exception):
                async with asyncio.timeout(CALL_SECONDS):
                    await self.connection.disconnect(nowait=True)


class Bus:
    """The channel layer as one node sees it. Loop thread only."""

    def __init__(
        self,
        layer: BaseChannelLayer,
        node_id: str,
        on_messages: Callable[[str, Message | Frames], None],
        on_event: Callable[[dict[str, Any]], None],
        on_round_trip: Callable[[float], None] = lambda seconds: None,
    ) -> None:
        """
        Args:
            layer: the project's channel layer.
            node_id: marks what this node sends, so that it does not hear it again.
            on_messages: called with a group and with a message, or several, from elsewhere.
            on_event: called with every other event.
            on_round_trip: called with how long an event has taken from this node to itself, in seconds, now and then.
        """
        self._layer = layer
        self._node_id = node_id
        self._on_messages = on_messages
        self._on_event = on_event
        self._on_round_trip = on_round_trip
        # Nobody else can be listening on a layer that lives in this process.
        self._has_peers = not isinstance(layer, InMemoryChannelLayer)
        self._loop = asyncio.get_running_loop()
        self._mailbox: asyncio.Future[str] = self._loop.create_future()
        self._opening = asyncio.Lock()
        # How many connections want a group, by its name.
        self._wanted: Counter[str] = Counter()
        self._joined: set[str] = set()
        self._joining: dict[str, asyncio.Future[None]] = {}
        # By shard of the layer; a layer that has none is one.
        self._lanes: dict[object, Lane] = {}
        self._lane = lru_cache(maxsize=100_000)(self._find_lane)
        self._own: dict[str, Lane] = {}  # by origin
        # The number of the last batch heard, by its origin; some bytes for each node that was ever heard.
        self._heard: dict[str, float] = {}
        self.messages_sent = self.messages_received = self.messages_dropped = self.interruptions = 0
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begin to listen and to send."""
        for shard in getattr(self._layer, "_shards", [None]):
            lane = self._lanes[shard] = Lane(f"{self._node_id}.{len(self._lanes)}")
            self._own[lane.origin] = lane
            self._heard[lane.origin] = float("inf")  # this node's own are delivered here already
            self._tasks.append(asyncio.create_task(self._work_off(lane)))
        self._want(CONTROL_GROUP)
        self._tasks.append(asyncio.create_task(self._listen()))
        if self._has_peers:
            self._tasks.append(asyncio.create_task(self._watch()))

    async def stop(self) -> None:
        """Send what waits, as far as that is possible now, and leave the layer."""
        with_work = [lane for lane in self._lanes.values() if lane.is_reachable and (lane.outgoing or lane.sending)]
        deadline = time.monotonic() + CALL_SECONDS
        while any(lane.outgoing or lane.sending for lane in with_work) and time.monotonic() < deadline:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        for lane in self._lanes.values():
            if lane.recovery is not None:
                lane.recovery.cancel()
        await tasks.end(self._tasks)

    @property
    def is_reachable(self) -> bool:
        """Whether other nodes hear this one, and it hears them, as far as it knows."""
        return all(lane.is_reachable for lane in self._lanes.values())

    async def join(self, group: str) -> None:
        """Want a group: its messages are heard from the return of this call on, or soon if the layer is out of reach.

        Every call, also one that was cancelled, is undone by one `leave`.
        """
        self._wanted[group] += 1
        if group in self._joined and self._wanted[group] > 1:
            return
        future = self._joining.get(group)
        if future is None:
            future = self._joining[group] = self._loop.create_future()
        self._note_change(group)
        if not self._lane(group).is_reachable:
            return
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

    def publish(self, group: str, message: Message) -> None:
        """Pass a message to the other nodes. Never waits; in an outage of the layer the oldest are dropped."""
        if self._has_peers:
            lane = self._lane(group)
            if dropped := lane.outgoing.put_frame(group, message.wire):
                self._note_drop(lane, dropped)
            lane.work.set()

    def send(self, group: str, event: dict[str, Any]) -> None:
        """Send an event to all nodes in a group, this one too. Never waits; in an outage the oldest are dropped."""
        lane = self._lane(group)
        if dropped := lane.outgoing.put_event(group, event):
            self._note_drop(lane, dropped)
        lane.work.set()

    def _find_lane(self, group: str) -> Lane:
        if len(self._lanes) == 1:
            return next(iter(self._lanes.values()))
        layer: Any = self._layer
        return self._lanes[layer._get_shard(layer._get_group_channel_name(group))]

    def _want(self, group: str) -> None:
        self._wanted[group] += 1
        self._note_change(group)

    def _note_change(self, group: str) -> None:
        lane = self._lane(group)
        lane.changed.append(group)
        lane.work.set()

    def _note_drop(self, lane: Lane, dropped: int) -> None:
        if not lane.dropped:
            logger.error("Too much waits for other nodes: the oldest messages to them are dropped.")
        lane.dropped += dropped
        self.messages_dropped += dropped

    async def _work_off(self, lane: Lane) -> None:
        """Change memberships and send, one after the other, in order; begin again where an outage interrupted."""
        while True:
            await lane.work.wait()
            lane.work.clear()
            try:
                while await self._take_turn(lane):
                    pass
            except (TypeError, ValueError):
                logger.exception("A message to other nodes cannot be sent.")
                lane.sending = None
                lane.work.set()
            except Exception as error:
                self._lose(lane, f"{error or type(error).__name__}")
                await asyncio.sleep(RETRY_SECONDS)
                lane.work.set()

    async def _take_turn(self, lane: Lane) -> bool:
        """Change some memberships, then send something; return whether there is more to do."""
        if not self._mailbox.done():
            async with self._opening, asyncio.timeout(CALL_SECONDS):
                if not self._mailbox.done():
                    self._mailbox.set_result(await self._layer.new_channel("node."))
        if not lane.is_reconnecting:
            await self._settle_some(lane)
        if lane.beat_is_due:
            lane.beat_is_due = False
            await self._call(lane.beat_group, self._beat(lane))
            lane.unheard_beats += 1
            await self._ask_for_confirmation(lane)
        if lane.is_reachable:
            if lane.sending is None and lane.outgoing:
                lane.sending = lane.outgoing.take()
            if lane.sending is not None:
                await self._call(lane.sending.group, self._event(lane, lane.sending))
                self.messages_sent += len(lane.sending.frames)
                lane.sending = None
                if lane.dropped and not lane.outgoing:
                    logger.warning("Other nodes keep up again; %d messages to them were dropped.", lane.dropped)
                    lane.dropped = 0
            return bool(lane.outgoing or lane.changed or lane.beat_is_due)
        return bool((lane.changed and not lane.is_reconnecting) or lane.beat_is_due)

    async def _settle_some(self, lane: Lane) -> None:
        joins = lane.joins
        for _ in range(min(len(lane.changed), _CHANGES_A_TURN)):
            await self._settle(lane, lane.changed[0])
            lane.changed.popleft()
        if lane.joins > joins:
            await self._ask_for_confirmation(lane)

    async def _call(self, group: str, event: dict[str, Any]) -> None:
        async with asyncio.timeout(CALL_SECONDS):
            await self._layer.group_send(group, event)

    async def _settle(self, lane: Lane, group: str) -> None:
        """Make the membership of one group what is wanted now."""
        mailbox = self._mailbox.result()
        async with asyncio.timeout(CALL_SECONDS):
            # Also before leaving, where it costs nothing: the layer believes a leave that has failed to be done.
            await self._layer.group_add(group, mailbox)
            if group not in self._wanted:
                self._joined.discard(group)
                lane.unconfirmed.pop(group, None)
                await self._layer.group_discard(group, mailbox)
                return
        if not self._has_peers:
            self._confirm(group)
        elif group not in self._joined:
            lane.joins += 1
            lane.unconfirmed.pop(group, None)  # those that came last stay last
            lane.unconfirmed[group] = lane.joins

    async def _ask_for_confirmation(self, lane: Lane) -> None:
        """Send an event that returns only when Redis has heard of all that was joined so far.

        It does by the group that was joined last, since Redis hears of groups in order.
        """
        if lane.unconfirmed:
            group, joins = next(reversed(lane.unconfirmed.items()))
            await self._call(group, self._beat(lane, joins))

    def _confirm(self, group: str) -> None:
        self._joined.add(group)
        if future := self._joining.pop(group, None):
            future.set_result(None)

    def _beat(self, lane: Lane, joins: int = 0) -> dict[str, Any]:
        return {"type": _BEAT, "origin": lane.origin, "joins": joins, "sent": time.monotonic()}

    def _event(self, lane: Lane, entry: Entry) -> dict[str, Any]:
        return entry.event or {
            "type": "channel.frames",
            "group": entry.group,
            "frames": b"".join(entry.frames),
            "messages": len(entry.frames),
            "origin": lane.origin,
            "number": entry.number,
        }

    async def _listen(self) -> None:
        mailbox = await self._mailbox
        while True:
            try:
                event = await self._layer.receive(mailbox)
            except Exception:
                logger.exception("The mailbox of this node cannot be read.")
                await asyncio.sleep(RETRY_SECONDS)
                continue
            try:
                self._handle(event)
            except Exception:
                logger.exception("An event of the channel layer could not be handled.")

    def _handle(self, event: dict[str, Any]) -> None:
        match event.get("type"):
            case "channel.frames":
                group, origin, number = event["group"], event["origin"], event["number"]
                self._lane(group).hear()
                if number > self._heard.get(origin, 0):
                    self._heard[origin] = number
                    self.messages_received += event["messages"]
                    self._on_messages(group, Frames(event["frames"], event["messages"]))
            case "channel.message":
                self.messages_received += 1
                self._on_messages(event["group"], Message(event["data"]))
            case "bus.beat":
                self._hear_beat(event)
            case _:
                self._on_event(event)

    def _hear_beat(self, event: dict[str, Any]) -> None:
        lane = self._own.get(event["origin"])
        if lane is None:
            return  # another node's, which waits for it in a group that it has joined
        for group, joins in list(lane.unconfirmed.items()):
            if joins > event["joins"]:
                break
            del lane.unconfirmed[group]
            self._confirm(group)
        lane.hear()
        if lane.is_deaf:
            lane.is_deaf = False
            lane.work.set()
        self._on_round_trip(lane.heard_at - event["sent"])
        if not lane.is_reachable:
            if lane.recovery is None:
                lane.recovery = self._loop.call_later(RESUBSCRIBE_SECONDS, self._recover, lane)
        elif lane.has_reconnected:
            lane.has_reconnected = False
            logger.warning("The channel layer had to connect anew: messages of other nodes may be missing here.")
            self._tell_of_interruption()

    def _lose(self, lane: Lane, reason: str) -> None:
        if lane.recovery is not None:
            lane.recovery.cancel()
            lane.recovery = None
        lane.is_deaf = True
        if lane.is_reachable:
            lane.is_reachable, lane.lost_at = False, time.monotonic()
            logger.error("The channel layer is out of reach (%s); messages to other nodes wait.", reason)

    def _recover(self, lane: Lane) -> None:
        lane.recovery = None
        lane.is_reachable, lane.has_reconnected = True, False
        logger.warning(
            "The channel layer is back after %.1f s; %d messages to other nodes were dropped, and what those sent "
            "meanwhile may be missing here.",
            time.monotonic() - lane.lost_at,
            lane.dropped,
        )
        lane.dropped = 0
        lane.work.set()
        self._tell_of_interruption()

    def _tell_of_interruption(self) -> None:
        self.interruptions += 1
        self._on_event({"type": INTERRUPTED})

    async def _watch(self) -> None:
        """Have every lane send itself beats, and notice when none comes back."""
        for lane in self._lanes.values():
            names = (f"{lane.origin}.{number}" for number in itertools.count())
            lane.beat_group = next(name for name in names if self._lane(name) is lane)
            self._want(lane.beat_group)
        while True:
            begun = time.monotonic()
            await asyncio.sleep(BEAT_SECONDS)
            stood_still = time.monotonic() - begun > SILENCE_SECONDS / 2
            for shard, lane in self._lanes.items():
                lane.watch(shard)
                if stood_still:
                    lane.heard_at = time.monotonic()  # it was this process that was not there
                elif time.monotonic() - lane.heard_at > SILENCE_SECONDS:
                    self._lose(lane, f"nothing has come back for {SILENCE_SECONDS} s")
                    await lane.renew()
                lane.beat_is_due = True
                lane.work.set()
