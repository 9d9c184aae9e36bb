"""The front door: ordinary handshakes and publishes are served without Twisted's, Daphne's and Autobahn's machinery.

A connection begins as a `Visitor`. If a request has arrived whole, is of the ordinary kind and is for one of the doors,
httptools parses it and it is served immediately. Every other request goes the ordinary way, byte for byte as it came:
Twisted takes over the connection, and gives it back when it has answered.

*Ordinary* is defined narrowly: a request that the other way could understand differently goes the other way.
"""

import asyncio
import contextlib
import re
import time
from collections.abc import Callable, Coroutine, Mapping
from functools import lru_cache
from typing import Any, NamedTuple

from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser
from twisted.internet import protocol, tcp
from twisted.protocols.policies import ProtocolWrapper
from twisted.web.http import RESPONSES

from realtime.base.asgi import Response
from realtime.base.tasks import run_eagerly
from realtime.conf import conf
from realtime.server.addresses import client_network
from realtime.server.door_socket import DoorSocket
from realtime.server.fair_scheduling import SlicedConnection, scheduler
from realtime.server.http_limits import BoundedHTTPChannel, http_connections, new_protocol
from realtime.server.tcp_progress import tcp_connection

# Larger heads and requests go the ordinary way, in bytes.
_MAX_HEAD_BYTES = 8 * 1024
_MAX_BODY_BYTES = 64 * 1024
_MAX_HEADERS = 100
_REQUEST_LINE = re.compile(
    rb"(?:GET (/v3/[A-Za-z0-9_/-]+)|POST (/api/publish(?:/batch)?))(?:\?([!-\"$-~]*))? HTTP/1\.1\r\n"
)
# What the characters of a head are after the request line, besides those that end a line.
_PRINTABLE = bytes(range(0x20, 0x7F))
_HOST = re.compile(rb"[A-Za-z0-9._-]+(?::[0-9]{1,5})?")
_ORIGIN = re.compile(rb"https?://[A-Za-z0-9._-]+(?::[0-9]{1,5})?")
_KEY = re.compile(rb"[A-Za-z0-9+/]{22}==")
# Offers of compression that Autobahn parses and this service declines: those of browsers and of common libraries.
_DECLINED_EXTENSIONS = (b"permessage-deflate", b"permessage-deflate; client_max_window_bits")
# Headers with a meaning that only the ordinary way knows.
_NOT_IN_HANDSHAKES = frozenset((b"content-length", b"transfer-encoding", b"expect", b"sec-websocket-protocol"))
_NOT_IN_PUBLISHES = frozenset((b"transfer-encoding", b"expect", b"upgrade"))
# How much of further requests is kept while one is answered, in bytes, before the connection is not read any more.
_MAX_LATER_BYTES = 16 * 1024

Headers = Mapping[bytes, bytes]
AnswerPublish = Callable[[str, Headers, str | None, bytes], Coroutine[Any, Any, Response]]
EnterSocket = Callable[[Mapping[str, Any]], Callable[[DoorSocket], object] | None]


class Doors:
    """What the front door is for; the modules that know what a request means set it."""

    enter_socket: EnterSocket | None = None
    """Takes the ASGI scope of a handshake. Returns what to call with the connection; None if the handshake must go the
    ordinary way, because its key must be looked up."""
    answer_publish: AnswerPublish | None = None
    """Takes the path, the headers, the client's network and the body of a request to publish; returns the response."""


class _Head:
    """Collects what httptools finds in the head of a request."""

    __slots__ = ("headers", "is_odd")

    def __init__(self) -> None:
        self.headers: dict[bytes, bytes] = {}
        self.is_odd = False

    def on_header(self, name: bytes, value: bytes) -> None:
        name = name.lower()
        if name in self.headers or b"_" in name:
            self.is_odd = True
        self.headers[name] = value.rstrip(b" ")


class _Request(NamedTuple):
    """An ordinary request whose head has arrived."""

    head: bytes
    socket_path: bytes | None
    publish_path: bytes | None
    query: bytes
    headers: Headers
    length: int
    """The size of its body, in bytes."""
    closes: bool
    """Whether the connection ends with the response."""


def _parse(data: bytes, position: int) -> _Request | None:
    """Return the ordinary request whose head begins at a position; None if there is none."""
    line = _REQUEST_LINE.match(data, position)
    if line is None:
        return None
    end = data.find(b"\r\n\r\n", line.end() - 2, position + _MAX_HEAD_BYTES)
    if end < 0:
        return None
    end += 4
    text = data[position:end]
    if text.translate(None, _PRINTABLE).strip(b"\r\n"):
        return None
    head = _Head()
    parser = HttpRequestParser(head)
    try:
        parser.feed_data(text)
    except HttpParserUpgrade:
        pass
    except HttpParserError:
        return None
    if head.is_odd or len(head.headers) > _MAX_HEADERS or not _HOST.fullmatch(head.headers.get(b"host", b"")):
        return None
    headers = head.headers
    if (
        line[2] is not None
        and not _is_ordinary_publish(headers)
        or line[1] is not None
        and not _is_ordinary_handshake(headers)
    ):
        return None
    length = int(headers.get(b"content-length", b"0"))
    closes = headers.get(b"connection", b"").lower() == b"close"
    return _Request(text, line[1], line[2], line[3] or b"", headers, length, closes)


