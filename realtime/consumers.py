"""Connections that arrive through ASGI: from any ASGI server, or from Daphne if the front door does not serve them."""

from collections import Counter
from collections.abc import Mapping, MutableMapping
from typing import Any

from channels.consumer import AsyncConsumer
from django.db import Error as DatabaseError

from realtime.base.asgi import Receive, Send
from realtime.conf import conf
from realtime.fanout.backlogs import Backlogs
from realtime.fanout.outlets import AsgiOutlet, Outlet
from realtime.node.node import Node, current_node
from realtime.protocols.admission import Admission, admit
from realtime.protocols.closes import NO_DATABASE, Refusal
from realtime.protocols.handshake import first_subprotocol
from realtime.server.addresses import client_network
from realtime.server.websocket import outlet_for
from realtime.sessions import Session, check_limits, refuse


class ChannelConsumer(AsyncConsumer):  # type: ignore[misc]
    """Serves one WebSocket. The channel in its URL is a group of the channel layer, which the node joins for it.

    The consumer has no mailbox of its own on the channel layer and no handler dispatch. A plain loop over `receive()`
    handles a message without creating a task, changing the thread or copying.
    """

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        await receive()  # websocket.connect
        node = current_node()
        outlet = _outlet(send, node.backlogs, node.counters.closes)

        async def accept() -> None:
            await send({"type": "websocket.accept", "subprotocol": first_subprotocol(scope)})

        try:
            network = client_network(scope, conf().num_proxies)
            try:
                check_limits(node, network)
                session = Session(node, await _admit(node, scope), outlet, network)
            except Refusal as refusal:
                await refuse(node, outlet, accept, refusal)
                await _until_disconnected(receive)
                return
            # Drop the credentials and free their memory.
            scope["headers"], scope["query_string"] = [], b""
            try:
                await session.join(accept)
                while (event := await receive())["type"] == "websocket.receive":
                    text = event.get("text")
                    session.receive(event["bytes"] if text is None else text)
            finally:
                # The only place that neither an exception nor a cancellation can skip.
                session.leave()
        finally:
            outlet.stop()


async def _admit(node: Node, scope: Mapping[str, Any]) -> Admission:
    try:
        while True:
            version = node.keys.version
            admission = await admit(scope, conf().cluster_domains, node.keys.find)
            if version == node.keys.version:  # otherwise a key may have changed after it was read
                return admission
    except DatabaseError:
        raise Refusal(NO_DATABASE) from None


def _outlet(send: Send, backlogs: Backlogs, closes: Counter[int]) -> Outlet:
    return outlet_for(send, backlogs, closes) or AsgiOutlet(send, backlogs, closes)


async def _until_disconnected(receive: Receive) -> None:
    """Discard what the client still sends while its connection closes."""
    while (await receive())["type"] != "websocket.disconnect":
        pass
