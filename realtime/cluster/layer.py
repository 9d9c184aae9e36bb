"""A channel layer over Redis' pub/sub, made for many messages.

For Channels it is an ordinary layer with groups, named in the settings. Hosts, sharding, prefix and serializers are
those of channels_redis, of whose pub/sub layer it is a subclass:

    CHANNEL_LAYERS = {"default": {"BACKEND": "realtime.cluster.layer.PubSubLayer", "CONFIG": {"hosts": [...]}}}

It promises more than that one:

- `group_add` and `new_channel` return when Redis has confirmed the subscription, `group_send` and `send` when Redis has
  the event. Each fails after `CALL_SECONDS`, and at once while Redis is known to be out of reach.
- An event that had to be sent again, because a connection was lost, arrives once.
- Mailboxes are bounded. Groups and mailboxes survive an outage of Redis; what is sent meanwhile does not arrive.

A server process that passes many messages on attaches a link (`realtime.cluster.link`), which is the faster way.
"""

import asyncio
import logging
import uuid
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from channels_redis.pubsub import RedisPubSubChannelLayer
from channels_redis.utils import _consistent_hash, _wrap_close, decode_hosts
from redis.exceptions import ConnectionError as RedisConnectionError

from realtime.cluster.batches import Address
from realtime.cluster.link import Callbacks, Link
from realtime.cluster.shard import Shard
from realtime.cluster.subscriber import Subscription

logger = logging.getLogger(__name__)

# How long a call of Channels waits for Redis, in seconds.
CALL_SECONDS = 3.0
# How many groups' places are remembered.
_MAX_PLACES = 100_000


class PubSubLayer(RedisPubSubChannelLayer):  # type: ignore[misc]
    """The channel layer, for any number of event loops. Each has connections of its own, which end with it."""

    def __init__(
        self,
        hosts: list[Any] | None = None,
        prefix: str = "asgi",
        capacity: int = 100,
        serializer_format: str = "msgpack",
        symmetric_encryption_keys: list[str] | None = None,
    ) -> None:
        """
        Args:
            hosts: as channels_redis has them; each group is on one of them.
            prefix: begins all names on Redis. Pub/sub ignores database numbers, so services need different ones.
            capacity: how many events wait in a mailbox at most; further ones are dropped.
            serializer_format, symmetric_encryption_keys: for events, as channels_redis has them.
        """
        super().__init__(
            hosts,
            prefix,
            capacity,
            serializer_format=serializer_format,
            symmetric_encryption_keys=symmetric_encryption_keys,
        )

    def attach(
        self,
        on_frames: Callable[[str, bytes, int], None],
        on_event: Callable[[str, dict[str, Any]], None],
        on_gap: Callable[[], None],
        on_round_trip: Callable[[float], None] = lambda seconds: None,
    ) -> Link:
        """Return a new link of the running event loop, which takes the place of an earlier one.

        Args:
            on_frames: called with a group, with frames, and how many they are.
            on_event: called with a group and an event.
            on_gap: called when messages may have been missed.
            on_round_trip: called twice a second for each Redis with how long it took to answer, in seconds.

        Raises:
            ValueError: the layer shall encrypt, which it does not do with frames.
        """
        if getattr(self._serializer, "crypter", None) is not None:
            raise ValueError("Links do not encrypt: remove symmetric_encryption_keys, or use TLS to Redis.")
        layer: LoopLayer = self._get_layer()
        callbacks = Callbacks(on_frames, on_event, on_gap, on_round_trip)
        link = layer.link = Link(layer.place, layer.shards, self.serialize, callbacks)
        return link

    def _get_layer(self) -> "LoopLayer":
        loop = asyncio.get_running_loop()
        layer: LoopLayer | None = self._layers.get(loop)
        if layer is None:
            layer = self._layers[loop] = LoopLayer(self, *self._args)
            _wrap_close(self, loop)
        return layer


