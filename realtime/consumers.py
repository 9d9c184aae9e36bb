"""The life of one connection: it is admitted, joins its channel, sends messages and leaves.

The consumer is the same for every way that a WebSocket arrives: through ASGI, from any ASGI server, or through the
front door of Daphne, which calls its methods directly.
"""

from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from functools import partial
from typing import Any, NamedTuple

from channels.consumer import AsyncConsumer
from django.db import Error as DatabaseError

from realtime.base.asgi import Receive, Send
from realtime.conf import conf
from realtime.fanout.backlogs import Backlogs
from realtime.fanout.outlets import AsgiOutlet, Outlet
from realtime.node.connections import message_limit
from realtime.node.message_quotas import DAY_USED_UP
from realtime.node.node import Node, current_node
from realtime.protocols import commands
from realtime.protocols.admission import Admission, admit
from realtime.protocols.closes import NO_DATABASE, TOO_BIG, TOO_FAST, TOO_MANY_OF_ADDRESS, Refusal
from realtime.protocols.events import is_forged
from realtime.protocols.frames import Message, system_message
from realtime.protocols.handshake import first_subprotocol
from realtime.server.addresses import address_limits, client_network
from realtime.server.socket_outlet import SocketOutlet
from realtime.server.websocket import outlet_for


class Notice(NamedTuple):
    """Why a message was dropped."""

    reason: str
    """The label in metrics."""
    message: Message
    """The answer to the sender."""

    @classmethod
    def of(cls, reason: str, sentence: str) -> "Notice":
        return cls(reason, system_message({"error": sentence}))


NOT_ALLOWED = Notice.of("not_allowed", "This API key does not allow clients to send messages.")
FORGED = Notice.of("forged", "Clients cannot send system events.")
TOO_OFTEN = Notice.of("too_often", "You exceeded the quota of messages per second; this message was dropped.")
USED_UP = Notice.of("used_up", f"{DAY_USED_UP}; this message was dropped.")


def check_limits(node: Node, network: str | None) -> None:
    """Check what does not depend on the key: the limits of the client's address and of this node.

    Raises:
        Refusal: the client may not connect now.
    """
    if not address_limits.may_connect(network):
        raise Refusal(TOO_MANY_OF_ADDRESS)
    node.check_capacity()


async def refuse(
    node: Node, scope: Mapping[str, Any], outlet: Outlet, accept: Callable[[], Awaitable[None]], refusal: Refusal
) -> None:
    """Accept a handshake and close the connection, so that the client learns why."""
    node.counters.refusals[refusal.close.reason] += 1
    node.reports.refuse_handshake(refusal.close, scope)
    await accept()
    outlet.open()
    outlet.close(refusal.close)


class ChannelConsumer(AsyncConsumer):  # type: ignore[misc]
    """Serves one WebSocket. The channel in its URL is a group of the channel layer, which the node joins for it.

    The consumer has no mailbox of its own on the channel layer and no handler dispatch. A message is handled without
    creating a task, changing the thread or copying.
    """

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """Serve a connection that arrives through ASGI, in a plain loop over `receive()`."""
        await receive()  # websocket.connect
        node = current_node()
        outlet = _outlet(send, node.backlogs, node.counters.closes)

        async def accept() -> None:
            await send({"type": "websocket.accept", "subprotocol": first_subprotocol(scope)})

        try:
            network = client_network(scope, conf().num_proxies)
            try:
                check_limits(node, network)
                self.open(node, await _admit(node, scope), outlet, network)
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
                    self.receive(event["bytes"] if text is None else text)
            finally:
                # The only place that neither an exception nor a cancellation can skip.
                self.leave()
        finally:
            outlet.stop()

    def open(self, node: Node, admission: Admission, outlet: Outlet, network: str | None) -> None:
        """Count the connection until it leaves.

        Args:
            node: the node of this process.
            admission: what the connection may do.
            outlet: sends messages to the client.
            network: the network that the client connects from; None if it is unknown.

        Raises:
            Refusal: the node is full, or a quota is used up.
        """
        self._node = node
        self._connection = node.open(admission, outlet, network)

    async def join(self, accept: Callable[[], Awaitable[None]]) -> None:
        """Join the channel and complete the handshake. From then on, the client's messages arrive at `receive`.

        With a server other than Daphne, the caller passes them on.
        """
        connection = self._connection
        await self._node.join(connection, accept)
        if isinstance(connection.outlet, SocketOutlet):
            connection.outlet.take_messages(
                self.receive, connection.flush, self._count_frame, self._note_too_big, connection.access.account_id
            )

    def leave(self) -> None:
        """Leave the channel; the connection has ended, however it did."""
        self._node.leave(self._connection)

    def receive(self, data: str | bytes) -> None:
        """Handle one message of the client."""
        connection = self._connection
        room = connection.room
        if room is None:
            return  # the server has closed the connection
        text = data if isinstance(data, str) else None
        bucket = connection.bucket
        bucket.tokens -= 1
        if bucket.tokens < 0 and not bucket.refill():
            if bucket.is_flooded:
                self._end_too_fast()
            else:
                self._drop(TOO_OFTEN, data)
        elif text is not None and text.startswith(commands.PREFIX):
            commands.answer(text, partial(self._node.counts.count, connection.admission.channel), connection.send)
        elif not connection.allows_client_messages:
            self._drop(NOT_ALLOWED, data)
        elif is_forged(data):
            self._drop(FORGED, data)
        else:
            message = Message(data)
            size = len(message.wire)
            # Daphne rejects larger messages by their frame header; other servers have limits of their own.
            if size > connection.max_frame_bytes:
                self._note_too_big(len(data.encode()) if isinstance(data, str) else len(data))
                self._node.end(connection, TOO_BIG)
            elif connection.use.take():
                traffic = connection.traffic
                traffic.messages += 1
                traffic.bytes += size
                self._node.publish(room, message, connection)
            else:
                self._drop(USED_UP, data)

    def _count_frame(self, *, is_fragment: bool) -> None:
        """Count a frame that is not a message: control frames against the messages per second, fragments separately."""
        connection = self._connection
        bucket = connection.fragment_bucket() if is_fragment else connection.bucket
        bucket.tokens -= 1
        if bucket.tokens < 0 and not bucket.refill() and bucket.is_flooded and connection.room is not None:
            self._end_too_fast()

    def _end_too_fast(self) -> None:
        connection = self._connection
        limit = connection.access.quotas.messages_per_second
        self._node.reports.refuse(connection, TOO_FAST, rate=connection.bucket.sent_per_second, limit=limit)
        self._node.end(connection, TOO_FAST)

    def _note_too_big(self, size: int) -> None:
        connection = self._connection
        self._node.reports.refuse(connection, TOO_BIG, bytes=size, limit=message_limit(connection.access))

    def _drop(self, notice: Notice, data: str | bytes) -> None:
        self._node.counters.refused_messages[notice.reason] += 1
        if self._node.watched:
            self._node.reports.message(self._connection, data, dropped=notice.reason)
        self._connection.send(notice.message)


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
