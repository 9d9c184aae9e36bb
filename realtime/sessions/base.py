"""What the connections of all protocols have in common: the limits of what a client may send."""

from abc import ABC, abstractmethod
from collections.abc import Hashable, Mapping, Sequence
from typing import Any, NamedTuple

from realtime.node.connections import Connection, Subscription, message_limit
from realtime.node.message_quotas import DAY_USED_UP
from realtime.node.node import Node
from realtime.protocols.admission import Handshake
from realtime.protocols.closes import TOO_BIG, TOO_FAST, Close, Farewell
from realtime.protocols.frames import Message


class Notice(NamedTuple):
    """Why a message was dropped."""

    reason: str
    """The label in metrics."""
    sentence: str
    """What the sender learns."""


NOT_ALLOWED = Notice("not_allowed", "This API key does not allow clients to send messages.")
TOO_OFTEN = Notice("too_often", "You exceeded the quota of messages per second; this message was dropped.")
USED_UP = Notice("used_up", f"{DAY_USED_UP}; this message was dropped.")


class Session(ABC):
    """One connection, and how it speaks its protocol. Loop thread only.

    Args:
        node: the node of this process.
        connection: the connection.
    """

    __slots__ = ("connection", "node")

    def __init__(self, node: Node, connection: Connection) -> None:
        self.node = node
        self.connection = connection

    @staticmethod
    @abstractmethod
    def read(scope: Mapping[str, Any], cluster_domains: Sequence[str]) -> Handshake:
        """Parse a handshake.

        Args:
            scope: the ASGI scope of the handshake.
            cluster_domains: the domains that have clusters as their subdomains.

        Raises:
            Refusal: the handshake is not valid.
        """

    @staticmethod
    def looping_client(scope: Mapping[str, Any]) -> Hashable | None:
        """Return what identifies a client, besides its address, that reconnects immediately after every refusal.

        Args:
            scope: the ASGI scope of the handshake.

        Returns:
            None if the clients of the protocol stop when they are refused.
        """
        return None

    @staticmethod
    @abstractmethod
    def tell(close: Close) -> Farewell:
        """Return how a client learns of a close."""

    @abstractmethod
    def open(self) -> None:
        """Answer that the connection is open, before anything else is sent."""

    def leave(self) -> None:
        """Leave all channels, since the connection has ended."""
        self.node.leave(self.connection)

    @abstractmethod
    def receive(self, data: str | bytes) -> None:
        """Handle a message of the client."""

    @abstractmethod
    def answer_dropped(self, notice: Notice) -> None:
        """Tell the client why its message was dropped."""

    def exceed_rate(self, path: str, data: str | bytes) -> None:
        """Drop a message that exceeds the quota of messages per second, and disconnect clients that send far more."""
        if self.connection.bucket.is_flooded:
            self.end_too_fast()
        else:
            self.drop(TOO_OFTEN, path, data)

    def count_frame(self, *, is_fragment: bool) -> None:
        """Count a frame that is not a message: control frames against the messages per second, fragments separately."""
        connection = self.connection
        bucket = connection.fragment_bucket() if is_fragment else connection.bucket
        bucket.tokens -= 1
        if bucket.tokens < 0 and not bucket.refill() and bucket.is_flooded and connection.takes_messages:
            self.end_too_fast()

    def note_too_big(self, size: int) -> None:
        """Report a message that is too large, of so many bytes as far as they are known."""
        connection = self.connection
        self.node.reports.refuse(connection, TOO_BIG, bytes=size, limit=message_limit(connection.access))

    def publish(self, sender: Subscription, data: str | bytes, message: Message, size: int) -> None:
        """Send a client's message to its channel, if size and daily quota permit.

        Args:
            sender: the subscription that sends it.
            data: what the client has sent.
            message: what the others get.
            size: the size of the frame that the client has sent, in bytes and without its mask.
        """
        connection = self.connection
        # Daphne rejects larger messages by their frame header; other servers have limits of their own.
        if size > connection.max_frame_bytes:
            self.note_too_big(len(data.encode()) if isinstance(data, str) else len(data))
            self.node.end(connection, TOO_BIG)
        elif connection.use.take():
            traffic = connection.traffic
            traffic.messages += 1
            traffic.bytes += size
            self.node.publish(sender, message)
            if self.node.watched:
                self.node.reports.message(connection, sender.room.channel[1], data)
        else:
            self.drop(USED_UP, sender.room.channel[1], data)

    def drop(self, notice: Notice, path: str, data: str | bytes) -> None:
        """Drop a message that the client has sent to a channel, and tell it why."""
        self.node.counters.refused_messages[notice.reason] += 1
        if self.node.watched:
            self.node.reports.message(self.connection, path, data, dropped=notice.reason)
        self.answer_dropped(notice)

    def unsubscribe(self, subscription: Subscription) -> None:
        """End a subscription that the client does not want any more."""
        if self.node.watched:
            self.node.reports.unsubscribe(self.connection, subscription.room.channel[1])
        self.node.subscriptions.unsubscribe(subscription)

    def note_refused_subscription(self, path: str, close: Close, jwt: str | None = None) -> None:
        """Count and report a subscription that was refused.

        Args:
            path: the path of the channel.
            close: the close that a connection would get for the same reason.
            jwt: the JWT that the client has sent for it.
        """
        self.node.counters.refused_messages["subscription"] += 1
        self.node.reports.refuse_subscription(self.connection, path, close, jwt)

    def end_too_fast(self) -> None:
        """Disconnect a client that has stayed far above its quota of messages per second."""
        connection = self.connection
        limit = connection.access.quotas.messages_per_second
        self.node.reports.refuse(connection, TOO_FAST, rate=connection.bucket.sent_per_second, limit=limit)
        self.node.end(connection, TOO_FAST)