class LoopLayer:
    """The channel layer of one event loop."""

    extensions = ["groups", "flush"]

    def __init__(self, layer: PubSubLayer, hosts: list[Any] | None, prefix: str, capacity: int) -> None:
        self._layer = layer
        self._hosts = decode_hosts(hosts)
        self._prefix = prefix
        self._capacity = capacity
        self._mailboxes: dict[str, asyncio.Queue[bytes]] = {}
        self._groups_of: dict[str, set[str]] = {}  # by mailbox
        self.link: Link | None = None
        self.events_dropped = 0
        """Events that a full mailbox has not taken."""
        self.shards = [Shard(host, self) for host in self._hosts]
        self.place = lru_cache(_MAX_PLACES)(self._find_place)
        """Returns the address of a group, and the Redis that has it."""

    async def new_channel(self, prefix: str = "specific.") -> str:
        """Return the name of a new mailbox of this process.

        Raises:
            redis.exceptions.ConnectionError: Redis has not confirmed it.
        """
        channel = f"{self._prefix}{prefix}{uuid.uuid4().hex}"
        await self._open_mailbox(channel)
        return channel

    async def receive(self, channel: str) -> dict[str, Any]:
        """Return the next event of a mailbox. A call that is cancelled closes it, as Channels expects."""
        if channel not in self._mailboxes:
            await self._open_mailbox(channel)
        try:
            event = await self._mailboxes[channel].get()
        except BaseException:
            self._close_mailbox(channel)
            raise
        message: dict[str, Any] = self._layer.deserialize(event)
        return message

    async def send(self, channel: str, message: dict[str, Any]) -> None:
        """Send an event to a mailbox.

        Raises:
            redis.exceptions.ConnectionError: Redis has not taken it yet; if it was only slow, the event may arrive.
        """
        await self._send(*self._place_of_mailbox(channel), message)

    async def group_send(self, group: str, message: dict[str, Any]) -> None:
        """Send an event to all mailboxes and links that are in a group.

        Raises:
            redis.exceptions.ConnectionError: Redis has not taken it yet; if it was only slow, the event may arrive.
        """
        await self._send(*self.place(group), message)

    async def group_add(self, group: str, channel: str) -> None:
        """Add a mailbox of this process to a group.

        Raises:
            redis.exceptions.ConnectionError: Redis has not confirmed it. It is added as soon as Redis does.
            RuntimeError: this process has no such mailbox.
        """
        if channel not in self._mailboxes:
            raise RuntimeError(f"group_add() needs a channel of this process, and {channel!r} is not one.")
        address, shard = self.place(group)
        if group not in self._groups_of[channel]:
            self._groups_of[channel].add(group)
            self._subscribe(address, shard, channel)
        await self._confirm(address, shard)

    async def group_discard(self, group: str, channel: str) -> None:
        """Remove a mailbox from a group, if it is in it."""
        groups = self._groups_of.get(channel, set())
        if group in groups:
            groups.remove(group)
            self._unsubscribe(*self.place(group), channel)

    async def flush(self) -> None:
        """Close all connections, and forget mailboxes, groups and the link. The layer can be used again."""
        shards, self.shards = self.shards, [Shard(host, self) for host in self._hosts]
        self._mailboxes, self._groups_of, self.link = {}, {}, None
        self.place.cache_clear()
        for shard in shards:
            await shard.close()

    def take_frames(self, address: Address, frames: bytes, count: int) -> None:
        """See `shard.Listener`."""
        if self.link is not None:
            self.link.callbacks.on_frames(address.group, frames, count)

    def take_event(self, subscription: Subscription, event: bytes) -> None:
        """See `shard.Listener`."""
        for mailbox in subscription.mailboxes.values():
            if mailbox.full():
                if not self.events_dropped:
                    logger.error("A mailbox is full; its consumer is too slow. Events to it are dropped.")
                self.events_dropped += 1
            else:
                mailbox.put_nowait(event)
        if subscription.links and self.link is not None:
            self.link.callbacks.on_event(subscription.address.group, self._layer.deserialize(event))

    def note_gap(self) -> None:
        """See `shard.Listener`."""
        if self.link is not None:
            self.link.callbacks.on_gap()

    def note_round_trip(self, seconds: float) -> None:
        """See `shard.Listener`."""
        if self.link is not None:
            self.link.callbacks.on_round_trip(seconds)

    def _find_place(self, group: str) -> tuple[Address, Shard]:
        return self._place_of(group, f"{self._prefix}__group__{group}")

    def _place_of_mailbox(self, channel: str) -> tuple[Address, Shard]:
        return self._place_of(channel, channel)

    def _place_of(self, group: str, name: str) -> tuple[Address, Shard]:
        return Address(group, name), self.shards[_consistent_hash(name, len(self.shards))]

    async def _send(self, address: Address, shard: Shard, message: dict[str, Any]) -> None:
        if shard.publisher.is_lost:
            raise RedisConnectionError("Redis is out of reach.")
        answer: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def note(error: Exception | None) -> None:
            if answer.done():
                return
            if error is None:
                answer.set_result(None)
            else:
                answer.set_exception(error)

        shard.publisher.open()
        shard.publisher.send(address, self._layer.serialize(message), address.group, note)
        try:
            async with asyncio.timeout(CALL_SECONDS):
                await answer
        except TimeoutError:
            raise RedisConnectionError(f"Redis has not answered within {CALL_SECONDS:g} s.") from None

    async def _open_mailbox(self, channel: str) -> None:
        address, shard = self._place_of_mailbox(channel)
        self._mailboxes[channel] = asyncio.Queue(self._capacity)
        self._groups_of[channel] = set()
        self._subscribe(address, shard, channel)
        try:
            await self._confirm(address, shard)
        except BaseException:
            self._close_mailbox(channel)
            raise

    def _close_mailbox(self, channel: str) -> None:
        if channel in self._mailboxes:
            for group in self._groups_of.pop(channel):
                self._unsubscribe(*self.place(group), channel)
            self._unsubscribe(*self._place_of_mailbox(channel), channel)
            del self._mailboxes[channel]

    def _subscribe(self, address: Address, shard: Shard, channel: str) -> None:
        shard.subscriber.open()
        shard.subscriber.want(address).mailboxes[channel] = self._mailboxes[channel]

    def _unsubscribe(self, address: Address, shard: Shard, channel: str) -> None:
        subscription = shard.subscriber.find(address)
        if subscription is not None:
            del subscription.mailboxes[channel]
            shard.subscriber.unwant(subscription)

    async def _confirm(self, address: Address, shard: Shard) -> None:
        subscription = shard.subscriber.find(address)
        if subscription is None or not await shard.subscriber.confirm(subscription, CALL_SECONDS):
            raise RedisConnectionError("Redis has not confirmed the subscription.")
