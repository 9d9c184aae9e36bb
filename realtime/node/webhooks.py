"""The part of a node that has to do with webhooks, with its queries. Loop thread only."""

from accounts.webhooks import pruning, queue, states
from accounts.webhooks.exchange import exchange
from realtime.cluster.connection_counts import ConnectionCounts
from realtime.node import database
from realtime.node.connections import Subscription
from realtime.presence.local import Presence
from realtime.protocols.presence import user_id_of
from realtime.webhooks.messages import Messages
from realtime.webhooks.occupancy import Occupancy
from realtime.webhooks.reporter import Reporter
from realtime.webhooks.sender import Sender


class Webhooks:
    """Reports what happens on this node, and sends what waits."""

    def __init__(self, node_id: str, counts: ConnectionCounts, presence: Presence) -> None:
        """
        Args:
            node_id: the ID of the node.
            counts: counts connections on all nodes.
            presence: knows the members of channels on all nodes.
        """
        query = database.webhooks.wrap
        self._sender = sender = Sender(query(exchange), query(pruning.prune))
        self._reporter = Reporter(database.background.wrap(states.find_endpoints))
        self.endpoints = self._reporter.endpoints
        """The webhooks of each cluster; empty while there are none."""
        self.clusters_with_messages = self._reporter.clusters_with_messages
        """The clusters whose webhooks get the messages of clients."""
        self.clusters_with_members = self._reporter.clusters_with_members
        """The clusters whose webhooks get the members that join and leave."""
        self.clusters_with_counts = self._reporter.clusters_with_counts
        """The clusters whose webhooks get the numbers of subscribers."""
        self.clusters_with_misses = self._reporter.clusters_with_misses
        """The clusters whose webhooks get the channels that have no last event."""
        add, record = sender.waking(query(queue.add)), sender.waking(query(states.record_states))
        self.messages = Messages(self.endpoints, _describe, add, query(queue.count_dropped))
        self.occupancy = Occupancy(node_id, self.endpoints, counts, presence, record, query(states.present_subjects))
        self._reporter.messages, self._reporter.occupancy = self.messages, self.occupancy

    def start(self) -> None:
        """Start to report and to send."""
        self._sender.start()
        self._reporter.start()

    async def stop(self) -> None:
        """Write what is left, and wait a moment for the requests in flight."""
        await self._reporter.stop()
        await self._sender.stop()

    def change(self) -> None:
        """Ask for the webhooks and for deliveries soon, because a webhook may have changed."""
        self._reporter.refresh()
        self._sender.wake()

    def wake(self) -> None:
        """Ask for deliveries soon, because some may be due."""
        self._sender.wake()


def _describe(sender: Subscription) -> tuple[str, str | None]:
    identity = sender.identity
    return sender.connection.id, None if identity is None else user_id_of(identity.uuid)
