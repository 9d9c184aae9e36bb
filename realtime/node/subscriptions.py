"""The subscriptions of the connections of this node: their rooms, counts and seats in presence. Loop thread only."""

from realtime.cluster.bus import Bus
from realtime.cluster.connection_counts import ConnectionCounts
from realtime.fanout.hub import Hub
from realtime.node.connections import Connection, Subscription
from realtime.node.subscription_counts import SubscriptionCounts
from realtime.node.webhooks import Webhooks
from realtime.presence.local import Presence
from realtime.protocols.admission import Target
from realtime.protocols.presence import Identity, PresenceEvents


class Subscriptions:
    """Makes and ends subscriptions.

    Args:
        hub: the rooms of this node.
        bus: receives the messages of other nodes.
        counts: counts the subscribers of each channel.
        presence: knows who is in each channel.
        webhooks: reports what happens to the webhooks of the cluster.
        subscription_counts: tells the subscribers of a channel how many they are.
    """

    def __init__(  # noqa: PLR0913, PLR0917
        self,
        hub: Hub,
        bus: Bus,
        counts: ConnectionCounts,
        presence: Presence,
        webhooks: Webhooks,
        subscription_counts: SubscriptionCounts,
    ) -> None:
        self._hub = hub
        self._bus = bus
        self._counts = counts
        self._presence = presence
        self._webhooks = webhooks
        self._subscription_counts = subscription_counts

    async def subscribe(self, connection: Connection, target: Target) -> Subscription | None:
        """Subscribe an open connection to a further channel, and count the subscription.

        When this returns, the subscription receives messages. Its presence is still to be joined with `join_presence`.

        Args:
            connection: an open connection without a subscription to the channel.
            target: the channel.

        Returns:
            The subscription; None if the connection has ended in the meantime.
        """
        try:
            await self._bus.join(target.group)
        except BaseException:
            self._bus.leave(target.group)
            raise
        if connection.ended is not None or not connection.takes_messages:
            self._bus.leave(target.group)
            return None
        subscription = self.enter(connection, target)
        self.count(subscription)
        self._subscription_counts.note(subscription)
        self.report(subscription)
        return subscription

    def unsubscribe(self, subscription: Subscription) -> None:
        """Undo `subscribe` and `join_presence`."""
        del subscription.connection.subscriptions[subscription.room.name]
        self.drop(subscription)

    def join_presence(self, subscription: Subscription, identity: Identity, events: PresenceEvents) -> None:
        """Add a subscription to the presence of its channel.

        Args:
            subscription: the subscription, which has this identity.
            identity: the member.
            events: what the members of the channel get.

        Raises:
            Refusal: there is no room for it.
        """
        self._presence.join(subscription.room.name, subscription, identity, events)
        self.report_member(subscription)

    def enter(self, connection: Connection, target: Target) -> Subscription:
        """Make a connection a member of a room."""
        room = self._hub.room(target.group, target.channel, connection.traffic.account.deliveries)
        subscription = Subscription(connection, target, room)
        room.add(subscription)
        connection.subscriptions[room.name] = subscription
        return subscription

    def count(self, subscription: Subscription) -> None:
        """Count a subscription in its channel, unless its connection is counted there."""
        channel = subscription.room.channel
        if channel != subscription.connection.place.channel:
            subscription.is_counted = True
            self._counts.subscribe(channel)

    def drop(self, subscription: Subscription) -> None:
        """Take a subscription out of everything in which it takes part, besides its connection."""
        room = subscription.room
        self._hub.leave(room, subscription)
        identity, cluster_pk = subscription.identity, room.channel[0]
        if identity is not None:
            self._presence.leave(room.name, subscription)
            if cluster_pk in self._webhooks.clusters_with_members:
                self._webhooks.occupancy.leave_member(room.channel, identity.uuid)
        if subscription.is_counted:
            self._counts.unsubscribe(room.channel)
            self._subscription_counts.note(subscription)
        if cluster_pk in self._webhooks.endpoints:
            self._webhooks.occupancy.leave(room.channel)
        self._bus.leave(room.name)

    def report(self, subscription: Subscription) -> None:
        """Report a subscription to the webhooks of its cluster."""
        channel = subscription.room.channel
        if channel[0] in self._webhooks.endpoints:
            self._webhooks.occupancy.join(channel)

    def report_member(self, subscription: Subscription) -> None:
        """Report to the webhooks of its cluster that a subscription takes part in presence."""
        channel, identity = subscription.room.channel, subscription.identity
        if identity is not None and channel[0] in self._webhooks.clusters_with_members:
            self._webhooks.occupancy.join_member(channel, identity.uuid)
