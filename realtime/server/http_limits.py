"""Limits for HTTP connections: time, size, connections per address, and only requests that can be read in one way.

Twisted limits a request's head (16 KiB, 500 lines) and closes connections that are silent for a minute. It waits
forever for a client that sends a byte now and then, writes bodies of any size to disk, and accepts any number of
connections. Here, a request must be complete within a time limit, its body has a maximum size, and an address has a
maximum number of connections that are not WebSockets.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from os import SEEK_END
from tempfile import SpooledTemporaryFile
from typing import Any, Protocol

from daphne import http_protocol
from daphne.http_protocol import HTTPFactory, WebRequest
from twisted.internet import reactor, tcp
from twisted.protocols.policies import ProtocolWrapper
from twisted.web import http

from realtime.conf import conf
from realtime.protocols.frames import compact_json
from realtime.protocols.http_heads import Target, are_trailers, read_target
from realtime.server.addresses import address_limits, client_network
from realtime.server.bodies import body_limit
from realtime.server.fair_scheduling import SlicedConnection, scheduler

SWEEP_SECONDS = 1.0
# How long a rejected client may take to read the response, in seconds; what it still sends is discarded.
REJECTED_SECONDS = 5.0
# How fast a client must take a response that is sent in parts, and by how many seconds it may fall behind.
MIN_BYTES_PER_SECOND = 16 * 1024
PATIENCE_SECONDS = 30.0
# Larger bodies are stored on disk (Twisted's constant).
LARGE_BODY_BYTES = 100_000
# How many large bodies may be received at the same time. An address may use half of those that others leave.
MAX_LARGE_BODIES = 64

INVALID = "The request is not valid HTTP (RFC 9112), or its head is too large."
BUSY = "The server is receiving too many large requests; try again."
# Pages of any origin may read it, since it says nothing about anybody.
REJECTION = (
    b"HTTP/1.1 %d %b\r\nContent-Type: application/json\r\nContent-Length: %d\r\n"
    b"Access-Control-Allow-Origin: *\r\nConnection: close\r\n\r\n"
)


class HttpConnection(Protocol):
    """A TCP connection that is not a WebSocket, or not yet."""

    peer: str | None
    """The address that it counts for; None once it is not counted."""

    def miss_deadline(self) -> None:
        """End it, since its request has not arrived in time."""


class HttpConnections:
    """The connections of this process that are not WebSockets. Loop thread only."""

    def __init__(self) -> None:
        # Connections with an incomplete request, and when it must be complete.
        self._deadlines: dict[HttpConnection, float] = {}
        # Connections that are receiving a large body, and the network that each counts for.
        self._large_bodies: dict[HttpConnection, str | None] = {}
        self._large_bodies_of: Counter[str | None] = Counter()
        self._is_sweeping = False

    def open(self, channel: HttpConnection) -> bool:
        """Count a new connection and expect a request on it; return whether its address may open another connection."""
        if channel.peer is not None and not address_limits.open_tcp(channel.peer):
            return False
        self.set_deadline(channel, conf().request_head_seconds)
        return True

    def close(self, channel: HttpConnection) -> None:
        """Stop counting a connection that is closed or has become a WebSocket."""
        self.finish_request(channel)
        peer, channel.peer = channel.peer, None
        if peer is not None:
            address_limits.close_tcp(peer)

    def set_deadline(self, channel: HttpConnection, seconds: float) -> None:
        """Close the connection unless its request makes progress within so many seconds."""
        self._deadlines[channel] = time.monotonic() + seconds
        if not self._is_sweeping:
            self._is_sweeping = True
            self._sweep_later()

    def succeed(self, channel: HttpConnection, predecessor: HttpConnection) -> None:
        """Count a connection in the place of another one, whose deadline it inherits."""
        deadline = self._deadlines.get(predecessor)
        channel.peer, predecessor.peer = predecessor.peer, None
        self.finish_request(predecessor)
        if deadline is not None:
            self._deadlines[channel] = deadline

    def is_receiving(self, channel: HttpConnection) -> bool:
        """Return whether a connection has an incomplete request."""
        return channel in self._deadlines

    def finish_request(self, channel: HttpConnection) -> None:
        """Cancel the deadline of a request that is complete or never will be."""
        self._deadlines.pop(channel, None)
        if channel in self._large_bodies:
            network = self._large_bodies.pop(channel)
            self._large_bodies_of[network] -= 1
            if not self._large_bodies_of[network]:
                del self._large_bodies_of[network]

    def admit_large_body(self, channel: HttpConnection, network: str | None) -> bool:
        """Count a request with a large body if there is room for another one of its network; return whether it counts.

        A network may use as many places as remain free. So one takes at most half of all, and leaves room for others.
        """
        if channel not in self._large_bodies:
            used = 0 if network is None else self._large_bodies_of[network]
            if used >= MAX_LARGE_BODIES - len(self._large_bodies):
                return False
            self._large_bodies[channel] = network
            self._large_bodies_of[network] += 1
        return True

    def _sweep_later(self) -> None:
        reactor.callLater(SWEEP_SECONDS, self._sweep)  # type: ignore[arg-type]

    def _sweep(self) -> None:
        now = time.monotonic()
        for channel in [channel for channel, deadline in self._deadlines.items() if deadline < now]:
            self.finish_request(channel)
            channel.miss_deadline()
        self._is_sweeping = bool(self._deadlines)
        if self._is_sweeping:
            self._sweep_later()


_HTTPChannel: Any = http.HTTPChannel  # without types


class BoundedHTTPChannel(_HTTPChannel, SlicedConnection):  # type: ignore[misc]
    """Twisted's HTTP connection with limits."""

    peer: str | None = None
    """The address that the connection counts for; None once it is not counted."""
    visitor: Any = None
    """The connection as the front door sees it, which gets it back after each request; None if the door is shut."""
    is_rejected = False
    _is_lost = False
    _waiting: asyncio.Future[None] | None = None
    _seconds_behind = 0.0
    target: Target
    cost = 4  # `consume` parses a request; answering it later takes three times as long

    def connectionMade(self) -> None:
        super().connectionMade()
        self.head_lines: list[bytes] = []
        self.head_bytes = 0
        self.peer = self.party = getattr(self.transport.getPeer(), "host", None)
        if self.visitor is not None:
            http_connections.succeed(self, self.visitor)
        elif not http_connections.open(self):
            self.transport.abortConnection()

    def miss_deadline(self) -> None:
        self.transport.abortConnection()

    def dataReceived(self, data: bytes) -> None:
        if self.is_rejected:
            return
        if self._handlingRequest:
            super().dataReceived(data)  # buffers it until the response is sent, and stops reading if it is too much
            return
        if not http_connections.is_receiving(self):
            http_connections.set_deadline(self, conf().request_head_seconds)
        scheduler.receive(self, data)

    def consume(self, data: bytes, position: int, until: float) -> int:
        super().dataReceived(data)
        return len(data)

    def lineReceived(self, line: bytes) -> None:
        """Collect the lines of a head, and parse it when it is complete and valid."""
        if self.is_rejected:
            return
        if line:
            self.head_lines.append(line)
            self.head_bytes += len(line)
            if self.head_bytes > self.totalHeadersSize or len(self.head_lines) > self.maxHeaders:
                self._respondToBadRequestAndDisconnect()
            return
        receive = super().lineReceived
        if self.head_lines:
            target = read_target(b"\r\n".join(self.head_lines))
            if target is None:
                self._respondToBadRequestAndDisconnect()
                return
            self.target = target
            for head_line in self.head_lines:
                receive(head_line)
            self.head_lines.clear()
            self.head_bytes = 0
        if not self.is_rejected:
            receive(line)

    def lineLengthExceeded(self, line: bytes) -> None:
        self._respondToBadRequestAndDisconnect()

    def rawDataReceived(self, data: bytes) -> None:
        if not self.is_rejected:
            super().rawDataReceived(data)

    def allHeadersReceived(self) -> None:
        authority, self._path = self.target
        if authority is not None:
            self.requests[-1].requestHeaders.setRawHeaders(b"host", [authority])
        self.body_limit = body_limit(self._path.decode("latin-1"))
        if self.length is not None and self.length > self.body_limit.max_bytes:
            self.reject_body()
        elif self.length is None or self.length <= LARGE_BODY_BYTES or self.admit_large_body():
            http_connections.set_deadline(self, conf().request_seconds)
            super().allHeadersReceived()

    def checkPersistence(self, request: http.Request, version: bytes) -> bool:
        """Return whether the connection stays open after a request. Twisted would miss `close` in a list."""
        values = request.requestHeaders.getRawHeaders(b"connection", [])
        if b"close" in (option.strip(b"\t ").lower() for option in b",".join(values).split(b",")):
            request.responseHeaders.setRawHeaders(b"connection", [b"close"])
            return False
        return version == b"HTTP/1.1"

    def admit_large_body(self) -> bool:
        """Count the request as one with a large body, or reject it if there is no room; return whether it counts."""
        forwarded = self.requests[-1].requestHeaders.getRawHeaders(b"x-forwarded-for", [])
        client = None if self.party is None else (self.party, 0)
        scope = {"headers": [(b"x-forwarded-for", value) for value in forwarded], "client": client}
        if http_connections.admit_large_body(self, client_network(scope, conf().num_proxies)):
            return True
        self.reject(503, b"Service Unavailable", BUSY)
        return False

    def _finishRequestBody(self, data: bytes) -> None:
        if self.is_rejected:
            return
        if are_trailers(getattr(self._transferDecoder, "_trailerHeaders", ())):
            super()._finishRequestBody(data)
        else:
            self._respondToBadRequestAndDisconnect()

    def allContentReceived(self) -> None:
        if not self.is_rejected:
            http_connections.finish_request(self)
            super().allContentReceived()

    def requestDone(self, request: http.Request) -> None:
        super().requestDone(request)
        is_at_rest = self.persistent and not (
            self.requests
            or self.head_lines
            or self._handlingRequest
            or self._buffer
            or self._busyReceiving
            or self.unconsumed
            or self.is_rejected
            or self._waitingForTransport
        )
        if is_at_rest and self.visitor is not None and self.transport.connected and not self.transport.disconnecting:
            self.visitor.take_back(self)

    def connectionLost(self, reason: Any) -> None:
        http_connections.close(self)
        self.unconsumed = b""
        self._is_lost = True
        self._end_waiting()
        super().connectionLost(reason)

    def resumeProducing(self) -> None:
        super().resumeProducing()
        self._end_waiting()

    async def drain(self, size: int) -> None:
        """Wait until the client has taken what was written. It is disconnected if it is too slow on average.

        Args:
            size: how much was written since the last call, in bytes.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + PATIENCE_SECONDS - self._seconds_behind + size / MIN_BYTES_PER_SECOND
        while self._waitingForTransport and self.transport is not None and not self._is_lost:
            self._waiting = loop.create_future()
            try:
                async with asyncio.timeout_at(deadline):
                    await self._waiting
            except TimeoutError:
                self.transport.abortConnection()
                return
        self._seconds_behind = max(PATIENCE_SECONDS - (deadline - loop.time()), 0)

    def _end_waiting(self) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)

    def _respondToBadRequestAndDisconnect(self) -> None:
        self.reject(400, b"Bad Request", INVALID)

    def reject_body(self) -> None:
        """Reject a request whose body is too large, see `reject`."""
        self.reject(413, b"Content Too Large", self.body_limit.sentence, self.body_limit.error_member)

    def reject(self, status: int, phrase: bytes, sentence: str, member: str = "error") -> None:
        """Answer a request that is not complete, or not valid, with an error, and close the connection.

        The client sees the end immediately. What it still sends is discarded for some seconds, because closing the
        connection while data arrives could lose the response.
        """
        if self.is_rejected:
            return
        self.is_rejected = True
        body = compact_json({member: sentence}).encode()
        self.transport.write(REJECTION % (status, phrase, len(body)) + body)
        http_connections.finish_request(self)
        http_connections.set_deadline(self, REJECTED_SECONDS)
        if isinstance(self.transport, tcp.Connection):  # TLS cannot end in one direction
            self.transport.loseWriteConnection()  # type: ignore[no-untyped-call]


class BoundedRequest(WebRequest):  # type: ignore[misc]
    """Daphne's request, with a limit for bodies that do not announce their size."""

    uri: bytes

    def gotLength(self, length: int | None) -> None:
        if length is None:  # Twisted would open a file, even for a single byte
            self.content: Any = SpooledTemporaryFile(LARGE_BODY_BYTES)  # noqa: SIM115  (Twisted closes it)
        else:
            super().gotLength(length)

    def process(self) -> Any:
        # Daphne would trust this header from any client, and applications would build links with it.
        self.requestHeaders.removeHeader(b"daphne-root-path")
        if self.clientproto == b"HTTP/1.0":  # which has no upgrades (RFC 9110, section 7.8)
            self.requestHeaders.removeHeader(b"upgrade")
        if self.uri.startswith(b"//") and self.requestHeaders.hasHeader(b"upgrade"):
            # Autobahn would take it for a host and a path (RFC 3986, section 4.2), or fail and echo its credentials.
            self.uri = b"/." + self.uri
        transport: Any = self.transport
        channel: Any = self.channel
        self.content.seek(0, SEEK_END)  # Daphne would take the body of a handshake for frames
        processed = super().process()
        if self.transport is None and self.channel is not None:  # Daphne has turned the connection into a WebSocket
            http_connections.close(channel)
            protocol: Any = transport.wrappedProtocol if isinstance(transport, ProtocolWrapper) else transport.protocol
            # Twisted would keep data that came with the handshake for the next request.
            channel.rawDataReceived = protocol.dataReceived
            if behind_body := b"".join(channel._dataBuffer):
                protocol.dataReceived(behind_body)
        return processed

    async def drain(self, size: int) -> None:
        """Wait until the client has taken what was written of the response, see `BoundedHTTPChannel.drain`."""
        if self.channel is not None:
            await self.channel.drain(size)

    def handleContentChunk(self, data: bytes) -> None:
        if self.channel.is_rejected:
            return
        size = self.content.tell() + len(data)
        if size > self.channel.body_limit.max_bytes:
            self.channel.reject_body()
        elif size <= LARGE_BODY_BYTES or self.channel.admit_large_body():
            super().handleContentChunk(data)


http_connections = HttpConnections()


def install(new_protocol: Callable[[HTTPFactory], Any]) -> None:
    """Make Daphne use these connections and requests.

    Args:
        new_protocol: returns what serves a new TCP connection.
    """
    HTTPFactory.protocol = new_protocol
    # Twisted would parse forms, which applications do themselves; it takes a fifth of the time of a small POST.
    http_protocol.WebRequest = partial(BoundedRequest, parsePOSTFormSubmission=False)


def new_protocol(factory: HTTPFactory) -> Any:
    """Return what serves a new TCP connection: Twisted's HTTP connection, with limits."""
    return http._GenericHTTPChannelProtocol(BoundedHTTPChannel())
