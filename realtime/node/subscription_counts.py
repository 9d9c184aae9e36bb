"""The numbers of subscribers of channels of Pusher's protocol: the subscribers and webhooks learn of each change.

Loop thread only.
"""

import asyncio
from collections.abc import Callable
from functools import partial

from accounts.key_access import KeyAccess
from accounts.models import WebhookKind
from realtime.cluster.connection_counts import ConnectionCounts
from realtime.node.connections import Subscription
from realtime.node.webhooks import Webhooks
from realtime.protocols.channels import Channel
from realtime.protocols.frames import Message
from realtime.protocols.pusher_channels import PATH_PREFIX, name_in
from realtime.protocols.pusher_frames import subscription_count

SETTLE_SECONDS = 0.1
"""How long changes are gathered."""
CROWD = 100
CROWD_SECONDS = 5.0
"""How often a number is sent that is higher than `CROWD`."""


class _Change:
    """A channel whose number has changed, or was sent lately."""

    __slots__ = ("access", "channel", "group", "is_due")

    def __init__(self, subscription: Subscription) -> None:
        self.access: KeyAccess = subscription.connection.access
        self.channel: Channel = subscription.room.channel
        self.group = subscription.room.name
        self.is_due = True


class SubscriptionCounts:
    """Sends the numbers of subscribers.

    Args:
        counts: counts the subscribers on all nodes.
        publish: sends a message to a channel on all nodes; takes its group, the message and the account.
        webhooks: reports what happens to the webhooks of the cluster.
    """

    def __init__(
        self, counts: ConnectionCounts, publish: Callable[[str, Message, int], None], webhooks: Webhooks
    ) -> None:
        self._counts = counts
        self._publish = publish
        self._webhooks = webhooks
        self._changes: dict[str, _Change] = {}

    def note(self, subscription: Subscription) -> None:
        """Note that a subscription was made or has ended."""
        change = self._changes.get(subscription.room.name)
        if change is not None:
            change.is_due = True
            change.access = subscription.connection.access
        elif subscription.identity is None and self._is_wanted(
            subscription.connection.access, subscription.room.channel
        ):
            change = self._changes[subscription.room.name] = _Change(subscription)
            self._look_in(SETTLE_SECONDS, change)

    def _is_wanted(self, access: KeyAccess, channel: Channel) -> bool:
        is_of_pusher = channel[1].startswith(PATH_PREFIX)
        return is_of_pusher and (access.sends_subscription_counts or channel[0] in self._webhooks.clusters_with_counts)

    def _look_in(self, seconds: float, change: _Change) -> None:
        asyncio.get_running_loop().call_later(seconds, self._look, change)

    def _look(self, change: _Change) -> None:
        if change.is_due:
            change.is_due = False
            # Of two nodes whose counts change at the same time, at least the later one then sees both changes.
            count = partial(self._counts.count, change.channel, partial(self._send, change))
            self._counts.after_write(change.channel, count)
        else:
            del self._changes[change.group]

    def _send(self, change: _Change, subscribers: int) -> None:
        channel = change.channel
        if change.access.sends_subscription_counts:
            message = subscription_count(name_in(channel[1]), subscribers)
            self._publish(change.group, message, change.access.account_id)
        if channel[0] in self._webhooks.clusters_with_counts:
            self._webhooks.messages.note_event(WebhookKind.COUNTED, channel, subscription_count=subscribers)
        self._look_in(CROWD_SECONDS if subscribers > CROWD else SETTLE_SECONDS, change)
