"""The life of one connection: it is admitted, opened, sends messages and leaves.

The consumer is the same for every way that a WebSocket arrives: through ASGI, from any ASGI server, or through the
front door of Daphne, which calls its methods directly. What the client's messages mean is for its session.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Hashable, Mapping, MutableMapping
from typing import Any

from channels.consumer import AsyncConsumer
from django.db import Error as DatabaseError

from realtime.base.asgi import Receive, Send
from realtime.conf import conf
from realtime.fanout.backlogs import Backlogs
from realtime.fanout.outlets import AsgiOutlet, Outlet
from realtime.node.node import Node
from realtime.node.running import current_node
from realtime.protocols.admission import Admission, Read, admit
from realtime.protocols.closes import NO_DATABASE, TOO_MANY_OF_ADDRESS, Refusal, Tell
from realtime.protocols.handshake import first_subprotocol
from realtime.server.addresses import address_limits, client_network
from realtime.server.socket_outlet import SocketOutlet
from realtime.server.websocket import outlet_for
from realtime.sessions.all import session_type
from realtime.sessions.base import Session

REJECTION_SECONDS = 2.0
"""How long a client waits for the rejection of its handshake that was refused too often, in seconds."""


def check_limits(node: Node, network: str | None) -> None:
    """Check what does not depend on the key: the limits of the client's address and of this node.

    Raises:
        Refusal: the client may not connect now.
    """
    if not address_limits.may_connect(network):
        raise Refusal(TOO_MANY_OF_ADDRESS)
    node.check_capacity()


def looping_client(kind: type[Session], scope: Mapping[str, Any]) -> Hashable | None:
    """Return what identifies a client that reconnects immediately after every refusal; None for others.

    Args:
        kind: the protocol of the handshake.
        scope: the ASGI scope of the handshake.
    """
    client = kind.looping_client(scope)
    return None if client is None else (client_network(scope, conf().num_proxies), client)


async def refuse(
    node: Node, scope: Mapping[str, Any], outlet: Outlet, accept: Callable[[], Awaitable[None]], refusal: Refusal
) -> None:
    """Accept a handshake and close the connection, so that the client learns why."""
    client = looping_client(session_type(scope), scope)
    if client is not None:
        address_limits.count_refusal(client)
    node.counters.refusals[refusal.close.reason] += 1
    node.reports.refuse_handshake(refusal.close, scope)
    await accept()
    outlet.open()
    outlet.close(refusal.close)


class ChannelConsumer(AsyncConsumer):  # type: ignore[misc]
    """Serves one WebSocket. Its channels are groups of the channel layer, which the node joins for it.

    The consumer has no mailbox of its own on the channel layer and no handler dispatch.
    """

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """Serve a connection that arrives through ASGI, in a plain loop over `receive()`."""
        await receive()  # websocket.connect
        node = current_node()
        kind = session_type(scope)
        outlet = _outlet(send, node.backlogs, node.counters.closes, kind.tell)

        async def accept() -> None:
            await send({"type": "websocket.accept", "subprotocol": first_subprotocol(scope)})

        try:
            network = client_network(scope, conf().num_proxies)
            try:
                check_limits(node, network)
                client = looping_client(kind, scope)
                if client is not None and address_limits.was_refused_too_often(client):
                    await _reject_slowly(receive, send)
                    return
                self.open(node, kind, await _admit(node, scope, kind.read), outlet, network)
            except Refusal as refusal:
                await refuse(node, scope, outlet, accept, refusal)
                await _until_disconnected(receive)
                return
            # Drop the credentials and free their memory.
            scope["headers"], scope["query_string"] = [], b""
            try:
                await self.join(accept)
                while (event := await receive())["type"] == "websocket.receive":
                    text = event.get("text")
                    self._session.receive(event["bytes"] if text is None else text)
            finally:
                # The only place that neither an exception nor a cancellation can skip.
                self.leave()
        finally:
            outlet.stop()

    def open(self, node: Node, kind: type[Session], admission: Admission, outlet: Outlet, network: str | None) -> None:
        """Count the connection until it leaves.

        Args:
            node: the node of this process.
            kind: the protocol of the connection.
            admission: what the connection may do.
            outlet: sends messages to the client.
            network: the network that the client connects from; None if it is unknown.

        Raises:
            Refusal: the node is full, or a quota is used up.
        """
        self._session = kind(node, node.open(admission, outlet, network))

    async def join(self, accept: Callable[[], Awaitable[None]]) -> None:
        """Complete the handshake, and join the channel in the URL. Then the session gets the client's messages.

        With a server other than Daphne, the caller passes them on.
        """
        session = self._session
        connection = session.connection
        await session.node.join(connection, accept)
        if connection.takes_messages:
            session.open()
        if isinstance(connection.outlet, SocketOutlet):
            connection.outlet.take_messages(
                session.receive,
                connection.flush,
                session.count_frame,
                session.note_too_big,
                connection.access.account_id,
            )

    def leave(self) -> None:
        """Leave all channels; the connection has ended, however it did."""
        self._session.leave()


async def _admit(node: Node, scope: Mapping[str, Any], read: Read) -> Admission:
    handshake = read(scope, conf().cluster_domains)
    try:
        while True:
            version = node.keys.version
            admission = await admit(handshake, node.keys.find)
            if version == node.keys.version:  # otherwise a key may have changed after it was read
                return admission
    except DatabaseError:
        raise Refusal(NO_DATABASE) from None


def _outlet(send: Send, backlogs: Backlogs, closes: Counter[int], tell: Tell) -> Outlet:
    return outlet_for(send, backlogs, closes, tell) or AsgiOutlet(send, backlogs, closes, tell)


async def _reject_slowly(receive: Receive, send: Send) -> None:
    """Reject a handshake with an HTTP error, so late that the next one of the same client does not come immediately."""
    try:
        async with asyncio.timeout(REJECTION_SECONDS):
            await receive()
    except TimeoutError:
        await send({"type": "websocket.close"})


async def _until_disconnected(receive: Receive) -> None:
    """Discard what the client still sends while its connection closes."""
    while (await receive())["type"] != "websocket.disconnect":
        pass
