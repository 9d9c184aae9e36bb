"""Subscribing at one Redis: all that changes in a turn of the loop goes in one command, and Redis' answer counts."""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Any, Protocol

from redis.asyncio.connection import ConnectionPool

from realtime.cluster.batches import Address
from realtime.cluster.reconnection import KeptConnection, encode_command

# How many names go in one command.
MAX_NAMES = 1000


class Subscription:
    """What this process wants to hear of one channel of Redis."""

    __slots__ = (
        *("address", "links", "mailboxes", "wanted"),
        *("confirmation", "is_confirmed", "is_requested", "unanswered"),
    )

    def __init__(self, address: Address) -> None:
        self.address = address
        self.wanted = 0
        """How many want it."""
        self.links = 0
        """How many of them are members of the link's group."""
        self.mailboxes: dict[str, asyncio.Queue[bytes]] = {}
        """Those that get its events, by name."""
        self.is_requested = False
        """Whether the last command that was sent has subscribed."""
        self.unanswered = 0
        """How many commands Redis has not answered."""
        self.is_confirmed = False
        """Whether Redis sends us everything from here on: it has answered, and was not told otherwise since."""
        self.confirmation: asyncio.Future[None] | None = None
        """Completes when Redis has confirmed or is lost, if anybody waits for that."""

    def confirm(self) -> None:
        """Note that Redis has subscribed us."""
        self.is_confirmed = True
        self.release()

    def release(self) -> None:
        """Let nobody wait any more."""
        if self.confirmation is not None:
            if not self.confirmation.done():
                self.confirmation.set_result(None)
            self.confirmation = None


class Receiver(Protocol):
    """The side that uses a subscriber."""

    def take(self, subscription: Subscription, payload: bytes) -> None:
        """Take what was published."""

    def stop_hearing(self, address: Address | None) -> None:
        """Learn that nothing arrives any more from an address, or from any."""

    def note_heartbeat(self) -> None:
        """Learn that Redis has answered a heartbeat."""


