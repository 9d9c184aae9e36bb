"""The front door: ordinary handshakes and publishes are served without Twisted's, Daphne's and Autobahn's machinery.

Every connection begins as a `Visitor`. A request that is of the ordinary kind and is for one of the doors is parsed by
httptools and served as soon as it has arrived whole. Any other request goes the ordinary way, byte for byte as it came:
Twisted takes over the connection, and gives it back when it has answered.

*Ordinary* is defined narrowly. Whatever the other way could understand differently, or answer with an error, goes the
other way, so that nobody can tell the two ways apart. What a request means is decided in one place for both.
"""

import asyncio
import contextlib
import logging
import re
import time
from collections.abc import Callable, Coroutine, Mapping
from functools import lru_cache
from typing import Any, NamedTuple

from daphne.http_protocol import HTTPFactory
from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser
from twisted.internet import protocol, tcp
from twisted.protocols.policies import ProtocolWrapper
from twisted.web.http import RESPONSES

from realtime.base.asgi import Header, Response
from realtime.base.tasks import run_eagerly
from realtime.conf import conf
from realtime.server.addresses import client_network
from realtime.server.door_socket import DoorSocket
from realtime.server.fair_scheduling import SlicedConnection, scheduler
from realtime.server.http_limits import BoundedHTTPChannel, http_connections, new_protocol
from realtime.server.tcp_progress import tcp_connection

logger = logging.getLogger(__name__)

# Larger requests go the ordinary way.
_MAX_HEAD_BYTES = 8 * 1024
_MAX_HEADERS = 100
_MAX_BODY_BYTES = 64 * 1024
_MAX_DIGITS = 5
# How much of further requests is kept while one is answered, in bytes, before the connection is not read any more.
_MAX_LATER_BYTES = 16 * 1024
_REQUEST_LINE = re.compile(
    rb"(?:GET (/v3/[A-Za-z0-9_/-]+)|POST (/api/publish(?:/batch)?))(?:\?([!-\"$-~]*))? HTTP/1\.1\r\n"
)
_LENGTH = re.compile(rb"\r\ncontent-length:[ ]*([0-9]+)", re.IGNORECASE)
_PRINTABLE = bytes(range(0x20, 0x7F))
_HOST = re.compile(rb"[A-Za-z0-9._-]+(?::[0-9]{1,5})?")
_ORIGIN = re.compile(rb"https?://[A-Za-z0-9._-]+(?::[0-9]{1,5})?")
_KEY = re.compile(rb"[A-Za-z0-9+/]{22}==")
# Offers of compression that this service declines: those of browsers and of common libraries.
_DECLINED_EXTENSIONS = (b"permessage-deflate", b"permessage-deflate; client_max_window_bits")
# Headers with a meaning that only the ordinary way knows.
_NOT_IN_HANDSHAKES = frozenset((b"content-length", b"transfer-encoding", b"expect", b"sec-websocket-protocol"))
_NOT_IN_PUBLISHES = frozenset((b"transfer-encoding", b"expect", b"upgrade"))

Headers = Mapping[bytes, bytes]
_ERROR = Response(500, b'{"error":"Something went wrong here; try again later."}')


class Doors(NamedTuple):
    """What serves the requests at the front door."""

    enter_socket: Callable[[Mapping[str, Any]], Callable[[DoorSocket], object] | None]
    """Takes the ASGI scope of a handshake. Returns what to call with the connection; None if the handshake must go the
    ordinary way, because its key must be looked up."""
    answer_publish: Callable[[str, Headers, str | None, bytes], Coroutine[Any, Any, Response]]
    """Takes the path, the headers, the client's network and the body of a request to publish; returns the response."""


class _Request(NamedTuple):
    """An ordinary request whose head has arrived."""

    head: tuple[bytes, bytes]
    """Its head, before and after the value of `Content-Length`."""
    path: str
    is_publish: bool
    query: bytes
    headers: Headers
    closes: bool
    """Whether the connection ends with the response."""

    def find_body(self, data: bytes, position: int) -> tuple[int, int] | None:
        """Return where the body of a request begins and ends whose head is the same, up to the size of the body.

        A kept connection sends the same head again and again, and comparing it takes a tenth of the time of parsing it.

        Args:
            data: what has arrived.
            position: where the head begins.

        Returns:
            None if the head is another one.
        """
        before, after = self.head
        if not data.startswith(before, position):
            return None
        length_at = position + len(before)
        end = data.find(b"\r", length_at, length_at + _MAX_DIGITS + 1) if self.is_publish else length_at
        if end < 0 or not data.startswith(after, end):
            return None
        length = data[length_at:end]
        body_at = end + len(after)
        if not self.is_publish:
            return body_at, body_at
        return (body_at, body_at + int(length)) if _is_length(length) else None


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


