"""The insides of Daphne, Twisted and Autobahn, and what this service needs of them that ASGI cannot say.

ASGI on Daphne loses empty messages, cannot close with 1012, and says nothing of what waits for a slow client. So a
connection's messages are written as frames to the socket itself where that is possible. If the libraries are not as
this module knows them, it says so once and steps aside: everything then goes the ordinary way, by ASGI.
"""

import asyncio
import contextlib
import inspect
import logging
import time
from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from functools import partial
from typing import Any, NamedTuple

from autobahn.wamp.types import TransportDetails
from autobahn.websocket.types import ConnectionDeny
from daphne.http_protocol import HTTPFactory, WebRequest
from daphne.server import Server
from daphne.ws_protocol import WebSocketFactory, WebSocketProtocol
from twisted.internet import abstract, reactor, tcp
from twisted.web import http

from .asgi import Send
from .closes import NOT_UTF8, TOO_BIG, TOO_SLOW, Close
from .conf import conf
from .frames import BINARY, PONG, TEXT, Frames, Sendable, encode_frame, error_message
from .turns import Taker, nothing, turns

logger = logging.getLogger(__name__)

# How long a client may take to answer a close frame before TCP is reset, which can lose that frame and the error before
# it on their way. Autobahn rounds down when this is due to a whole second: its own 1 would leave some no time at all.
CLOSE_SECONDS = 5
# How long a client that was given up for reading too slowly may take to read what waits and the close frame behind it.
SLOW_CLOSE_SECONDS = 10
# A step: so many messages by the short path, or so many bytes of frames by Autobahn's way, which takes 20 µs a frame.
_MESSAGES_A_STEP = 8
_BYTES_A_STEP = 24
# In how many pieces a transport keeps what waits. Tiny ones take twenty times their size, and a millisecond to join.
_MAX_PIECES = 1_000
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
_CLOSED = WebSocketProtocol.STATE_CLOSED


def missing_insides() -> list[str]:
    """What this module relies on and the installed libraries do not have; empty if all is well."""
    transport = tcp.Server.__new__(tcp.Server)
    abstract.FileDescriptor.__init__(transport)
    expectations = {
        "daphne: WebSocketFactory.protocol": getattr(WebSocketFactory, "protocol", None) is WebSocketProtocol,
        "daphne: WebSocketProtocol.onConnect(request)": _takes(WebSocketProtocol, "onConnect", "request"),
        "autobahn: sendCloseFrame(code)": _takes(WebSocketProtocol, "sendCloseFrame", "code"),
        "autobahn: _fail_connection(code, reason)": _takes(WebSocketProtocol, "_fail_connection", "code", "reason"),
        "autobahn: _closeConnection(abort)": _takes(WebSocketProtocol, "_closeConnection", "abort"),
        "autobahn: CONFIG_ATTRS": {
            *("failByDrop", "maxMessagePayloadSize", "maxFramePayloadSize", "autoPingTimeout", "closeHandshakeTimeout")
        }
        <= set(getattr(WebSocketProtocol, "CONFIG_ATTRS", ())),
        "autobahn: _connectionMade()": _takes(WebSocketProtocol, "_connectionMade", "self"),
        "autobahn: _connectionLost(reason)": _takes(WebSocketProtocol, "_connectionLost", "reason"),
        "autobahn: _dataReceived(data)": _takes(WebSocketProtocol, "_dataReceived", "data"),
        "daphne: WebRequest(parsePOSTFormSubmission), as Twisted has it": _takes(
            http.Request, "__init__", "parsePOSTFormSubmission"
        ),
        "twisted: HTTPFactory.protocol, which makes a connection's HTTPChannel": (
            http.HTTPFactory.protocol is http._genericHTTPChannelProtocolFactory
        ),
        "twisted: HTTPChannel.allHeadersReceived() and its like": all(
            _takes(http.HTTPChannel, method, "self")
            for method in ("connectionMade", "allHeadersReceived", "allContentReceived", "loseConnection")
        ),
        "twisted: HTTPChannel.rawDataReceived(data)": _takes(http.HTTPChannel, "rawDataReceived", "data"),
        "twisted: HTTPChannel.headerReceived(line)": _takes(http.HTTPChannel, "headerReceived", "line"),
        "twisted: HTTPChannel._respondToBadRequestAndDisconnect()": _takes(
            http.HTTPChannel, "_respondToBadRequestAndDisconnect", "self"
        ),
        "twisted: Request.handleContentChunk(data)": _takes(http.Request, "handleContentChunk", "data"),
        "daphne: HTTPFactory makes WebRequest": "WebRequest" in HTTPFactory.buildProtocol.__code__.co_names,
        "daphne: Server.protocol_disconnected(protocol)": _takes(Server, "protocol_disconnected", "protocol"),
        "twisted: HTTPFactory.log(request)": _takes(HTTPFactory, "log", "request"),
        "daphne: onMessage(payload, isBinary)": _takes(WebSocketProtocol, "onMessage", "payload", "isBinary"),
        "twisted: the write buffer of a transport": (
            transport.dataBuffer == b""
            and transport.offset == 0
            and transport._tempDataLen == 0
            and transport._tempDataBuffer == []
        ),
    }
    return [name for name, holds in expectations.items() if not holds]


