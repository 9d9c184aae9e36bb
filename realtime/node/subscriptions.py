"""The subscriptions of the connections of this node: their rooms, counts and seats in presence. Loop thread only."""

from collections.abc import Container

from realtime.cluster.bus import Bus
from realtime.cluster.connection_counts import ConnectionCounts
from realtime.fanout.hub import Hub
from realtime.node.connections import Connection, Subscription
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
        connections: the open connections of this node.
    """

    def __init__(
        self, hub: Hub, bus: Bus, counts: ConnectionCounts, presence: Presence, connections: Container[Connection]
    ) -> None:
        self._hub = hub
        self._bus = bus
        self._counts = counts
        self._presence = presence
        self._connections = connections

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
        if connection not in self._connections:
            self._bus.leave(target.group)
            return None
        subscription = self.enter(connection, target)
        self._counts.subscribe(subscription.room.channel)
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

    def enter(self, connection: Connection, target: Target) -> Subscription:
        """Make a connection a member of a room."""
        room = self._hub.room(target.group, target.channel, connection.traffic.account.deliveries)
        subscription = Subscription(connection, target, room)
        room.add(subscription)
        connection.subscriptions[room.name] = subscription
        return subscription

    def drop(self, subscription: Subscription) -> None:
        """Take a subscription out of everything in which it takes part, besides its connection."""
        connection, room = subscription.connection, subscription.room
        self._hub.leave(room, subscription)
        if subscription.identity is not None:
            self._presence.leave(room.name, subscription)
        if subscription is not connection.primary:  # else it is counted together with its connection
            self._counts.unsubscribe(room.channel)
        self._bus.leave(room.name)