def parse(data: bytes, position: int = 0) -> _Request | None:
    """Return the ordinary request whose head begins at a position; None if there is none, or not all of its head."""
    line = _REQUEST_LINE.match(data, position)
    if line is None:
        return None
    end = data.find(b"\r\n\r\n", line.end() - 2, position + _MAX_HEAD_BYTES) + 4
    text = data[position:end]
    # Only printable characters, besides those that end a line.
    if end < 4 or text.translate(None, _PRINTABLE).strip(b"\r\n"):
        return None
    head = _Head()
    try:
        HttpRequestParser(head).feed_data(text)
    except HttpParserUpgrade:
        pass
    except HttpParserError:
        return None
    headers = head.headers
    if head.is_odd or len(headers) > _MAX_HEADERS or not _HOST.fullmatch(headers.get(b"host", b"")):
        return None
    is_publish = line[2] is not None
    length = _LENGTH.search(text) if is_publish else None
    if not (_is_ordinary_publish(headers) if is_publish else _is_ordinary_handshake(headers)):
        return None
    return _Request(
        (text, b"") if length is None else (text[: length.start(1)], text[length.end(1) :]),
        (line[2] if is_publish else line[1]).decode(),
        is_publish,
        line[3] or b"",
        headers,
        headers.get(b"connection", b"").lower() == b"close",
    )


def _is_ordinary_publish(headers: Headers) -> bool:
    return (
        _is_length(headers.get(b"content-length", b""))
        and headers.get(b"connection", b"keep-alive").lower() in (b"keep-alive", b"close")
        and _NOT_IN_PUBLISHES.isdisjoint(headers)
    )


