"""Daphne's WebSocket connection with a short path for messages, fair scheduling, and this service's close codes.

Everything that is not an ordinary message goes to Autobahn unchanged, which keeps Autobahn's conformance.
"""

import contextlib
import time
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

from autobahn.wamp.types import TransportDetails
from autobahn.websocket.types import ConnectionDeny
from daphne.ws_protocol import WebSocketProtocol
from twisted.internet import reactor, tcp
from twisted.web import http

from realtime.base.asgi import Send
from realtime.fanout.backlogs import Backlogs
from realtime.protocols.closes import NOT_UTF8, TOO_BIG, Tell, tell_piesocket
from realtime.protocols.frames import BINARY, PONG, TEXT, Frames, encode_frame, unmask
from realtime.server.fair_scheduling import SlicedConnection, scheduler
from realtime.server.socket_outlet import SLOW_CLOSE_SECONDS, CountFrame, NoteTooBig, SocketOutlet
from realtime.server.tcp_progress import Progress, tcp_connection, tcp_progress

# How long a client may take to answer a close frame before TCP is reset, in seconds. A reset can lose the close frame
# and the error before it. Autobahn rounds the deadline down to a whole second, so its default of 1 could leave no time.
CLOSE_SECONDS = 5
# Fragments below this size are counted, in bytes: in many tiny fragments, a message costs several times its size.
TINY_FRAGMENT_BYTES = 1024
# The size of a step: messages on the short path, or bytes of frames for Autobahn, which takes 20 µs for each frame.
_MESSAGES_PER_STEP = 8
_BYTES_PER_STEP = 24
_FIN = _MASKED = 0x80
_TWO_BYTES = 126  # instead of a length: the length follows in two bytes
_SHORTEST = 6  # the size of an empty masked frame
_PLAIN_TCP = TransportDetails(is_server=True, is_secure=False)
_CONNECTING = WebSocketProtocol.STATE_CONNECTING
_OPEN = WebSocketProtocol.STATE_OPEN
_CLOSED = WebSocketProtocol.STATE_CLOSED
_HANDSHAKE_ATTRIBUTES = (
    "_raw_query_string",
    "_wskey",
    "application_deferred",
    "clean_headers",
    "http_headers",
    "http_request_data",
    "http_request_host",
    "http_request_params",
    "http_request_path",
    "http_request_uri",
    "http_response_data",
    "http_status_line",
    "websocket_extensions",
    "websocket_origin",
    "websocket_protocols",
    "protocol_to_accept",
    "send_queue",  # for writing in small pieces, which sendData does not do
)


class _ClosedRequest(NamedTuple):
    """The part of the handshake request that Daphne reads when the connection closes."""

    path: str


