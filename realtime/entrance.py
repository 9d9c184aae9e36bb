"""Connections that arrive through the front door: admitted without a task, if their key is in the cache."""

import logging
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from realtime.base import tasks
from realtime.conf import conf
from realtime.consumers import ChannelConsumer, check_limits, looping_client, refuse
from realtime.node.node import Node
from realtime.node.running import current_node
from realtime.protocols.admission import Admission
from realtime.protocols.closes import Refusal
from realtime.server.addresses import address_limits, client_network
from realtime.server.door_socket import DoorSocket
from realtime.server.socket_outlet import SocketOutlet
from realtime.sessions.all import session_type
from realtime.sessions.base import Session

logger = logging.getLogger(__name__)


def enter_socket(scope: Mapping[str, Any]) -> Callable[[DoorSocket], None] | None:
    """Return what serves the connection of a handshake.

    Args:
        scope: the ASGI scope of the handshake.

    Returns:
        None if the handshake must go the ordinary way: its key must be looked up in the database, or its client was
        refused too often.
    """
    node, kind = current_node(), session_type(scope)
    client = looping_client(kind, scope)
    if client is not None and address_limits.was_refused_too_often(client):
        return None
    decide: Callable[[], Admission]
    try:
        handshake = kind.read(scope, conf().cluster_domains)
        decide = partial(handshake.decide, node.keys.find_cached(handshake.api_key))
    except Refusal as refusal:
        decide = partial(_raise, refusal)
    except KeyError:
        return None
    return partial(_serve, node, kind, scope, decide)


def _serve(
    node: Node,
    kind: type[Session],
    scope: Mapping[str, Any],
    decide: Callable[[], Admission],
    socket: DoorSocket,
) -> None:
    """Admit or refuse a connection, in the same order as the ordinary way does."""
    outlet = SocketOutlet(socket, node.backlogs, node.counters.closes, kind.tell)
    network = client_network(scope, conf().num_proxies)
    try:
        check_limits(node, network)
        consumer = ChannelConsumer()
        consumer.open(node, kind, decide(), outlet, network)
    except Refusal as refusal:
        socket.when_lost(outlet.stop)
        tasks.run_and_keep(refuse(node, scope, outlet, socket.accept, refusal))
    else:
        tasks.run_and_keep(_join(consumer, outlet, socket))


def _raise(refusal: Refusal) -> Admission:
    raise refusal


async def _join(consumer: ChannelConsumer, outlet: SocketOutlet, socket: DoorSocket) -> None:
    """Join the channel, and leave it when the connection has ended, but not in the middle of joining."""

    def leave() -> None:
        consumer.leave()
        outlet.stop()

    try:
        await consumer.join(socket.accept)
    except BaseException as error:
        leave()
        outlet.abort()
        if isinstance(error, Exception):
            logger.exception("Closing a connection that could not join its channel.")
        else:
            raise
    else:
        socket.when_lost(leave)