class Subscriber(KeptConnection):
    """One connection that subscribes. Loop thread only."""

    def __init__(self, pool: ConnectionPool, on_change: Callable[[str], None], receiver: Receiver) -> None:
        """
        Args:
            pool: where to connect to.
            on_change: called when the connection was lost, with the reason, and with "" when everything that was
                wanted on connecting again is subscribed.
            receiver: gets what arrives.
        """
        super().__init__(pool, on_change)
        self._receiver = receiver
        self._subscriptions: dict[bytes, Subscription] = {}  # by the channel's name
        self._changed: dict[Subscription, None] = {}  # in this turn of the loop
        self._to_restore = 0  # how many of those that were wanted at connecting Redis has not answered

    def want(self, address: Address) -> Subscription:
        """Want to hear an address; each call is undone by one `unwant`."""
        subscription = self._subscriptions.get(address.name)
        if subscription is None:
            subscription = self._subscriptions[address.name] = Subscription(address)
        subscription.wanted += 1
        if subscription.wanted == 1:
            self._note_change(subscription)
        return subscription

    def unwant(self, subscription: Subscription) -> None:
        """Undo one `want`."""
        subscription.wanted -= 1
        if not subscription.wanted:
            self._note_change(subscription)

    def find(self, address: Address) -> Subscription | None:
        """Return what is wanted of an address, if anything is."""
        subscription = self._subscriptions.get(address.name)
        return subscription if subscription is not None and subscription.wanted else None

    def is_heard(self, address: Address) -> bool:
        """Return whether Redis is sure to send us what is published from now on."""
        subscription = self._subscriptions.get(address.name)
        return subscription is not None and subscription.is_confirmed

    async def confirm(self, subscription: Subscription, seconds: float) -> bool:
        """Wait until Redis has subscribed us; return whether it has.

        Args:
            subscription: is wanted.
            seconds: how long to wait at most.
        """
        if subscription.is_confirmed:
            return True
        if self.is_lost:
            return False
        if subscription.confirmation is None:
            subscription.confirmation = self._loop.create_future()
        await asyncio.wait([subscription.confirmation], timeout=seconds)
        return subscription.is_confirmed

    def handle_reply(self, reply: Any) -> None:
        """See `ReplyHandler`."""
        if isinstance(reply, list):
            kind = reply[0]
            if kind == b"message":
                subscription = self._subscriptions.get(reply[1])
                if subscription is not None:
                    self._receiver.take(subscription, reply[2])
            elif kind == b"subscribe":
                self._note_subscribed(self._subscriptions[reply[1]])
            elif kind == b"unsubscribe":
                self._note_unsubscribed(self._subscriptions[reply[1]])
            else:
                self._note_pong()  # as Redis answers PING on a connection that has subscribed
        elif isinstance(reply, Exception):
            self.lose(f"it refuses to subscribe: {reply}")
        else:
            self._note_pong()

    def _note_pong(self) -> None:
        self._note_life()
        self._receiver.note_heartbeat()

    def _note_change(self, subscription: Subscription) -> None:
        self._changed[subscription] = None
        self._schedule_flush()

    def _note_subscribed(self, subscription: Subscription) -> None:
        subscription.unanswered -= 1
        if not subscription.unanswered:
            subscription.confirm()
        if self._to_restore:
            self._to_restore -= 1
            if not self._to_restore:
                self._note_use()

    def _note_unsubscribed(self, subscription: Subscription) -> None:
        subscription.unanswered -= 1
        self._receiver.stop_hearing(subscription.address)
        self._forget_if_unwanted(subscription)

    def _forget_if_unwanted(self, subscription: Subscription) -> None:
        name = subscription.address.name
        is_used = subscription.wanted or subscription.unanswered or subscription.is_requested
        if not is_used and self._subscriptions.get(name) is subscription:
            del self._subscriptions[name]

    def _begin(self) -> None:
        self._changed.clear()
        wanted = [subscription for subscription in self._subscriptions.values() if subscription.wanted]
        self._subscriptions = {subscription.address.name: subscription for subscription in wanted}
        self._to_restore = len(wanted)
        self._subscribe(wanted)
        if not wanted:
            self._note_use()

    def _interrupt(self) -> None:
        self._to_restore = 0
        for subscription in list(self._subscriptions.values()):
            subscription.is_requested = subscription.is_confirmed = False
            subscription.unanswered = 0
            subscription.release()
            self._forget_if_unwanted(subscription)
        self._receiver.stop_hearing(None)

    def _flush(self) -> None:
        changed, self._changed = self._changed, {}
        if self._connection is not None:
            self._subscribe([one for one in changed if one.wanted and not one.is_requested])
            self._unsubscribe([one for one in changed if not one.wanted and one.is_requested])
        for subscription in changed:
            self._forget_if_unwanted(subscription)

    def _subscribe(self, subscriptions: Sequence[Subscription]) -> None:
        for subscription in subscriptions:
            subscription.is_requested = True
            subscription.unanswered += 1
        self._command(b"SUBSCRIBE", subscriptions)

    def _unsubscribe(self, subscriptions: Sequence[Subscription]) -> None:
        for subscription in subscriptions:
            subscription.is_requested = subscription.is_confirmed = False
            subscription.unanswered += 1
        self._command(b"UNSUBSCRIBE", subscriptions)

    def _command(self, command: bytes, subscriptions: Sequence[Subscription]) -> None:
        for some in _chunks(subscriptions, MAX_NAMES):
            self._write(encode_command(command, *(subscription.address.name for subscription in some)))


def _chunks(subscriptions: Sequence[Subscription], size: int) -> Iterator[list[Subscription]]:
    iterator = iter(subscriptions)
    while some := list(islice(iterator, size)):
        yield some
