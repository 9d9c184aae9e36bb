"""The outlet that writes frames to the socket of a Daphne connection.

ASGI on Daphne loses empty messages, cannot close with 1012, and does not report how much waits for a slow client.
"""

import contextlib
from collections import Counter
from collections.abc import Callable, Hashable
from typing import Any

from daphne.ws_protocol import WebSocketProtocol
from twisted.internet import tcp

from realtime.protocols.closes import TOO_SLOW, Close
from realtime.protocols.frames import Sendable, error_message
from realtime.server.fair_scheduling import nothing

# How long a client that reads too slowly may take to read what waits and the close frame behind it, in seconds.
SLOW_CLOSE_SECONDS = 10
# How many pieces of data may wait in a transport: tiny ones take twenty times their size, and a millisecond to join.
_MAX_PIECES = 1_000
_OPEN = WebSocketProtocol.STATE_OPEN
_CLOSED = WebSocketProtocol.STATE_CLOSED


class SocketOutlet:
    """Writes frames to the transport of a Daphne connection; an `Outlet`.

    While nothing waits, it writes straight to the socket, and only what the kernel does not take goes to Twisted, whose
    way of buffering and polling costs several times as much. TLS has no socket to write to and goes to Twisted always.
    """

    __slots__ = ("_direct", "_max_backlog_bytes", "_protocol", "_send", "_tcp", "_transport", "closes")

    def __init__(self, protocol: Any, max_backlog_bytes: int, closes: Counter[int]) -> None:
        """
        Args:
            protocol: the connection, a `server.websocket.ServerProtocol`.
            max_backlog_bytes: how much may wait.
            closes: where the close is counted, by its code.
        """
        self.closes = closes
        self._protocol = protocol
        self._max_backlog_bytes = max_backlog_bytes
        self._transport = transport = protocol.transport
        # The client may be gone already, and the socket with it.
        self._direct = transport.socket.send if isinstance(transport, tcp.Connection) and transport.connected else None
        # The socket's send while nothing waits and the connection is open, else None. So a delivery looks at this
        # object alone, and not at the many attributes of protocol and transport: with a thousand receivers, their way
        # from memory costs as much as the rest.
        self._send: Callable[[bytes], int] | None = None
        while hasattr(transport, "wrappedProtocol"):
            transport = transport.transport
        self._tcp = transport
        protocol.outlet = self

    def deliver(self, batch: Sendable) -> None:
        send = self._send
        if send is None:
            self._deliver_behind(batch)
            return
        data = batch.wire
        try:
            sent = send(data)
        except (BlockingIOError, InterruptedError):
            sent = 0
        except OSError:
            return  # the transport finds out by itself, and the consumer with it
        if sent < len(data):
            self.hold()
            self._transport.write(data[sent:])

    def _deliver_behind(self, batch: Sendable) -> None:
        """Deliver when something may wait, or the connection may be closed."""
        if self._protocol.state != _OPEN:
            return
        waiting = self.waiting_bytes()
        if not waiting and self._direct is not None:
            self._send = self._direct
            self.deliver(batch)
        elif waiting > self._max_backlog_bytes:
            self._protocol.closeHandshakeTimeout = SLOW_CLOSE_SECONDS
            self.close(TOO_SLOW)
        else:
            self._transport.write(batch.wire)
            if len(self._tcp._tempDataBuffer) > _MAX_PIECES:
                self._tcp._tempDataBuffer = [b"".join(self._tcp._tempDataBuffer)]

    def waiting_bytes(self) -> int:
        """How much the transport has taken and not written yet."""
        return int(len(self._tcp.dataBuffer) - self._tcp.offset + self._tcp._tempDataLen)

    def write(self, data: bytes) -> None:
        """Write a frame of Autobahn's own, or the answer to a handshake, whatever the state of the connection.

        At once too: where a client's close frame follows on what ends the connection, Autobahn drops what still waits.
        """
        sent = 0
        if self._direct is not None and not self.waiting_bytes():
            with contextlib.suppress(OSError):
                sent = self._direct(data)
        if sent < len(data):
            self.hold()
            self._transport.write(data[sent:])

    def hold(self) -> None:
        """Write no more to the socket itself until the transport has written what it has."""
        self._send = None

    def close(self, close: Close) -> None:
        if self._protocol.state != _OPEN:
            return
        if close.sentence is not None:
            self.write(error_message(close.sentence).wire)
        self._protocol.sendCloseFrame(code=close.code)
        self.hold()  # nothing may follow

    def take_messages(
        self,
        sink: Callable[[str | bytes], None],
        flush: Callable[[], None],
        count_frame: Callable[[], None],
        party: Hashable,
    ) -> None:
        """Give what the client sends to `sink` from now on, in place of the application's `receive()`.

        What came before and is queued must be received without waiting in between, or the order is lost.

        Args:
            sink: takes a message.
            flush: delivers what waits for the end of this turn of the loop; called before each close frame.
            count_frame: called for each frame that ends no message.
            party: to whose slice of the loop's time that belongs.
        """
        protocol = self._protocol
        protocol.sink, protocol.flush, protocol.count_frame, protocol.party = sink, flush, count_frame, party

    def limit_messages(self, max_message_bytes: int) -> None:
        if max_message_bytes != self._protocol.maxMessagePayloadSize:
            self._protocol.maxMessagePayloadSize = self._protocol.maxFramePayloadSize = max_message_bytes

    def stop(self) -> None:
        self._send = None
        protocol = self._protocol
        protocol.sink = protocol.count_frame = protocol.outlet = None
        protocol.flush = nothing

    @property
    def is_gone(self) -> bool:
        return bool(self._protocol.state == _CLOSED)
