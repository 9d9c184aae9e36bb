"""The life of one connection: admitted, joined, receives, left."""

from collections import Counter
from collections.abc import Mapping, MutableMapping
from functools import partial
from typing import Any, NamedTuple

from channels.consumer import AsyncConsumer
from django.db import Error as DatabaseError

from realtime.base.asgi import Receive, Send
from realtime.conf import conf
from realtime.fanout.outlets import AsgiOutlet, Outlet
from realtime.node.connections import Connection
from realtime.node.node import current_node
from realtime.protocols import commands
from realtime.protocols.admission import Admission, admit
from realtime.protocols.closes import NO_DATABASE, TOO_BIG, TOO_FAST, TOO_MANY_OF_ADDRESS, Refusal
from realtime.protocols.events import is_forged
from realtime.protocols.frames import Message, system_message
from realtime.server.addresses import address_limits, client_network
from realtime.server.socket_outlet import SocketOutlet
from realtime.server.websocket import outlet_for


class Notice(NamedTuple):
    """Why a message is not distributed."""

    reason: str
    """Names it in metrics."""
    message: Message
    """Tells its sender."""

    @classmethod
    def of(cls, reason: str, sentence: str) -> "Notice":
        return cls(reason, system_message({"error": sentence}))


NOT_ALLOWED = Notice.of("not_allowed", "This API key does not allow clients to send messages.")
FORGED = Notice.of("forged", "Clients cannot send system events.")
TOO_OFTEN = Notice.of("too_often", "That is more messages a second than the quota allows; it was not distributed.")
USED_UP = Notice.of("used_up", "The account has sent as many messages as its quota allows a day (UTC).")


class ChannelConsumer(AsyncConsumer):  # type: ignore[misc]
    """Serves one WebSocket: a channel of the URL is a group of the channel layer, which its node joins for it.

    It has no mailbox of its own on the channel layer and no dispatch by handler: a plain loop over `receive()` costs a
    message no task, no thread and no copy.
    """

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        await receive()  # websocket.connect
        self.node = current_node()
        outlet = _outlet(send, self.node.counters.closes)
        try:
            try:
                network = client_network(scope, conf().num_proxies)
                if not address_limits.may_connect(network):
                    raise Refusal(TOO_MANY_OF_ADDRESS)
                connection = self.node.open(await self._admit(scope), outlet, network)
            except Refusal as refusal:
                self.node.counters.refusals[refusal.close.reason] += 1
                await send({"type": "websocket.accept"})
                outlet.close(refusal.close)
                await _until_disconnected(receive)
            else:
                # Neither its credentials nor the memory that they take are needed any more.
                scope["headers"], scope["query_string"] = [], b""
                await self._serve(connection, receive, send)
        finally:
            outlet.stop()

    async def _admit(self, scope: Mapping[str, Any]) -> Admission:
        keys = self.node.keys
        self.node.check_capacity()
        try:
            while True:
                version = keys.version
                admission = await admit(scope, conf().cluster_domains, keys.find)
                if version == keys.version:  # else access was changed while it was looked at
                    return admission
        except DatabaseError:
            raise Refusal(NO_DATABASE) from None

    async def _serve(self, connection: Connection, receive: Receive, send: Send) -> None:
        try:
            await self.node.join(connection, lambda: send({"type": "websocket.accept"}))
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
            # Here and nowhere else: neither an exception nor a cancellation passes it by.
            self.node.leave(connection)

    def count_frame(self, connection: Connection) -> None:
        """Count a frame that is no message, as a ping or a fragment, against the quota of messages a second."""
        bucket = connection.bucket
        bucket.tokens -= 1
        if bucket.tokens < 0 and not bucket.refill() and bucket.is_flooded and connection.room is not None:
            self.node.end(connection, TOO_FAST)

    def receive(self, connection: Connection, data: str | bytes) -> None:
        """Handle one message of the client."""
        room = connection.room
        if room is None:
            return  # closed from this side; what still arrives is void
        text = data if isinstance(data, str) else None
        bucket = connection.bucket
        bucket.tokens -= 1
        if bucket.tokens < 0 and not bucket.refill():
            if bucket.is_flooded:
                self.node.end(connection, TOO_FAST)
            else:
                self._turn_down(connection, TOO_OFTEN)
        elif text is not None and text.startswith(commands.PREFIX):
            commands.answer(text, partial(self.node.counts.count, connection.admission.channel), connection.send)
        elif not connection.allows_client_messages:
            self._turn_down(connection, NOT_ALLOWED)
        elif text is not None and is_forged(text):
            self._turn_down(connection, FORGED)
        else:
            message = Message(data)
            # Daphne has refused larger ones by their header already; other servers have limits of their own.
            if len(message.wire) > connection.max_frame_bytes:
                self.node.end(connection, TOO_BIG)
            elif connection.use.take():
                self.node.publish(room, message, connection)
            else:
                self._turn_down(connection, USED_UP)

    def _turn_down(self, connection: Connection, notice: Notice) -> None:
        self.node.counters.refused_messages[notice.reason] += 1
        connection.send(notice.message)


def _outlet(send: Send, closes: Counter[int]) -> Outlet:
    limit = conf().max_backlog_bytes
    return outlet_for(send, limit, closes) or AsgiOutlet(send, limit, closes)


async def _until_disconnected(receive: Receive) -> None:
    """Take in and ignore what a client still sends while its connection closes, so that nothing piles up."""
    while (await receive())["type"] != "websocket.disconnect":
        pass
