"""Publishing to one Redis: what waits goes out together at the end of a turn of the loop, in one write.

Each write takes time here, in Redis and in the other nodes, whatever it contains. So those who publish thousands of
messages per second wait a little longer for more of them, unless somebody waits for the answer.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Hashable
from typing import Any, Protocol

from redis.asyncio.connection import ConnectionPool
from redis.exceptions import ConnectionError as RedisConnectionError

from realtime.cluster.batches import EVENT, Address, Batch, InOrder
from realtime.cluster.outbox import Outbox
from realtime.cluster.pace import Pace
from realtime.cluster.reconnection import KeptConnection, call_safely, logger

# How many PUBLISHes may be unanswered, and how much they carry together, in bytes. What comes then joins the batch of
# its group: load makes batches larger and not queues longer. A message waits for all that are unanswered, also for
# those of other tenants, so this limits how long one tenant can keep another one waiting: to some 2 ms.
MAX_UNANSWERED = 200
MAX_UNANSWERED_BYTES = 4 * 1024 * 1024
# How much may wait beyond that, and how much of one group goes together, in bytes.
MAX_WAITING_BYTES = 64 * 1024 * 1024
MAX_BATCH_BYTES = 256 * 1024
# How many messages of fast parties are gathered at most, and for how long, in seconds. If nothing else happens
# meanwhile, asyncio waits for 1 ms.
GATHERED_MESSAGES = 8
GATHER_SECONDS = 0.0005
# How long to wait after an outage of Redis before publishing again, in seconds: the other nodes connect and subscribe
# within this time, unless they are unlucky.
RESUBSCRIBE_SECONDS = 2.0


class Receiver(Protocol):
    """The side that uses a publisher."""

    def take_frames(self, address: Address, frames: bytes, count: int) -> None:
        """Take messages that are due here."""

    def note_round_trip(self, seconds: float) -> None:
        """Learn how long Redis took to answer; called twice a second."""


class Publisher(KeptConnection):
    """One connection that publishes. Loop thread only.

    Replies come in the order of the commands, so the queue of unanswered PUBLISHes knows what waits for each.
    """

    def __init__(
        self,
        pool: ConnectionPool,
        origin: bytes,
        on_change: Callable[[str], None],
        is_heard: Callable[[Address], bool],
        receiver: Receiver,
    ) -> None:
        """
        Args:
            pool: where to connect to.
            origin: marks what is published here, `batches.ORIGIN_SIZE` bytes.
            on_change: called when the connection was lost, with the reason, and with "" when it is in use again.
            is_heard: returns whether Redis is sure to send back what is published to an address now.
            receiver: gets what is due here.
        """
        super().__init__(pool, on_change)
        self._origin = origin
        self._is_heard = is_heard
        self._receiver = receiver
        self._outbox = Outbox(MAX_WAITING_BYTES, MAX_BATCH_BYTES)
        self._unanswered: deque[Batch | None] = deque()  # None is a heartbeat
        self._unanswered_bytes = 0
        self._repeated: list[Batch] = []  # were unanswered when the connection was lost
        self._awaited: dict[Batch, None] = {}  # somebody waits for their delivery here, or for an answer
        self._returning: dict[int, Batch] = {}  # those that were sent and are to be delivered here, by number
        self._number = 0
        self._is_ready = False
        self._is_full = False  # more waits than may be unanswered
        self._pace = Pace()
        self._gathered = 0  # messages since the last flush
        self._gathering: asyncio.TimerHandle | None = None
        self._resuming: Any = None
        self._has_told_of_drops = self._has_told_of_refusal = False
        self.waits_for_others = False
        """Whether to wait, after connecting, until other nodes have subscribed."""
        self.messages_sent = self.messages_dropped = 0

    @property
    def is_idle(self) -> bool:
        """Whether Redis has taken everything."""
        return not (self._outbox or self._awaited or self._repeated or any(self._unanswered))

    def publish(self, address: Address, frames: bytes, count: int, party: Hashable) -> None:
        """Publish messages that are already delivered here.

        Args:
            address: their group.
            frames: the messages, as they are sent to clients.
            count: how many they are.
            party: whose turn they take.
        """
        self._outbox.put_frames(address, frames, count, party)
        self._make_room()
        self._gathered += 1
        if not self._pace.note(party) or self._gathered >= GATHERED_MESSAGES:
            self._schedule_flush()
        elif self._gathering is None and not self._flush_is_due:
            self._gathering = self._loop.call_later(GATHER_SECONDS, self._run_flush)

    def publish_in_order(
        self, address: Address, frames: bytes, count: int, party: Hashable, on_done: Callable[[], None]
    ) -> None:
        """Publish messages, and deliver them here when Redis has put them in order with those of other nodes.

        Args:
            address: their group.
            frames: the messages, as they are sent to clients.
            count: how many they are.
            party: whose turn they take.
            on_done: called once, when they are delivered here and Redis has them; while it is out of reach, at once.
        """
        batch = self._outbox.put_frames(address, frames, count, party)
        if batch.in_order is None:
            batch.in_order = []
            self._awaited[batch] = None
        batch.in_order.append(InOrder(frames, count, on_done))
        self._make_room()
        if self.is_lost:
            self._settle(batch)
        self._schedule_flush()

    def send(
        self,
        address: Address,
        event: bytes,
        party: Hashable,
        on_answer: Callable[[Exception | None], None] | None = None,
    ) -> None:
        """Publish an event.

        Args:
            address: where to.
            event: serialized.
            party: whose turn it takes.
            on_answer: called once: with None when Redis has it, with an error when it was refused or dropped, or when
                Redis got out of reach before it was sent.
        """
        batch = Batch(EVENT, address, party)
        if on_answer is not None:
            batch.on_answer = on_answer
            self._awaited[batch] = None
        self._outbox.put_alone(batch, event)
        self._make_room()
        self._schedule_flush()

    def take_return(self, number: int) -> None:
        """Deliver what is due of one of our own PUBLISHes that Redis has sent back."""
        if (batch := self._returning.get(number)) is not None:
            self._settle(batch)

    def expect_no_return(self, address: Address | None = None) -> None:
        """Learn that Redis no longer sends back what was published, to one address or to any."""
        for batch in list(self._returning.values()):
            if address is None or batch.address.name == address.name:
                batch.is_heard = False
                if batch.is_taken:
                    self._settle(batch)

    def settle_overdue(self) -> None:
        """Deliver what Redis has answered, but not sent back since the last call of this.

        Called after each heartbeat of the connection that subscribes. So what is not back by then does not come any
        more, or much later: the two connections lead to different servers, as in a failover.
        """
        for batch in list(self._returning.values()):
            if batch.is_overdue:
                self._settle(batch)
            else:
                batch.is_overdue = batch.is_taken

    def handle_reply(self, reply: Any) -> None:
        """See `ReplyHandler`."""
        if not self._unanswered:
            self.lose("a reply to nothing that was asked")
            return
        batch = self._unanswered.popleft()
        if batch is None:
            self._receiver.note_round_trip(self._note_life())
            return
        self._unanswered_bytes -= batch.size
        if isinstance(reply, Exception):
            self._note_refusal(batch, reply)
            return
        self.messages_sent += batch.count
        if batch.in_order is not None:
            batch.is_taken = True
            if not batch.is_heard:
                self._settle(batch)
        self._answer(batch, None)

    def handle_end_of_replies(self) -> None:
        """See `ReplyHandler`."""
        if self._is_full:
            self._schedule_flush()

    def _ask_for_life(self) -> None:
        self._unanswered.append(None)
        super()._ask_for_life()

    def _begin(self) -> None:
        if self.waits_for_others:
            self._resuming = self._loop.call_later(RESUBSCRIBE_SECONDS, self._resume)
        else:
            self._resume()

    def _resume(self) -> None:
        self._is_ready, self.waits_for_others = True, False
        repeated, self._repeated = self._repeated, []
        parts: list[bytes] = []
        for batch in repeated:
            self._put(batch, parts)
        self._write(b"".join(parts))
        self._note_use()
        self._flush()

    def _interrupt(self) -> None:
        self._is_ready = self._has_told_of_refusal = False
        if self._resuming is not None:
            self._resuming.cancel()
        self._repeated += filter(None, self._unanswered)
        self._unanswered.clear()
        self._unanswered_bytes = 0
        for batch in list(self._awaited):
            self._settle(batch)
            if not batch.number:
                self._answer(batch, RedisConnectionError("Redis is out of reach."))

    def _flush(self) -> None:
        self._gathered = 0
        if self._gathering is not None:
            self._gathering.cancel()
            self._gathering = None
        self._pace.advance(self._loop.time())
        if not self._is_ready:
            return
        parts: list[bytes] = []
        unanswered = self._unanswered
        while self._outbox and len(unanswered) < MAX_UNANSWERED and self._unanswered_bytes < MAX_UNANSWERED_BYTES:
            batch = self._outbox.take()
            self._number += 1
            batch.number = self._number
            if batch.in_order is not None:
                batch.is_heard = self._is_heard(batch.address)
                self._returning[batch.number] = batch
            self._put(batch, parts)
        self._is_full = bool(self._outbox)
        if parts:
            self._write(b"".join(parts))
        if self._has_told_of_drops and not self._outbox:
            self._has_told_of_drops = False
            logger.warning("Other nodes get all messages again; %d were dropped until now.", self.messages_dropped)

    def _put(self, batch: Batch, parts: list[bytes]) -> None:
        try:
            parts += batch.encode(self._origin)
        except TypeError as error:  # the others must go out, or their answers would not come
            logger.exception("A message to other nodes cannot be encoded.")
            self._fail(batch, error)
            return
        self._unanswered.append(batch)
        self._unanswered_bytes += batch.size

    def _settle(self, batch: Batch) -> None:
        """Deliver here what is due of a batch, and tell those who wait for that; once."""
        in_order, batch.in_order = batch.in_order, None
        if in_order:
            self._awaited.pop(batch, None)
            self._returning.pop(batch.number, None)
            frames, count = b"".join([part.frames for part in in_order]), sum(part.count for part in in_order)
            call_safely(self._receiver.take_frames, batch.address, frames, count)
            for part in in_order:
                call_safely(part.on_done)

    def _answer(self, batch: Batch, error: Exception | None) -> None:
        on_answer, batch.on_answer = batch.on_answer, None
        if on_answer is not None:
            self._awaited.pop(batch, None)
            call_safely(on_answer, error)

    def _make_room(self) -> None:
        if not self._outbox.is_overfull:
            return
        for batch in self._outbox.make_room():
            if not self._has_told_of_drops:
                self._has_told_of_drops = True
                logger.error("Too much waits for other nodes: the oldest messages to them are dropped.")
            self._fail(batch, RedisConnectionError("Too many messages wait for Redis; this one was dropped."))

    def _note_refusal(self, batch: Batch, error: Exception) -> None:
        if not self._has_told_of_refusal:
            self._has_told_of_refusal = True
            logger.error("Redis refuses messages: %s", error)
        self._fail(batch, error)

    def _fail(self, batch: Batch, error: Exception) -> None:
        self.messages_dropped += batch.count
        self._settle(batch)
        self._answer(batch, error)