def _takes(cls: type, method: str, *parameters: str) -> bool:
    function = getattr(cls, method, None)
    return function is not None and set(parameters) <= set(inspect.signature(function).parameters)


class _Requested(NamedTuple):
    """What Daphne still asks of a handshake when the connection closes."""

    path: str


class ServerProtocol(WebSocketProtocol, Taker):  # type: ignore[misc]
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
    outlet: "WireOutlet | None" = None
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
            turns.wait(self)
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
        turns.receive(self, data)

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
            payload = _unmask(data[start : start + 4], data[start + 4 : end])
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


def _unmask(mask: bytes, payload: bytes) -> bytes:
    """RFC 6455, section 5.3, as one operation on long integers: some ten times as fast as a loop over bytes."""
    length = len(payload)
    key = int.from_bytes((mask * (length // 4 + 1))[:length])
    return (int.from_bytes(payload) ^ key).to_bytes(length)


class WireOutlet:
    """An Outlet that writes frames to the transport of a Daphne connection.

    While nothing waits, it writes straight to the socket, and only what the kernel does not take goes to Twisted, whose
    way of buffering and polling costs several times as much. TLS has no socket to write to and goes to Twisted always.
    """

    __slots__ = ("_direct", "_max_backlog_bytes", "_protocol", "_send", "_tcp", "_transport", "closes")

    def __init__(self, protocol: ServerProtocol, max_backlog_bytes: int, closes: Counter[int]) -> None:
        """
        Args:
            protocol: the connection.
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


def outlet_for(send: Send, max_backlog_bytes: int, closes: Counter[int]) -> WireOutlet | None:
    """The outlet to the Daphne connection behind an ASGI `send`; None if there is none, or not one of ours."""
    protocol = send.args[0] if isinstance(send, partial) and send.args else None
    return WireOutlet(protocol, max_backlog_bytes, closes) if isinstance(protocol, ServerProtocol) else None


def install() -> bool:
    """Have Daphne use ServerProtocol. Return whether it does; if not, one warning has said why."""
    if missing := missing_insides():
        logger.warning("Unknown versions of the server's libraries; using ASGI alone. Missing: %s", "; ".join(missing))
        return False
    ServerProtocol.maxMessagePayloadSize = ServerProtocol.maxFramePayloadSize = conf().max_message_bytes
    WebSocketFactory.protocol = ServerProtocol
    # Twisted would format a line a request for a log that nobody opened (Daphne has its own).
    HTTPFactory.log = _log_nothing
    Server.protocol_disconnected = _disconnected
    return True


def _disconnected(server: Any, protocol: object) -> None:
    """Do as Daphne does, and forget a request when it is done.

    Daphne keeps them until it looks through all once a second. Of thousands, that and Python's search for garbage among
    them kept everybody waiting for 40 ms.
    """
    details = server.connections[protocol]
    details.setdefault("disconnected", time.time())
    application = details.get("application_instance")
    if application is not None:
        application.add_done_callback(partial(_forget, server, protocol))


def _forget(server: Any, protocol: object, application: "asyncio.Future[None]") -> None:
    if not application.cancelled() and application.exception() is None:  # else Daphne tells of it
        server.connections.pop(protocol, None)


def _log_nothing(factory: HTTPFactory, request: WebRequest) -> None: ...
