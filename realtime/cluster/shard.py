"""One Redis of the layer: a connection that publishes and one that subscribes."""

import asyncio
import logging
import os
import time
from collections import OrderedDict
from typing import Any, Protocol

from realtime.cluster.batches import EVENT, FRAMES, HEAD_SIZE, ORIGIN_SIZE, Address, unpack_head
from realtime.cluster.publisher import Publisher, Receiver
from realtime.cluster.reconnection import call_safely
from realtime.cluster.redis_connection import describe, make_pool
from realtime.cluster.subscriber import Subscriber, Subscription

logger = logging.getLogger(__name__)

# For how many senders it is remembered what was heard of them last. A Django thread may be a new one with each event.
MAX_ORIGINS = 10_000


class Listener(Receiver, Protocol):
    """The side that uses a shard. It gets messages of other nodes, and own ones that were published in order."""

    def take_event(self, subscription: Subscription, event: bytes) -> None:
        """Take a serialized event."""

    def note_gap(self) -> None:
        """Learn that messages and events may have been missed, and that from here on they arrive again."""


class Shard:
    """What this process does with one Redis. Loop thread only."""

    def __init__(self, host: dict[str, Any], listener: Listener) -> None:
        """
        Args:
            host: as channels_redis has them.
            listener: gets what arrives.
        """
        pool = make_pool(host)
        self._where = describe(pool)
        self._listener = listener
        self._loop = asyncio.get_running_loop()
        self._origin = os.urandom(ORIGIN_SIZE)
        self._heard: OrderedDict[bytes, int] = OrderedDict()  # the number of the last PUBLISH, by its origin
        self._lost_at: float | None = None
        self._has_gap = False
        self.gaps = self.messages_received = 0
        self.subscriber = Subscriber(pool, self._note_change, self)
        self.publisher = Publisher(pool, self._origin, self._note_change, self.subscriber.is_heard, listener)

    @property
    def is_reachable(self) -> bool:
        """Whether other nodes hear this one, and it hears them, as far as it knows."""
        return self._lost_at is None

    async def close(self) -> None:
        """Close both connections; what is not sent is lost."""
        await self.publisher.close()
        await self.subscriber.close()

    def stop_hearing(self, address: Address | None) -> None:
        """See `subscriber.Receiver`."""
        self.publisher.expect_no_return(address)

    def note_heartbeat(self) -> None:
        """See `subscriber.Receiver`."""
        self.publisher.settle_overdue()

    def take(self, subscription: Subscription, payload: bytes) -> None:
        """See `subscriber.Receiver`."""
        if len(payload) < HEAD_SIZE:
            return
        kind, origin, number, count = unpack_head(payload)
        heard = self._heard
        if number <= heard.get(origin, 0):
            return  # published again, since the connection was lost before Redis had answered
        heard[origin] = number
        heard.move_to_end(origin)
        if len(heard) > MAX_ORIGINS:
            heard.popitem(last=False)
        if kind == FRAMES:
            if origin == self._origin:
                self.publisher.take_return(number)
            else:
                self.messages_received += count
                self._listener.take_frames(subscription.address, payload[HEAD_SIZE:], count)
        elif kind == EVENT:
            self.messages_received += count
            self._listener.take_event(subscription, payload[HEAD_SIZE:])

    def _note_change(self, reason: str) -> None:
        """Tell of an outage once, when either connection is lost, and once when both are in use again.

        Args:
            reason: why a connection is lost, or "" if one is in use again.
        """
        publisher, subscriber = self.publisher, self.subscriber
        self._has_gap = self._has_gap or subscriber.is_lost
        if publisher.is_lost and subscriber.is_lost:
            publisher.waits_for_others = True  # they have lost theirs too
        if publisher.is_lost or subscriber.is_lost:
            if self._lost_at is None:
                self._lost_at = time.monotonic()
                logger.error("Redis at %s is out of reach (%s); messages to other nodes wait.", self._where, reason)
            # If the other one is lost too, that is one outage and not two.
            publisher.doubt()
            subscriber.doubt()
            return
        if self._lost_at is None:
            return
        seconds, self._lost_at = time.monotonic() - self._lost_at, None
        logger.warning("Redis at %s is back after %.1f s.", self._where, seconds)
        if self._has_gap:
            self._has_gap = False
            self.gaps += 1
            call_safely(self._listener.note_gap)
