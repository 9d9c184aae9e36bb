"""The fast way through the channel layer, for a server process that passes many messages on.

    link = layer.attach(on_frames, on_event, on_gap)
    link.start()
    await link.join(group)
    link.publish(group, frames, count, party)
    link.publish_in_order(group, frames, count, party, on_done)
    link.send_event(group, event)
    link.leave(group)
    await link.stop()

- Messages are *frames*: bytes that are passed on as they are, many at once, with their count. They go to links alone.
  Events are dicts. They go to links as `on_event(group, event)`, and to the mailboxes of Channels.
- `publish` is for messages that the caller has already delivered to its own clients. The link does not give them back.
- `publish_in_order` is for messages whose order counts among all nodes. The caller does not deliver them: `on_frames`
  gives them back in the order that Redis has given them, exactly once, and then `on_done` is called. When Redis does
  not send them back, because the group is not joined or a connection was lost, `on_frames` gets them as soon as that is
  known. While Redis is out of reach, both happen during the call, and other nodes get the messages later.
- Only `join` and `stop` wait for Redis. What cannot be sent yet waits, up to 64 MiB for each Redis; beyond that,
  the parties with the most waiting lose their oldest messages. Parties (tenants) take turns.
- After an outage, `on_gap` is called when everything is subscribed again. What other nodes have sent meanwhile may be
  missing, and is not sent again.
- A callback is called from the loop, must not wait, and may call the link.

What one process sends to a group for one party arrives in that order, and at most once.
"""

import asyncio
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any

from realtime.cluster.batches import Address
from realtime.cluster.shard import Shard

# How long a link waits until Redis has confirmed that a group is joined, in seconds.
JOIN_SECONDS = 2.0
# How long a link that stops waits until Redis has taken what is still to be sent, in seconds.
STOP_SECONDS = 3.0


@dataclass(frozen=True, slots=True)
class Callbacks:
    """What a link calls; see `PubSubLayer.attach`."""

    on_frames: Callable[[str, bytes, int], None]
    on_event: Callable[[str, dict[str, Any]], None]
    on_gap: Callable[[], None]
    on_round_trip: Callable[[float], None]


class Link:
    """One server process on the channel layer. Made by `PubSubLayer.attach`. Loop thread only."""

    def __init__(
        self,
        place: Callable[[str], tuple[Address, Shard]],
        shards: Sequence[Shard],
        serialize: Callable[[dict[str, Any]], bytes],
        callbacks: Callbacks,
    ) -> None:
        """
        Args:
            place: returns the address of a group, and the Redis that has it.
            shards: each Redis of the layer.
            serialize: makes bytes of an event.
            callbacks: get what arrives.
        """
        self._place = place
        self._shards = shards
        self._serialize = serialize
        self.callbacks = callbacks

    def start(self) -> None:
        """Connect in the background."""
        for shard in self._shards:
            shard.publisher.open()
            shard.subscriber.open()

    async def stop(self) -> None:
        """Send what waits, as far as Redis can be reached, and close the connections.

        The layer of this event loop then behaves as if Redis were out of reach, until it is flushed.
        """
        reachable = [shard.publisher for shard in self._shards if not shard.publisher.is_lost]
        deadline = asyncio.get_running_loop().time() + STOP_SECONDS
        while asyncio.get_running_loop().time() < deadline:
            if all(publisher.is_idle for publisher in reachable):
                break
            await asyncio.sleep(0.01)
        for shard in self._shards:
            await shard.close()

    @property
    def is_reachable(self) -> bool:
        """Whether other nodes hear this one, and it hears them, as far as it knows."""
        return all(shard.is_reachable for shard in self._shards)

    async def join(self, group: str) -> None:
        """Want a group: what is sent to it after the return of this call arrives here.

        If Redis does not confirm that within `JOIN_SECONDS`, or is out of reach, the group is joined later. Every call,
        also one that was cancelled, is undone by one `leave`.
        """
        address, shard = self._place(group)
        subscription = shard.subscriber.want(address)
        subscription.links += 1
        if not subscription.is_confirmed:
            await shard.subscriber.confirm(subscription, JOIN_SECONDS)

    def leave(self, group: str) -> None:
        """Undo one `join`; after the last, nothing arrives any more."""
        address, shard = self._place(group)
        subscription = shard.subscriber.find(address)
        if subscription is not None:  # or the layer was flushed
            subscription.links -= 1
            shard.subscriber.unwant(subscription)

    def publish(self, group: str, frames: bytes, count: int, party: Hashable) -> None:
        """Pass messages on to other nodes. Never waits.

        Args:
            group: where to.
            frames: the messages, one behind the other, as receivers get them.
            count: how many they are.
            party: whose messages they are.
        """
        address, shard = self._place(group)
        shard.publisher.publish(address, frames, count, party)

    def publish_in_order(
        self, group: str, frames: bytes, count: int, party: Hashable, on_done: Callable[[], None]
    ) -> None:
        """Pass messages on to all nodes, this one too, in the order that Redis gives them. Never waits.

        Args:
            group: where to.
            frames: the messages, one behind the other, as receivers get them.
            count: how many they are.
            party: whose messages they are.
            on_done: called once, after `on_frames`, when Redis has them; while it is out of reach, during the call.
        """
        address, shard = self._place(group)
        shard.publisher.publish_in_order(address, frames, count, party, on_done)

    def send_event(self, group: str, event: dict[str, Any], party: Hashable = None) -> None:
        """Send an event to all who are in a group, this process too. Never waits.

        Args:
            group: where to.
            event: what the serializer takes.
            party: whose event it is.

        Raises:
            TypeError, ValueError: the event cannot be serialized.
        """
        address, shard = self._place(group)
        shard.publisher.send(address, self._serialize(event), party)

    @property
    def messages_sent(self) -> int:
        """Messages and events that Redis has taken."""
        return sum(shard.publisher.messages_sent for shard in self._shards)

    @property
    def messages_received(self) -> int:
        """Messages and events that have arrived from Redis, without those that `publish` has sent."""
        return sum(shard.messages_received for shard in self._shards)

    @property
    def messages_dropped(self) -> int:
        """Messages and events that Redis has not taken, and does not get any more."""
        return sum(shard.publisher.messages_dropped for shard in self._shards)

    @property
    def gaps(self) -> int:
        """How often messages of other nodes may have been missed."""
        return sum(shard.gaps for shard in self._shards)

    @property
    def connects(self) -> int:
        """How often a connection to Redis was opened; two for each Redis without an outage."""
        return sum(shard.publisher.connects + shard.subscriber.connects for shard in self._shards)
