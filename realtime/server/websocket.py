"""Daphne's WebSocket connection, extended: a short path for messages, fair shares of the loop, the contract's closes.

Whatever is not an ordinary message goes to Autobahn untouched, so that conformance stays Autobahn's.
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
from realtime.protocols.closes import NOT_UTF8, TOO_BIG
from realtime.protocols.frames import BINARY, PONG, TEXT, Frames, encode_frame, error_message, unmask
from realtime.server.fair_scheduling import SlicedConnection, scheduler
from realtime.server.socket_outlet import SLOW_CLOSE_SECONDS, SocketOutlet

# How long a client may take to answer a close frame before TCP is reset, which can lose that frame and the error before
# it on their way. Autobahn rounds down when this is due to a whole second: its own 1 would leave some no time at all.
CLOSE_SECONDS = 5
# A step: so many messages by the short path, or so many bytes of frames by Autobahn's way, which takes 20 µs a frame.
_MESSAGES_A_STEP = 8
_BYTES_A_STEP = 24
_FIN = _MASKED = 0x80
_TWO_BYTES = 126  # in the place of a length: it follows in two bytes
_SHORTEST = 6  # the bytes of an empty masked frame
_PLAIN_TCP = TransportDetails(is_server=True, is_secure=False)
_CONNECTING = WebSocketProtocol.STATE_CONNECTING
_OPEN = WebSocketProtocol.STATE_OPEN
_OF_THE_HANDSHAKE = (
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
    "send_queue",  # for writing in small pieces, which sendData does not
)


class _Requested(NamedTuple):
    """What Daphne still asks of a handshake when the connection closes."""

    path: str


class ServerProtocol(WebSocketProtocol, SlicedConnection):  # type: ignore[misc]
    """Daphne's connection, which ends with the frames and codes that the wire contract promises."""

    # Autobahn copies its options into each connection, and formats them for a debug log that nobody reads. Class
    # attributes of the same names take their place; `_take_options` fills in the rest.
    CONFIG_ATTRS: Sequence[str] = ()
    failByDrop = False  # 1007 and 1009 are told with a close frame, not by cutting TCP
    maxMessagePayloadSize = 0
    maxFramePayloadSize = 0
    closeHandshakeTimeout = CLOSE_SECONDS

    request: Any = None
    sink: Callable[[str | bytes], None] | None = None
    """Takes messages in place of the application's queue."""
    count_frame: Callable[[], None] | None = None
    """Hears of each frame that ends no message: of pings and the like, and of fragments."""
    _pongs = b""
    outlet: SocketOutlet | None = None
    """Writes to the socket itself, and has to know when others write or the connection closes."""
    _state: int = WebSocketProtocol.STATE_CLOSED

    @property
    def state(self) -> int:
        return self._state

    @state.setter
    def state(self, state: int) -> None:
        self._state = state
        if self.outlet is not None:
            self.outlet.hold()

    def onOpen(self) -> None:
        super().onOpen()
        # Half of what an idle connection holds on to is left from its handshake.
        for name in _OF_THE_HANDSHAKE:
            self.__dict__.pop(name, None)
        self.request = _Requested(self.request.path)
        if isinstance(self.transport, tcp.Connection):
            # The HTTP channel would stop reading while something waits to be written, which keeps a slow client's pongs
            # and close frame from being heard; outlets bound what waits.
            channel = self.transport.producer
            self.transport.unregisterProducer()  # type: ignore[no-untyped-call]
            if isinstance(channel, http.HTTPChannel):
                # Channel and request hold each other, until Python looks through all objects for such cycles.
                channel.requests.clear()
        if self.untaken:
            scheduler.wait(self)
        else:
            self.transport.resumeProducing()

    def sendData(self, data: bytes, sync: bool = False, chopsize: int | None = None) -> None:
        if self.outlet is None:
            self.transport.write(data)
        else:
            self.outlet.write(data)

    def connectionMade(self) -> None:
        if not hasattr(type(self), "autoPingTimeout"):
            self._take_options()
        if isinstance(self.transport, tcp.Connection):
            # What Autobahn does here for plain TCP, without collecting details of the transport that nobody asks for.
            self._transport_details = _PLAIN_TCP
            with contextlib.suppress(OSError):  # a Unix socket
                self.transport.setTcpNoDelay(True)
            self._connectionMade()
        else:
            super().connectionMade()

    def _take_options(self) -> None:
        for name in WebSocketProtocol.CONFIG_ATTRS:
            if not hasattr(type(self), name):
                value = getattr(self.factory, name)
                setattr(type(self), name, staticmethod(value) if callable(value) else value)

    def dataReceived(self, data: bytes) -> None:
        """Take whole messages by a short path and all else by Autobahn's way, but not too much at once."""
        if self._state == _CONNECTING and self.request is None:
            self._dataReceived(data)  # the request of the handshake, as Daphne has put it together
            return
        if self._state == _CONNECTING:
            self.untaken += data  # until it is open
            self.transport.pauseProducing()
            return
        scheduler.receive(self, data)

    def take(self, data: bytes, position: int, until: float) -> int:
        while True:
            position = self._take_step(data, position)
            if position >= len(data) or time.perf_counter() > until:
                self._send_pongs()
                return position

    def _take_step(self, data: bytes, taken: int) -> int:
        """Take some of what is behind the first bytes; return how many of all are taken then."""
        if (
            self.sink is not None
            and self._state == _OPEN
            and not self.data
            and self.current_frame is None
            and not self.inside_message
            and self.autoPingTimeoutCall is None
        ):
            after = self._take_messages(data, taken, self.sink)
            if after > taken:
                return after
        size = _BYTES_A_STEP
        if self.current_frame is not None:
            size = max(size, self.current_frame.length - self.current_frame_masker.pointer())
        self._dataReceived(data[taken : taken + size])
        return taken + size

    def _take_messages(self, data: bytes, position: int, sink: Callable[[str | bytes], None]) -> int:
        """Hand over complete, unfragmented, masked and valid messages from a position on; return where they end.

        The first frame that is anything else (RFC 6455, section 5.2) ends it, so that conformance stays Autobahn's.
        """
        begun, size = position, len(data)
        for _ in range(_MESSAGES_A_STEP):
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
        if position > begun:
            self.last_ping = time.time()
        return position

    def onMessageBegin(self, isBinary: bool) -> None:
        super().onMessageBegin(isBinary)
        self.message_data.append(bytearray())

    def onMessageFrameData(self, payload: bytes) -> None:
        # Grown in place. In the list of pieces that Autobahn keeps, tiny ones would take thirty times their size.
        if not self.failedByMe:
            self.message_data[0] += payload

    def onFrameBegin(self) -> None:
        super().onFrameBegin()
        frame = self.current_frame
        if self.count_frame is not None and (frame.opcode > BINARY or not frame.fin):
            self.count_frame()

    def onPing(self, payload: bytes) -> None:
        self._pongs += encode_frame(PONG, payload)

    def _send_pongs(self) -> None:
        """Answer the pings that were taken together in one write. As any delivery: no more may wait than the limit."""
        if self._pongs:
            pongs, self._pongs = self._pongs, b""
            if self.outlet is not None:
                self.outlet.deliver(Frames(pongs, 1))

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        if self.sink is None:
            super().onMessage(payload, isBinary)
        else:
            self.last_ping = time.time()
            self.sink(payload if isBinary else payload.decode())

    def onConnect(self, request: Any) -> Any:
        # Daphne would close every connection after 24 hours.
        self.factory.server_class.websocket_timeout = -1
        if not request.headers.get("sec-websocket-protocol", "").isascii():
            # Daphne would fail to decode it, with a traceback and a 500.
            raise ConnectionDeny(400, "Sec-WebSocket-Protocol must be ASCII")  # type: ignore[no-untyped-call]
        return super().onConnect(request)

    def sendCloseFrame(self, code: int | None = None, reasonUtf8: bytes | None = None, isReply: bool = False) -> None:
        self._send_pongs()
        self.flush()
        if self.outlet is not None and code is not None and not isReply and self._state == _OPEN:
            self.outlet.closes[code] += 1
        super().sendCloseFrame(code, reasonUtf8, isReply)

    def _connectionLost(self, reason: Any) -> None:
        super()._connectionLost(reason)
        # Autobahn's future of the end has this object as its result, so that both, and what was read last, would stay
        # in memory until Python looks through all objects for such cycles: a hundred megabytes if many come and go.
        del self.is_closed
        self.data = b""

    def _closeConnection(self, abort: bool = False) -> None:
        if abort and self.wasClean:
            # Both sides have sent a close frame, so TCP ends in order. Autobahn would reset it, and what kernel and
            # transport have not sent yet would be lost, in the middle of a frame perhaps.
            self.transport.loseConnection()
            if self.outlet is not None and self.outlet.waiting_bytes():
                reactor.callLater(SLOW_CLOSE_SECONDS, self.transport.abortConnection)  # type: ignore[arg-type]
        else:
            super()._closeConnection(abort)

    def _fail_connection(self, code: int = 1001, reason: str = "going away") -> None:
        for close in (NOT_UTF8, TOO_BIG):
            if code == close.code and close.sentence is not None and self.state == _OPEN:
                self.flush()
                self.sendData(error_message(close.sentence).wire)
        super()._fail_connection(code, reason)


def outlet_for(send: Send, max_backlog_bytes: int, closes: Counter[int]) -> SocketOutlet | None:
    """The outlet to the Daphne connection behind an ASGI `send`; None if there is none, or not one of ours."""
    protocol = send.args[0] if isinstance(send, partial) and send.args else None
    return SocketOutlet(protocol, max_backlog_bytes, closes) if isinstance(protocol, ServerProtocol) else None
