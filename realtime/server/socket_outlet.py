"""The outlet that writes frames directly to the socket of a Daphne connection.

Through ASGI, Daphne drops empty messages, cannot close with 1012, and does not report the backlog of a slow client.
"""

import contextlib
from collections import Counter
from collections.abc import Callable, Hashable
from typing import Any, Protocol

from daphne.ws_protocol import WebSocketProtocol
from twisted.internet import tcp

from realtime.fanout.backlogs import Backlogs
from realtime.protocols.closes import TOO_SLOW, Close, Tell, tell_piesocket
from realtime.protocols.frames import Sendable
from realtime.server.fair_scheduling import nothing
from realtime.server.tcp_progress import tcp_connection

# How long a client that reads too slowly may take to read its backlog and the close frame behind it, in seconds.
SLOW_CLOSE_SECONDS = 10
# How many pieces of data may wait in a transport. Tiny ones take twenty times their size, and a millisecond to join.
_MAX_PIECES = 1_000
_CONNECTING = WebSocketProtocol.STATE_CONNECTING
_OPEN = WebSocketProtocol.STATE_OPEN
_CLOSED = WebSocketProtocol.STATE_CLOSED


NoteTooBig = Callable[[int], None]
"""Takes the size in bytes of a message that is too large, as far as it is known."""


class CountFrame(Protocol):
    """Counts a frame that is not a message."""

    def __call__(self, *, is_fragment: bool) -> None: ...


class SocketOutlet:
    """Writes frames to the transport of a Daphne connection; an `Outlet`.

    While there is no backlog, it writes directly to the socket. Only what the kernel does not accept goes to Twisted,
    whose buffering and polling costs several times as much. TLS connections always write through Twisted.
    """

    __slots__ = ("_backlogs", "_direct", "_early", "_protocol", "_send", "_tcp", "_transport", "closes", "tell")

    def __init__(self, protocol: Any, backlogs: Backlogs, closes: Counter[int], tell: Tell = tell_piesocket) -> None:
        """
        Args:
            protocol: the connection, a `server.websocket.ServerProtocol`.
            backlogs: limits the backlog.
            closes: counts the closes by code.
            tell: returns how the client learns of a close.
        """
        self.closes = closes
        self.tell = tell
        self._protocol = protocol
        self._backlogs = backlogs
        self._transport = transport = protocol.transport
        # The client may have disconnected already; then there is no socket.
        self._direct = transport.socket.send if isinstance(transport, tcp.Connection) and transport.connected else None
        # The socket's send method while the connection is open without a backlog, otherwise None. A delivery then reads
        # only this object, not the attributes of protocol and transport: with a thousand receivers, loading those from
        # memory costs as much as everything else.
        self._send: Callable[[bytes], int] | None = None
        self._early = b""  # delivered before the handshake is complete
        self._tcp = tcp_connection(transport)
        protocol.outlet = self

    def open(self, *, discard: bool = False) -> None:
        early, self._early = self._early, b""
        if len(early) > self._backlogs.max_bytes:
            self.close(TOO_SLOW)
        elif early and not discard:
            self.write(early)

    def deliver(self, batch: Sendable) -> None:
        send = self._send
        if send is None:
            self._deliver_slowly(batch)
            return
        data = batch.wire
        try:
            sent = send(data)
        except (BlockingIOError, InterruptedError):
            sent = 0
        except OSError:
            return  # the transport detects it too, and ends the connection
        if sent < len(data):
            self.pause_direct_writes()
            self._transport.write(data[sent:])
            self._backlogs.grow(self, len(data) - sent)

    def _deliver_slowly(self, batch: Sendable) -> None:
        """Deliver to a connection that may have a backlog or may be closed."""
        if self._protocol.state != _OPEN:
            if self._protocol.state == _CONNECTING and len(self._early) <= self._backlogs.max_bytes:
                self._early += batch.wire
            return
        waiting = self.waiting_bytes()
        if not waiting and self._direct is not None:
            self._send = self._direct
            self.deliver(batch)
        elif waiting > self._backlogs.max_bytes:
            self.give_up()
        else:
            self._transport.write(batch.wire)
            self._backlogs.grow(self, len(batch.wire))
            if len(self._tcp._tempDataBuffer) > _MAX_PIECES:
                self._tcp._tempDataBuffer = [b"".join(self._tcp._tempDataBuffer)]

    def give_up(self) -> None:
        self._protocol.closeHandshakeTimeout = SLOW_CLOSE_SECONDS
        self.close(TOO_SLOW)

    def abort(self) -> None:
        self._transport.abortConnection()

    def waiting_bytes(self) -> int:
        """Return how many bytes the transport has accepted but not yet written."""
        return int(len(self._tcp.dataBuffer) - self._tcp.offset + self._tcp._tempDataLen)

    def write(self, data: bytes) -> None:
        """Write a frame or handshake response that Autobahn has built, in any state of the connection.

        If there is no backlog, this writes directly to the socket too. Otherwise, a client's close frame that arrives
        right after the data that ends the connection would make Autobahn drop everything that still waits.
        """
        sent = 0
        if self._direct is not None and not self.waiting_bytes():
            with contextlib.suppress(OSError):
                sent = self._direct(data)
        if sent < len(data):
            self.pause_direct_writes()
            self._transport.write(data[sent:])

    def pause_direct_writes(self) -> None:
        """Write through the transport until it has written its backlog."""
        self._send = None

    def close(self, close: Close) -> None:
        if self._protocol.state != _OPEN:
            return
        code, message = self.tell(close)
        if message is not None:
            self.write(message.wire)
        self._protocol.sendCloseFrame(code=code)
        self.pause_direct_writes()  # nothing may follow

    def take_messages(
        self,
        sink: Callable[[str | bytes], None],
        flush: Callable[[], None],
        count_frame: CountFrame,
        note_too_big: NoteTooBig,
        party: Hashable,
    ) -> None:
        """Pass the client's messages to `sink` from now on, not to the application's `receive()`.

        To keep them in order, the application must receive all messages that are already queued before it awaits
        anything else.

        Args:
            sink: called with each message.
            flush: delivers the channel's batched messages; called before each close frame.
            count_frame: called for each control frame and each tiny fragment.
            note_too_big: called before the connection is closed because of a message that is too large.
            party: the party whose time slices the messages use.
        """
        protocol = self._protocol
        protocol.sink, protocol.flush, protocol.count_frame, protocol.party = sink, flush, count_frame, party
        protocol.note_too_big = note_too_big

    def limit_messages(self, max_message_bytes: int) -> None:
        if max_message_bytes != self._protocol.maxMessagePayloadSize:
            self._protocol.maxMessagePayloadSize = self._protocol.maxFramePayloadSize = max_message_bytes

    def stop(self) -> None:
        self._send = None
        self._backlogs.forget(self)
        protocol = self._protocol
        protocol.sink = protocol.count_frame = protocol.note_too_big = protocol.outlet = None
        protocol.flush = nothing

    @property
    def client_code(self) -> int | None:
        code: int | None = self._protocol.remoteCloseCode
        return code

    @property
    def is_gone(self) -> bool:
        return bool(self._protocol.state == _CLOSED)
