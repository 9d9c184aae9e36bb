"""How this node finds the webhooks, and stores what they get."""

from accounts.webhooks import queue, states
from realtime.cluster.connection_counts import ConnectionCounts
from realtime.node.connections import Subscription
from realtime.node.database import background, webhooks
from realtime.presence.local import Presence
from realtime.protocols.presence import user_id_of
from realtime.webhooks.messages import Messages
from realtime.webhooks.occupancy import Occupancy
from realtime.webhooks.reporter import Reporter
from realtime.webhooks.sender import Sender


def make_reporter(node_id: str, counts: ConnectionCounts, presence: Presence) -> Reporter:
    """Return what reports the events of this node to webhooks.

    Args:
        node_id: the ID of this node.
        counts: counts connections on all nodes.
        presence: knows the members of channels on all nodes.
    """
    reporter = Reporter(background.wrap(states.find_endpoints))
    reporter.messages = Messages(
        reporter.endpoints, _sender_of, webhooks.wrap(queue.add), webhooks.wrap(queue.count_dropped)
    )
    record, told = webhooks.wrap(states.record_states), webhooks.wrap(states.present_subjects)
    reporter.occupancy = Occupancy(node_id, reporter.endpoints, counts, presence, record, told)
    return reporter


def make_sender() -> Sender:
    """Return what sends the stored deliveries of all nodes."""
    return Sender(webhooks.wrap(queue.exchange), webhooks.wrap(states.prune))


def _sender_of(sender: Subscription) -> tuple[str, str | None]:
    identity = sender.identity
    return sender.connection.id, None if identity is None else user_id_of(identity.uuid)