class ServerProtocol(WebSocketProtocol, SlicedConnection):  # type: ignore[misc]
    """Daphne's WebSocket connection, closed with the frames and codes of this service's protocol."""

    # Autobahn copies its options into each connection and formats them for its debug log. Class attributes with the
    # same names replace the copies; `_copy_options` sets the remaining ones.
    CONFIG_ATTRS: Sequence[str] = ()
    failByDrop = False  # send a close frame with 1007 and 1009 instead of dropping the TCP connection
    maxMessagePayloadSize = 0
    maxFramePayloadSize = 0
    closeHandshakeTimeout = CLOSE_SECONDS

    # Autobahn sets them at the end of a handshake, but data may follow a handshake that has failed.
    current_frame: Any = None
    inside_message = False
    request: Any = None
    sink: Callable[[str | bytes], None] | None = None
    """Receives the messages; without it, they go to the application's queue."""
    count_frame: CountFrame | None = None
    """Called for each control frame, and for each tiny fragment that does not complete a message."""
    note_too_big: NoteTooBig | None = None
    """Called before the connection is closed because of a message that is too large."""
    _pongs = b""
    _opened_at = _heard_at = 0.0
    _pinged_at = 0.0
    """When the last ping was sent. The client has answered it, or sent something else, if `_heard_at` is later."""
    _progress = Progress(0, 0)
    outlet: SocketOutlet | None = None
    """Writes directly to the socket, and must be informed of other writes and of the close."""
    _state: int = WebSocketProtocol.STATE_CLOSED

    @property
    def state(self) -> int:
        return self._state

    @state.setter
    def state(self, state: int) -> None:
        self._state = state
        if self.outlet is not None:
            self.outlet.pause_direct_writes()

    def onOpen(self) -> None:
        super().onOpen()
        # Half of the memory of an idle connection is left over from its handshake.
        for name in _HANDSHAKE_ATTRIBUTES:
            self.__dict__.pop(name, None)
        self.request = _ClosedRequest(self.request.path)
        if isinstance(self.transport, tcp.Connection):
            # The HTTP channel would stop reading while there is a backlog, and so miss the pongs and the close frame of
            # a slow client. Outlets limit the backlog.
            channel = self.transport.producer
            self.transport.unregisterProducer()  # type: ignore[no-untyped-call]
            if isinstance(channel, http.HTTPChannel):
                # Channel and request refer to each other, so only garbage collection would free them.
                channel.requests.clear()
        if self.unconsumed:
            scheduler.enqueue(self)
        else:
            self.transport.resumeProducing()

    def sendData(self, data: bytes, sync: bool = False, chopsize: int | None = None) -> None:
        if self.outlet is None:
            self.transport.write(data)
        else:
            self.outlet.write(data)

    def connectionMade(self) -> None:
        self._opened_at = self._heard_at = time.monotonic()
        if not hasattr(type(self), "autoPingTimeout"):
            self._copy_options()
        if isinstance(self.transport, tcp.Connection):
            # The same as Autobahn does for plain TCP, but without collecting transport details that nothing uses.
            self._transport_details = _PLAIN_TCP
            with contextlib.suppress(OSError):  # a Unix socket
                self.transport.setTcpNoDelay(True)
            self._connectionMade()
        else:
            super().connectionMade()

    def _copy_options(self) -> None:
        for name in WebSocketProtocol.CONFIG_ATTRS:
            if not hasattr(type(self), name):
                value = getattr(self.factory, name)
                setattr(type(self), name, staticmethod(value) if callable(value) else value)

    def dataReceived(self, data: bytes) -> None:
        """Consume whole messages on a short path and everything else through Autobahn, in fair slices of time."""
        if self._state == _CLOSED:
            return
        if self._state == _CONNECTING and self.request is None:
            self._dataReceived(data)  # the handshake request, which Daphne has rebuilt
            return
        if self._state == _CONNECTING:
            self.unconsumed += data  # until the connection is open
            self.transport.pauseProducing()
            return
        self._heard_at = time.monotonic()
        scheduler.receive(self, data)

    def check_timeouts(self) -> None:
        """Ping a silent client, and drop one that neither answers nor takes what is sent to it. Daphne's, every 2 s.

        Any bytes from the client are a sign of life, also in the middle of a message. While data waits for the client,
        so is its taking some of it: its pong waits behind what it still has to read.
        """
        now = time.monotonic()
        if self._state == _CONNECTING:
            if now - self._opened_at > self.server.websocket_connect_timeout:
                self.serverReject()
        elif self._state == _OPEN:
            if self._pinged_at <= self._heard_at:
                if now - self._heard_at > self.server.ping_interval:
                    self._pinged_at, self._progress = now, tcp_progress(tcp_connection(self.transport))
                    self.sendPing()
                return
            progress = tcp_progress(tcp_connection(self.transport))
            if progress.waiting and progress.taken != self._progress.taken:
                self._pinged_at = now
            self._progress = progress
            if now - self._pinged_at > self.server.ping_timeout:
                self.wasClean, self.wasNotCleanReason = False, "no answer to a ping"
                self.dropConnection(abort=True)

    def consume(self, data: bytes, position: int, until: float) -> int:
        while True:
            position = self._consume_step(data, position)
            if position >= len(data) or time.perf_counter() > until:
                self._send_pongs()
                return position

    def _consume_step(self, data: bytes, position: int) -> int:
        """Consume some of the data from a position on; return the new position."""
        if (
            self.sink is not None
            and self._state == _OPEN
            and not self.data
            and self.current_frame is None
            and not self.inside_message
        ):
            after = self._consume_messages(data, position, self.sink)
            if after > position:
                return after
        size = _BYTES_PER_STEP
        if self.current_frame is not None:
            size = max(size, self.current_frame.length - self.current_frame_masker.pointer())
        self._dataReceived(data[position : position + size])
        return position + size

    def _consume_messages(self, data: bytes, position: int, sink: Callable[[str | bytes], None]) -> int:
        """Pass complete, unfragmented, masked and valid messages from a position on to `sink`; return where they end.

        It stops at the first other frame (RFC 6455, section 5.2), which Autobahn then handles.
        """
        size = len(data)
        for _ in range(_MESSAGES_PER_STEP):
            if size - position < _SHORTEST:
                break
            opcode, length, start = data[position] - _FIN, data[position + 1] - _MASKED, position + 2
            if length == _TWO_BYTES:
                length, start = int.from_bytes(data[start : start + 2]), start + 2
                if length < _TWO_BYTES:
                    break
            elif not 0 <= length < _TWO_BYTES:
                break
            end = start + 4 + length
            if end > size or length > self.maxFramePayloadSize or opcode not in (TEXT, BINARY):
                break
            payload = unmask(data[start : start + 4], data[start + 4 : end])
            if opcode == BINARY:
                message: str | bytes = payload
            else:
                try:
                    message = payload.decode()
                except UnicodeDecodeError:
                    break
            sink(message)
            position = end
            if self._state != _OPEN:
                break
        return position

    def onMessageBegin(self, isBinary: bool) -> None:
        super().onMessageBegin(isBinary)
        self.message_data.append(bytearray())

    def onMessageFrameData(self, payload: bytes) -> None:
        # Autobahn would keep a list of the payloads, in which tiny ones take thirty times their size.
        if not self.failedByMe:
            self.message_data[0] += payload

    def onFrameBegin(self) -> None:
        super().onFrameBegin()
        frame = self.current_frame
        if self.count_frame is not None:
            if frame.opcode > BINARY:
                self.count_frame(is_fragment=False)
            elif not frame.fin and frame.length < TINY_FRAGMENT_BYTES:
                self.count_frame(is_fragment=True)

    def onPing(self, payload: bytes) -> None:
        self._pongs += encode_frame(PONG, payload)

    def _send_pongs(self) -> None:
        """Answer all pings of this slice in one write, which counts towards the backlog like any other delivery."""
        if self._pongs:
            pongs, self._pongs = self._pongs, b""
            if self.outlet is not None:
                self.outlet.deliver(Frames(pongs, 1))

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        if self.sink is None:
            super().onMessage(payload, isBinary)
        else:
            self.sink(payload if isBinary else payload.decode())

    def onConnect(self, request: Any) -> Any:
        # Daphne would close every connection after 24 hours.
        self.factory.server_class.websocket_timeout = -1
        subprotocols = request.headers.get("sec-websocket-protocol", "")
        if not subprotocols.isascii():
            # Daphne would fail to decode the header, log a traceback and answer with 500.
            raise ConnectionDeny(400, "Sec-WebSocket-Protocol must be ASCII")  # type: ignore[no-untyped-call]
        if "%" in subprotocols:  # Daphne would decode the names, and Autobahn would not recognize them then
            request.headers["sec-websocket-protocol"] = subprotocols.replace("%", "%25")
        # Autobahn refuses handshakes whose offers it does not understand; without compression, it declines all of them.
        self.websocket_extensions: list[Any] = []
        # Autobahn would take a part of `/path;a=b` for parameters.
        request.path = self.http_request_uri.partition("?")[0]
        return super().onConnect(request)

    def sendCloseFrame(self, code: int | None = None, reasonUtf8: bytes | None = None, isReply: bool = False) -> None:
        self._send_pongs()
        self.flush()
        if isReply:
            # Autobahn would answer every close frame with 1000, which the client's `onclose` would then report.
            code, reasonUtf8 = self.remoteCloseCode, (self.remoteCloseReason or "").encode()
        if self.outlet is not None and code is not None and not isReply and self._state == _OPEN:
            self.outlet.closes[code] += 1
        super().sendCloseFrame(code, reasonUtf8, isReply)

    def _connectionLost(self, reason: Any) -> None:
        super()._connectionLost(reason)
        # The result of Autobahn's future is this object. The cycle would keep both, and the data read last, in memory
        # until garbage collection: a hundred megabytes when many clients connect and disconnect.
        del self.is_closed
        self.data = b""

    def _closeConnection(self, abort: bool = False) -> None:
        if abort and self.wasClean:
            # Both sides have sent a close frame, so TCP can close normally. Autobahn would reset it, which loses data
            # that kernel and transport have not sent yet, perhaps in the middle of a frame.
            self.transport.loseConnection()
            if self.outlet is not None and self.outlet.waiting_bytes():
                reactor.callLater(SLOW_CLOSE_SECONDS, self.transport.abortConnection)  # type: ignore[arg-type]
        else:
            super()._closeConnection(abort)

    def _fail_connection(self, code: int = 1001, reason: str = "going away") -> None:
        for close in (NOT_UTF8, TOO_BIG):
            if code == close.code and self.state == _OPEN:
                self.flush()
                if close is TOO_BIG and self.note_too_big is not None:
                    self.note_too_big(self.message_data_total_length)
                _, message = tell_piesocket(close) if self.outlet is None else self.outlet.tell(close)
                if message is not None:
                    self.sendData(message.wire)
        super()._fail_connection(code, reason)


def outlet_for(
    send: Send, backlogs: Backlogs, closes: Counter[int], tell: Tell = tell_piesocket
) -> SocketOutlet | None:
    """Return an outlet to the Daphne connection behind an ASGI `send`; None for connections of other servers."""
    protocol = send.args[0] if isinstance(send, partial) and send.args else None
    return SocketOutlet(protocol, backlogs, closes, tell) if isinstance(protocol, ServerProtocol) else None
