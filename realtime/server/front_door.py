"""The front door: ordinary handshakes and publishes are served without Twisted's, Daphne's and Autobahn's machinery.

A connection begins as a `Visitor`. If a request has arrived whole, is of the ordinary kind and is for one of the doors,
httptools parses it and it is served immediately. Every other request goes the ordinary way, byte for byte as it came:
Twisted takes over the connection, and gives it back when it has answered.

*Ordinary* is defined narrowly: a request that the other way could understand differently goes the other way.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser
from twisted.internet import protocol, tcp
from twisted.protocols.policies import ProtocolWrapper

from realtime.conf import conf
from realtime.server.door_socket import DoorSocket
from realtime.server.fair_scheduling import SlicedConnection, scheduler
from realtime.server.http_limits import BoundedHTTPChannel, http_connections, new_protocol
from realtime.server.tcp_progress import tcp_connection

# Larger heads and requests go the ordinary way, in bytes.
_MAX_HEAD_BYTES = 8 * 1024
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
_NOT_ORDINARY = frozenset(
    [
        *(b"content-length", b"transfer-encoding", b"expect", b"trailer", b"te", b"sec-websocket-protocol"),
        *(b"daphne-root-path", b"keep-alive", b"http2-settings", b"proxy-connection"),
    ]
)

Headers = Mapping[bytes, bytes]
EnterSocket = Callable[[Mapping[str, Any]], Callable[[DoorSocket], object] | None]


class Doors:
    """What the front door is for; the modules that know what a request means set it."""

    def __init__(self) -> None:
        self.enter_socket: EnterSocket | None = None
        """Takes the ASGI scope of a handshake. Returns what to call with the connection; None if the handshake must go
        the ordinary way, because the key must be looked up."""


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

    socket_path: bytes | None
    publish_path: bytes | None
    query: bytes
    headers: Headers
    body_at: int
    """Where its body begins."""


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
    if head.is_odd or not _HOST.fullmatch(head.headers.get(b"host", b"")):
        return None
    return _Request(line[1], line[2], line[3] or b"", head.headers, end)


def _is_ordinary_handshake(headers: Headers) -> bool:
    return (
        headers.get(b"upgrade", b"").lower() == b"websocket"
        and headers.get(b"connection", b"").lower() in (b"upgrade", b"keep-alive, upgrade")
        and headers.get(b"sec-websocket-version") == b"13"
        and _KEY.fullmatch(headers.get(b"sec-websocket-key", b"")) is not None
        and (b"origin" not in headers or _ORIGIN.fullmatch(headers[b"origin"]) is not None)
        and headers.get(b"sec-websocket-extensions", _DECLINED_EXTENSIONS[0]) in _DECLINED_EXTENSIONS
        and _NOT_ORDINARY.isdisjoint(headers)
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

    def connectionMade(self) -> None:
        client = getattr(tcp_connection(self.transport), "client", None)
        self.peer = self.party = client[0] if isinstance(client, tuple) else None
        if not http_connections.open(self):
            self.transport.abortConnection()

    def dataReceived(self, data: bytes) -> None:
        scheduler.receive(self, data)

    def connectionLost(self, reason: Any = protocol.connectionDone) -> None:
        http_connections.close(self)
        self.unconsumed = b""

    def consume(self, data: bytes, position: int, until: float) -> int:
        request = _parse(data, position)
        if request is not None and request.socket_path is not None and self._enter_socket(request, data):
            return len(data)
        self._go_the_ordinary_way(data[position:])
        return len(data)

    def miss_deadline(self) -> None:
        """End the connection, whose request has not arrived in time."""
        self.transport.abortConnection()

    def _enter_socket(self, request: _Request, data: bytes) -> bool:
        """Serve a handshake if it is ordinary; return whether it was."""
        server = self.factory.server
        if doors.enter_socket is None or request.socket_path is None or not _is_ordinary_handshake(request.headers):
            return False
        path = request.socket_path.decode("ascii")
        client = getattr(tcp_connection(self.transport), "client", None)
        serve = doors.enter_socket(
            {
                "type": "websocket",
                "path": path,
                "query_string": request.query,
                "headers": list(request.headers.items()),
                "client": [client[0], client[1]] if isinstance(client, tuple) else None,
            }
        )
        if serve is None:
            return False
        socket = DoorSocket(server, path, client, request.headers[b"sec-websocket-key"])
        http_connections.close(self)
        _attach(self.transport, socket)
        socket.unconsumed = data[request.body_at :]
        socket.makeConnection(self.transport)
        serve(socket)
        return True

    def take_back(self, channel: BoundedHTTPChannel) -> None:
        """Have the connection again, on which the ordinary way has answered everything."""
        channel.setTimeout(None)
        channel._networkProducer.unregisterProducer()
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
        _attach(self.transport, connection)
        connection.makeConnection(self.transport)
        connection.dataReceived(data)


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