def _is_ordinary_publish(headers: Headers) -> bool:
    length = headers.get(b"content-length", b"")
    return (
        length.isdigit()
        and len(length) <= len(b"%d" % _MAX_BODY_BYTES)
        and int(length) <= _MAX_BODY_BYTES
        and headers.get(b"connection", b"keep-alive").lower() in (b"keep-alive", b"close")
        and _NOT_IN_PUBLISHES.isdisjoint(headers)
    )


def _is_ordinary_handshake(headers: Headers) -> bool:
    return (
        headers.get(b"upgrade", b"").lower() == b"websocket"
        and headers.get(b"connection", b"").lower() in (b"upgrade", b"keep-alive, upgrade")
        and headers.get(b"sec-websocket-version") == b"13"
        and _KEY.fullmatch(headers.get(b"sec-websocket-key", b"")) is not None
        and (b"origin" not in headers or _ORIGIN.fullmatch(headers[b"origin"]) is not None)
        and headers.get(b"sec-websocket-extensions", _DECLINED_EXTENSIONS[0]) in _DECLINED_EXTENSIONS
        and _NOT_IN_HANDSHAKES.isdisjoint(headers)
    )


class Visitor(protocol.Protocol, SlicedConnection):
    """A connection to which no request that arrived in part, or is not ordinary, belongs."""

    peer: str | None = None
    """The address that the connection counts for; None once it is not counted."""
    # Twisted and Daphne set these on each connection, for the channel that the ordinary way needs.
    factory: Any = None
    callLater: Any = None
    timeOut: float | None = None
    requestFactory: Any = None

    _answering: asyncio.Task[None] | None = None
    """Answers a request that has to wait; meanwhile, further requests wait."""
    _latest: _Request | None = None
    """The latest request to publish."""
    _later = b""
    """What has arrived meanwhile."""
    _missing = 0
    """How many bytes of a request have not arrived yet."""
    _is_idle = False
    """Whether all requests are answered, and nothing has arrived since."""
    _is_producer = False
    """Whether the transport tells when too much waits for the client."""

    def connectionMade(self) -> None:
        client = getattr(tcp_connection(self.transport), "client", None)
        self._client = [client[0], client[1]] if isinstance(client, tuple) else None
        self._parts: list[bytes] = []  # of a request that has not arrived whole
        self._answers: list[bytes] = []  # that are not sent yet
        self.peer = self.party = self._client[0] if self._client else None
        if not http_connections.open(self):
            self.transport.abortConnection()

    def dataReceived(self, data: bytes) -> None:
        if self._answering is not None:
            self._later += data
            if len(self._later) > _MAX_LATER_BYTES:
                self.transport.pauseProducing()
        elif self._parts:
            self._parts.append(data)
            self._missing -= len(data)
            if self._missing <= 0:
                whole, self._parts = b"".join(self._parts), []
                scheduler.receive(self, whole)
        else:
            scheduler.receive(self, data)

    def connectionLost(self, reason: Any = protocol.connectionDone) -> None:
        http_connections.close(self)
        self.unconsumed = self._later = b""
        self._parts = []
        if self._answering is not None:
            self._answering.cancel()

    def consume(self, data: bytes, position: int, until: float) -> int:
        size = len(data)
        while position < size:
            request = self._latest
            # A kept connection sends the same head again and again.
            if request is None or not data.startswith(request.head, position):
                request = _parse(data, position)
            if request is None:
                self._flush()
                self._go_the_ordinary_way(data[position:])
                break
            body_at = position + len(request.head)
            if request.socket_path is not None:
                self._flush()
                if not self._enter_socket(request, data[body_at:]):
                    self._go_the_ordinary_way(data[position:])
                break
            end = body_at + request.length
            if end > size:
                self._parts, self._missing = [data[position:]], end - size
                http_connections.set_deadline(self, conf().request_seconds)
                break
            self._latest = request
            position = end
            self._publish(request, data[body_at:end])
            if self._answering is not None:
                self._later = data[position:]
                break
            if request.closes:
                break
            if position < size and time.perf_counter() > until:
                self._flush()
                return position
        self._flush()
        return size

    def miss_deadline(self) -> None:
        if self._is_idle:
            self.transport.loseConnection()
        else:
            self.transport.abortConnection()

    def pauseProducing(self) -> None:
        self.transport.pauseProducing()

    def resumeProducing(self) -> None:
        self.transport.resumeProducing()

    def stopProducing(self) -> None: ...

    def _publish(self, request: _Request, body: bytes) -> None:
        self._answering = run_eagerly(self._answer(request, body))
        if self._answering is not None:
            http_connections.finish_request(self)
            self._answering.add_done_callback(self._go_on)

    async def _answer(self, request: _Request, body: bytes) -> None:
        begun = time.monotonic()
        server = self.factory.server
        network = client_network({"headers": request.headers.items(), "client": self._client}, conf().num_proxies)
        response = await doors.answer_publish(request.publish_path.decode(), request.headers, network, body)
        self._answers.append(_encode(response, server.server_name, closes=request.closes))
        if server.action_logger:
            details = {
                "path": request.publish_path.decode(),
                "status": response.status,
                "method": "POST",
                "client": "%s:%s" % tuple(self._client) if self._client else None,
                "time_taken": time.monotonic() - begun,
                "size": len(response.body),
            }
            server.log_action("http", "complete", details)
        if request.closes:
            self._flush()
            self.transport.loseConnection()
        else:
            self._is_idle = True
            http_connections.set_deadline(self, self.timeOut or 60)

    def _go_on(self, answering: asyncio.Task[None]) -> None:
        """Send an answer that had to wait, and go on with what has arrived meanwhile."""
        self._answering = None
        if answering.cancelled() or not self.transport.connected:
            return
        self._flush()
        later, self._later = self._later, b""
        self.transport.resumeProducing()
        if later:
            self.dataReceived(later)

    def _flush(self) -> None:
        """Write the answers; directly to the socket, if nothing waits in the transport."""
        if not self._answers:
            return
        data = b"".join(self._answers)
        self._answers.clear()
        transport: Any = self.transport
        sent = 0
        if isinstance(transport, tcp.Connection):
            if not transport.connected:
                return
            if not (transport._tempDataLen or transport.dataBuffer):
                with contextlib.suppress(OSError):  # the transport detects it too, and ends the connection
                    sent = transport.socket.send(data)
        if sent < len(data):
            if not self._is_producer:
                self._is_producer = True
                transport.registerProducer(self, True)
            transport.write(data[sent:])

    def _enter_socket(self, request: _Request, rest: bytes) -> bool:
        """Serve a handshake, if its key is in the cache; return whether it was.

        Args:
            request: the handshake.
            rest: what has arrived after it.
        """
        path = request.socket_path.decode()
        serve = doors.enter_socket(
            {
                "type": "websocket",
                "path": path,
                "query_string": request.query,
                "headers": list(request.headers.items()),
                "client": self._client,
            }
        )
        if serve is None:
            return False
        self._stop_producing()
        http_connections.close(self)
        socket = DoorSocket(self.factory.server, path, self._client, request.headers[b"sec-websocket-key"])
        _attach(self.transport, socket)
        socket.unconsumed = rest
        socket.makeConnection(self.transport)
        serve(socket)
        return True

    def take_back(self, channel: BoundedHTTPChannel) -> None:
        """Have the connection again, on which the ordinary way has answered everything."""
        channel.setTimeout(None)
        channel._networkProducer.unregisterProducer()
        self._is_idle = True
        http_connections.succeed(self, channel)
        self.transport.resumeProducing()
        _attach(self.transport, self)

    def _go_the_ordinary_way(self, data: bytes) -> None:
        connection = new_protocol(self.factory)
        connection.factory = self.factory
        connection.callLater = self.callLater
        connection.timeOut = self.timeOut
        connection.requestFactory = self.requestFactory
        connection._channel.visitor = self
        self._stop_producing()
        _attach(self.transport, connection)
        connection.makeConnection(self.transport)
        connection.dataReceived(data)

    def _stop_producing(self) -> None:
        if self._is_producer:
            self._is_producer = False
            self.transport.unregisterProducer()


@lru_cache(maxsize=256)
def _encode(response: Response, server_name: str, *, closes: bool) -> bytes:
    """Return a response as Twisted and Daphne would send it."""
    lines = [b"HTTP/1.1 %d %b" % (response.status, RESPONSES[response.status])]
    if closes:
        lines.append(b"Connection: close")
    lines += [b"%b: %b" % (name.title(), value) for name, value in response.all_headers]
    if server_name:
        lines.append(b"Server: " + server_name.encode())
    return b"\r\n".join([*lines, b"", response.body])


def _attach(transport: Any, connection: Any) -> None:
    """Let a protocol have a connection."""
    if isinstance(transport, ProtocolWrapper):  # TLS
        transport.wrappedProtocol = connection
    else:
        transport.protocol = connection


def new_visitor(factory: Any) -> Visitor:
    """Return what serves a new TCP connection."""
    return Visitor()


doors = Doors()
