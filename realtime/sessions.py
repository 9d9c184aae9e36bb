"""The life of one connection: it is admitted, joins its channel, sends messages and leaves.

The same for every way that a WebSocket arrives: through the front door, or through an ASGI server.
"""

from collections.abc import Awaitable, Callable
from functools import partial
from typing import NamedTuple

from realtime.fanout.outlets import Outlet
from realtime.node.message_quotas import DAY_USED_UP
from realtime.node.node import Node
from realtime.protocols import commands
from realtime.protocols.admission import Admission
from realtime.protocols.closes import TOO_BIG, TOO_FAST, TOO_MANY_OF_ADDRESS, Refusal
from realtime.protocols.events import is_forged
from realtime.protocols.frames import Message, system_message
from realtime.server.addresses import address_limits
from realtime.server.socket_outlet import SocketOutlet


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


async def refuse(node: Node, outlet: Outlet, accept: Callable[[], Awaitable[None]], refusal: Refusal) -> None:
    """Accept a handshake and close the connection, so that the client learns why."""
    node.counters.refusals[refusal.close.reason] += 1
    await accept()
    outlet.open()
    outlet.close(refusal.close)


class Session:
    """An admitted connection, from the end of its admission to its own end."""

    __slots__ = ("_connection", "_node")

    def __init__(self, node: Node, admission: Admission, outlet: Outlet, network: str | None) -> None:
        """
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
                self.receive, connection.flush, self._count_frame, connection.access.account_id
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
                self._node.end(connection, TOO_FAST)
            else:
                self._drop(TOO_OFTEN)
        elif text is not None and text.startswith(commands.PREFIX):
            commands.answer(text, partial(self._node.counts.count, connection.admission.channel), connection.send)
        elif not connection.allows_client_messages:
            self._drop(NOT_ALLOWED)
        elif is_forged(data):
            self._drop(FORGED)
        else:
            message = Message(data)
            # Daphne rejects larger messages by their frame header; other servers have limits of their own.
            if len(message.wire) > connection.max_frame_bytes:
                self._node.end(connection, TOO_BIG)
            elif connection.use.take():
                self._node.publish(room, message, connection)
            else:
                self._drop(USED_UP)

    def _count_frame(self, *, is_fragment: bool) -> None:
        """Count a frame that is not a message: control frames against the messages per second, fragments separately."""
        connection = self._connection
        bucket = connection.fragment_bucket() if is_fragment else connection.bucket
        bucket.tokens -= 1
        if bucket.tokens < 0 and not bucket.refill() and bucket.is_flooded and connection.room is not None:
            self._node.end(connection, TOO_FAST)

    def _drop(self, notice: Notice) -> None:
        self._node.counters.refused_messages[notice.reason] += 1
        self._connection.send(notice.message)
