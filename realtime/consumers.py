"""The life of one connection: it is admitted, joins its channel, receives messages and leaves."""

from collections import Counter
from collections.abc import Mapping, MutableMapping
from functools import partial
from typing import Any, NamedTuple

from channels.consumer import AsyncConsumer
from django.db import Error as DatabaseError

from realtime.base.asgi import Receive, Send
from realtime.conf import conf
from realtime.fanout.backlogs import Backlogs
from realtime.fanout.outlets import AsgiOutlet, Outlet
from realtime.node.connections import Connection
from realtime.node.message_quotas import DAY_USED_UP
from realtime.node.node import current_node
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


class ChannelConsumer(AsyncConsumer):  # type: ignore[misc]
    """Serves one WebSocket. The channel in its URL is a group of the channel layer, which the node joins for it.

    The consumer has no mailbox of its own on the channel layer and no handler dispatch. A plain loop over `receive()`
    handles a message without creating a task, changing the thread or copying.
    """

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        await receive()  # websocket.connect
        self.node = current_node()
        outlet = _outlet(send, self.node.backlogs, self.node.counters.closes)
        try:
            try:
                network = client_network(scope, conf().num_proxies)
                if not address_limits.may_connect(network):
                    raise Refusal(TOO_MANY_OF_ADDRESS)
                connection = self.node.open(await self._admit(scope), outlet, network)
            except Refusal as refusal:
                self.node.counters.refusals[refusal.close.reason] += 1
                await send(_accept(scope))
                outlet.open()
                outlet.close(refusal.close)
                await _until_disconnected(receive)
            else:
                # Drop the credentials and free their memory.
                scope["headers"], scope["query_string"] = [], b""
                await self._serve(connection, scope, receive, send)
        finally:
            outlet.stop()

    async def _admit(self, scope: Mapping[str, Any]) -> Admission:
        keys = self.node.keys
        self.node.check_capacity()
        try:
            while True:
                version = keys.version
                admission = await admit(scope, conf().cluster_domains, keys.find)
                if version == keys.version:  # otherwise a key may have changed after it was read
                    return admission
        except DatabaseError:
            raise Refusal(NO_DATABASE) from None

    async def _serve(self, connection: Connection, scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
        try:
            await self.node.join(connection, lambda: send(_accept(scope)))
            if isinstance(connection.outlet, SocketOutlet):
                connection.outlet.take_messages(
                    partial(self.receive, connection),
                    connection.flush,
                    partial(self.count_frame, connection),
                    connection.admission.access.account_id,
                )
            while (event := await receive())["type"] == "websocket.receive":
                text = event.get("text")
                self.receive(connection, event["bytes"] if text is None else text)
        finally:
            # The only place that neither an exception nor a cancellation can skip.
            self.node.leave(connection)

    def count_frame(self, connection: Connection, *, is_fragment: bool) -> None:
        """Count a frame that is not a message: control frames against the messages per second, fragments separately."""
        bucket = connection.fragment_bucket() if is_fragment else connection.bucket
        bucket.tokens -= 1
        if bucket.tokens < 0 and not bucket.refill() and bucket.is_flooded and connection.room is not None:
            self.node.end(connection, TOO_FAST)

    def receive(self, connection: Connection, data: str | bytes) -> None:
        """Handle one message of the client."""
        room = connection.room
        if room is None:
            return  # the server has closed the connection
        text = data if isinstance(data, str) else None
        bucket = connection.bucket
        bucket.tokens -= 1
        if bucket.tokens < 0 and not bucket.refill():
            if bucket.is_flooded:
                self.node.end(connection, TOO_FAST)
            else:
                self._drop(connection, TOO_OFTEN)
        elif text is not None and text.startswith(commands.PREFIX):
            commands.answer(text, partial(self.node.counts.count, connection.admission.channel), connection.send)
        elif not connection.allows_client_messages:
            self._drop(connection, NOT_ALLOWED)
        elif is_forged(data):
            self._drop(connection, FORGED)
        else:
            message = Message(data)
            # Daphne rejects larger messages by their frame header; other servers have limits of their own.
            if len(message.wire) > connection.max_frame_bytes:
                self.node.end(connection, TOO_BIG)
            elif connection.use.take():
                self.node.publish(room, message, connection)
            else:
                self._drop(connection, USED_UP)

    def _drop(self, connection: Connection, notice: Notice) -> None:
        self.node.counters.refused_messages[notice.reason] += 1
        connection.send(notice.message)


def _accept(scope: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": "websocket.accept", "subprotocol": first_subprotocol(scope)}


def _outlet(send: Send, backlogs: Backlogs, closes: Counter[int]) -> Outlet:
    return outlet_for(send, backlogs, closes) or AsgiOutlet(send, backlogs, closes)


async def _until_disconnected(receive: Receive) -> None:
    """Discard what the client still sends while its connection closes."""
    while (await receive())["type"] != "websocket.disconnect":
        pass
