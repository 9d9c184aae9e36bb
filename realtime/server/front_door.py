"""The front door: ordinary handshakes and publishes are served without Twisted's, Daphne's and Autobahn's machinery.

Every connection begins as a `Visitor`. A request that is of the ordinary kind and is for one of the doors is parsed by
httptools (`server.ordinary_requests`) and served as soon as it has arrived whole. Any other request goes the ordinary
way, byte for byte as it came: Twisted takes over the connection, and gives it back when it has answered.

*Ordinary* is defined narrowly. Whatever the other way could understand differently, or answer with an error, goes the
other way, so that nobody can tell the two ways apart. What a request means is decided in one place for both.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Coroutine, Mapping
from functools import lru_cache
from http import HTTPStatus
from typing import Any, NamedTuple

from daphne.http_protocol import HTTPFactory
from twisted.internet import protocol, tcp
from twisted.protocols.policies import ProtocolWrapper
from twisted.web.http import RESPONSES

from realtime.base.asgi import Header, Response
from realtime.base.tasks import run_eagerly
from realtime.conf import conf
from realtime.server.addresses import client_network
from realtime.server.answers import answers
from realtime.server.door_socket import DoorSocket
from realtime.server.fair_scheduling import SlicedConnection, scheduler
from realtime.server.http_limits import BoundedHTTPChannel, http_connections, new_protocol
from realtime.server.ordinary_requests import Headers, OrdinaryRequest, parse
from realtime.server.tcp_progress import tcp_connection

logger = logging.getLogger(__name__)

for _status in HTTPStatus:  # Twisted has no names for newer ones, such as 429
    RESPONSES.setdefault(_status.value, _status.phrase.encode())

# How much of further requests is kept while one is answered, in bytes, before the connection is not read any more.
_MAX_LATER_BYTES = 16 * 1024
_ERROR = Response(500, b'{"error":"Something went wrong here; try again later."}')


class Doors(NamedTuple):
    """What serves the requests at the front door."""

    enter_socket: Callable[[Mapping[str, Any]], Callable[[DoorSocket], object] | None]
    """Takes the ASGI scope of a handshake. Returns what to call with the connection; None if the handshake must go the
    ordinary way, because its key must be looked up."""
    answer_publish: Callable[[str, bytes, Headers, str | None, bytes], Coroutine[Any, Any, Response]]
    """Takes the path, the query, the headers, the client's network and the body of a request to publish; returns the
    response."""


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

    _latest: OrdinaryRequest | None = None
    """The latest request to publish."""
    _headers: Headers | None = None
    """The headers of the latest request that was answered."""
    _network: str | None = None
    """The network of the client that has sent these headers."""
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
        answers.forget(self)
        self._is_lost = True
        self.unconsumed = self._later = b""
        self._parts = []

    def consume(self, data: bytes, position: int, until: float) -> int:
        size = len(data)
        while position < size:
            request = self._latest
            found = None if request is None else request.find(data, position)
            if found is None:
                request = parse(data, position)
                found = None if request is None else request.find(data, position)
            if request is None or found is None or self.factory.server.proxy_forwarded_address_header:
                self._go_the_ordinary_way(data[position:])
                return size
            query, body_at, end = found
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
            self._publish(request, query, data[body_at:end])
            if self._answering is not None or request.closes:
                self._later = data[position:]
                break
            if position < size and time.perf_counter() > until:
                size = position
                break
        if self._answers:
            answers.write(self)
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

    def _publish(self, request: OrdinaryRequest, query: bytes, body: bytes) -> None:
        """Answer a request to publish; `_answering` is set if that takes time."""
        self._answering = run_eagerly(self._answer(request, query, body))
        if self._answering is not None:
            http_connections.finish_request(self)
            self._answering.add_done_callback(self._go_on)

    async def _answer(self, request: OrdinaryRequest, query: bytes, body: bytes) -> None:
        begun = time.monotonic()
        server = self.factory.server
        headers = request.headers
        if headers is not self._headers:
            self._headers = headers
            self._network = client_network({"headers": headers.items(), "client": self._client}, conf().num_proxies)
        try:
            response = await self._doors.answer_publish(request.path, query, headers, self._network, body)
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
            self.send_answers()
            self._stop_producing()
            self.transport.loseConnection()
        else:
            self._wait_for_request()

    def _go_on(self, answering: asyncio.Task[None]) -> None:
        """Send an answer that had to wait, and go on with what has arrived meanwhile."""
        self._answering = None
        self.send_answers()
        later, self._later = self._later, b""
        if not self._is_lost:
            self.transport.resumeProducing()
            if later:
                self.dataReceived(later)

    def _wait_for_request(self) -> None:
        self._has_answered = self._is_idle = True
        http_connections.set_deadline(self, self.timeOut)

    def send_answers(self) -> None:
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

    def _enter_socket(self, request: OrdinaryRequest, rest: bytes) -> bool:
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
        self.send_answers()
        self._stop_producing()
        http_connections.close(self)
        socket = DoorSocket(self.factory.server, request.path, self._client, request.headers[b"sec-websocket-key"])
        _attach(self.transport, socket)
        socket.unconsumed = rest
        socket.makeConnection(self.transport)
        serve(socket)
        return True

    def _go_the_ordinary_way(self, data: bytes) -> None:
        self.send_answers()
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