def _is_length(value: bytes) -> bool:
    return len(value) <= _MAX_DIGITS and value.isdigit() and int(value) <= _MAX_BODY_BYTES


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
    """A connection of which nobody knows yet what it is, or that publishes."""

    transport: Any
    peer: str | None = None
    """The address that the connection counts for; None once it is not counted."""
    # Twisted and Daphne set these on each connection, for the channel that the ordinary way needs.
    factory: Any = None
    callLater: Any = None
    timeOut: float = 60.0
    requestFactory: Any = None

    _latest: _Request | None = None
    """The latest request to publish."""
    _answering: asyncio.Task[None] | None = None
    """Answers a request that has to wait; meanwhile, further requests wait."""
    _later = b""
    """What has arrived meanwhile."""
    _missing = 0
    """How many bytes of a request have not arrived yet."""
    _has_answered = _is_idle = False
    """Whether a request was answered, and whether nothing has arrived since."""
    _is_lost = False
    _is_producer = False
    """Whether the transport pauses this connection while too much waits for its client."""

    def __init__(self, doors: Doors) -> None:
        """
        Args:
            doors: what serves the requests.
        """
        self._doors = doors
        self._parts: list[bytes] = []  # of a request that has not arrived whole
        self._answers: list[bytes] = []  # that are not sent yet

    def connectionMade(self) -> None:
        client = getattr(tcp_connection(self.transport), "client", None)
        self._client = [client[0], client[1]] if isinstance(client, tuple) else None
        self.peer = self.party = self._client[0] if self._client else None
        if self._client is not None:
            self.transport.setTcpNoDelay(True)
        if not http_connections.open(self):
            self.transport.abortConnection()

    def dataReceived(self, data: bytes) -> None:
        self._is_idle = False
        if self._answering is not None:
            self._later += data
            if len(self._later) > _MAX_LATER_BYTES:
                self.transport.pauseProducing()
            return
        if self._parts:
            self._parts.append(data)
            self._missing -= len(data)
            if self._missing > 0:
                return
            data, self._parts = b"".join(self._parts), []
        try:
            scheduler.receive(self, data)
        except Exception:
            logger.exception("Closing a connection after an unexpected error.")
            self.transport.abortConnection()

    def connectionLost(self, reason: Any = protocol.connectionDone) -> None:
        http_connections.close(self)
        self._is_lost = True
        self.unconsumed = self._later = b""
        self._parts = []

    def consume(self, data: bytes, position: int, until: float) -> int:
        size = len(data)
        while position < size:
            request = self._latest
            body = None if request is None else request.find_body(data, position)
            if body is None:
                request = parse(data, position)
                body = None if request is None else request.find_body(data, position)
            if request is None or body is None or self.factory.server.proxy_forwarded_address_header:
                self._go_the_ordinary_way(data[position:])
                return size
            body_at, end = body
            if not request.is_publish:
                if not self._enter_socket(request, data[body_at:]):
                    self._go_the_ordinary_way(data[position:])
                return size
            if end > size:
                self._parts, self._missing = [data[position:]], end - size
                http_connections.set_deadline(self, conf().request_seconds)
                break
            self._latest = request
            position = end
            self._publish(request, data[body_at:end])
            if self._answering is not None or request.closes:
                self._later = data[position:]
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

    def take_back(self, channel: BoundedHTTPChannel) -> None:
        """Have the connection again, on which the ordinary way has answered everything."""
        channel.setTimeout(None)
        channel._networkProducer.unregisterProducer()
        http_connections.succeed(self, channel)
        self._wait_for_request()
        _attach(self.transport, self)

    def _publish(self, request: _Request, body: bytes) -> None:
        """Answer a request to publish; `_answering` is set if that takes time."""
        self._answering = run_eagerly(self._answer(request, body))
        if self._answering is not None:
            http_connections.finish_request(self)
            self._answering.add_done_callback(self._go_on)

    async def _answer(self, request: _Request, body: bytes) -> None:
        begun = time.monotonic()
        server = self.factory.server
        network = client_network({"headers": request.headers.items(), "client": self._client}, conf().num_proxies)
        try:
            response = await self._doors.answer_publish(request.path, request.headers, network, body)
        except Exception:
            logger.exception("Exception inside application.")
            response = _ERROR
        if response.party is not None:
            self.party = response.party
        if self._is_lost:
            return
        self._answers.append(
            _encode(response.status, response.body, response.headers, server.server_name, closes=request.closes)
        )
        if server.action_logger:
            details = {
                "path": request.path,
                "status": response.status,
                "method": "POST",
                "client": "{}:{}".format(*self._client) if self._client else None,
                "time_taken": time.monotonic() - begun,
                "size": len(response.body),
            }
            server.log_action("http", "complete", details)
        if request.closes:
            self._flush()
            self._stop_producing()
            self.transport.loseConnection()
        else:
            self._wait_for_request()

    def _go_on(self, answering: asyncio.Task[None]) -> None:
        """Send an answer that had to wait, and go on with what has arrived meanwhile."""
        self._answering = None
        self._flush()
        later, self._later = self._later, b""
        if not self._is_lost:
            self.transport.resumeProducing()
            if later:
                self.dataReceived(later)

    def _wait_for_request(self) -> None:
        self._has_answered = self._is_idle = True
        http_connections.set_deadline(self, self.timeOut)

    def _flush(self) -> None:
        """Write the answers; directly to the socket, if nothing waits in the transport."""
        if not self._answers or self._is_lost:
            return
        data = b"".join(self._answers)
        self._answers.clear()
        transport: Any = self.transport
        sent = 0
        if isinstance(transport, tcp.Connection) and not (transport._tempDataLen or transport.dataBuffer):
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
        scope = {
            "type": "websocket",
            "path": request.path,
            "query_string": request.query,
            "headers": list(request.headers.items()),
            "client": self._client,
        }
        serve = self._doors.enter_socket(scope)
        if serve is None:
            return False
        self._flush()
        self._stop_producing()
        http_connections.close(self)
        socket = DoorSocket(self.factory.server, request.path, self._client, request.headers[b"sec-websocket-key"])
        _attach(self.transport, socket)
        socket.unconsumed = rest
        socket.makeConnection(self.transport)
        serve(socket)
        return True

    def _go_the_ordinary_way(self, data: bytes) -> None:
        self._flush()
        self._stop_producing()
        if self._has_answered:  # the next request has a deadline of its own
            http_connections.finish_request(self)
        connection = new_protocol(self.factory)
        connection.factory = self.factory
        connection.callLater = self.callLater
        connection.timeOut = self.timeOut
        connection.requestFactory = self.requestFactory
        connection._channel.visitor = self
        _attach(self.transport, connection)
        connection.makeConnection(self.transport)
        connection.dataReceived(data)

    def _stop_producing(self) -> None:
        if self._is_producer:
            self._is_producer = False
            self.transport.unregisterProducer()


@lru_cache(maxsize=256)
def _encode(status: int, body: bytes, headers: tuple[Header, ...], server_name: str, *, closes: bool) -> bytes:
    """Return a response as Twisted and Daphne would send it."""
    lines = [b"HTTP/1.1 %d %b" % (status, RESPONSES.get(status, b"Unknown Status"))]
    if closes:
        lines.append(b"Connection: close")
    all_headers = Response(status, body, headers).all_headers
    if server_name:
        all_headers.append((b"server", server_name.encode()))
    lines += [b"%b: %b" % (name.title(), value) for name, value in all_headers]
    return b"\r\n".join([*lines, b"", body])


def _attach(transport: Any, connection: Any) -> None:
    """Let a protocol have a connection."""
    if isinstance(transport, ProtocolWrapper):  # TLS
        transport.wrappedProtocol = connection
    else:
        transport.protocol = connection


def visitors(doors: Doors) -> Callable[[HTTPFactory], Visitor]:
    """Return a function that returns what serves a new TCP connection."""
    return lambda factory: Visitor(doors)
