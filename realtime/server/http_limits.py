"""Limits for HTTP connections: time, size, and connections per address.

Twisted limits a request's head (16 KiB, 500 lines) and closes connections that are silent for a minute. It waits
forever for a client that sends a byte now and then, writes bodies of any size to disk, and accepts any number of
connections. Here, a request must be complete within a time limit, its body has a maximum size, and an address has a
maximum number of connections that are not WebSockets.
"""

import time
from functools import partial
from typing import Any

from daphne import http_protocol
from daphne.http_protocol import HTTPFactory, WebRequest
from twisted.internet import reactor
from twisted.protocols.policies import ProtocolWrapper
from twisted.web import http

from realtime.conf import conf
from realtime.protocols.frames import compact_json
from realtime.server.addresses import address_limits
from realtime.server.bodies import body_limit
from realtime.server.fair_scheduling import SlicedConnection, scheduler

SWEEP_SECONDS = 1.0
# How long a rejected client may take to read the response, in seconds; what it still sends is discarded.
REJECTED_SECONDS = 5.0
# Larger bodies are stored on disk (Twisted's constant).
LARGE_BODY_BYTES = 100_000
# How many large bodies may be received at the same time.
MAX_LARGE_BODIES = 64

BUSY = "The server is receiving too many large requests; try again."


class HttpConnections:
    """The connections of this process that are not WebSockets. Loop thread only."""

    def __init__(self) -> None:
        # Connections with an incomplete request, and when it must be complete.
        self._deadlines: dict[BoundedHTTPChannel, float] = {}
        self._large_bodies: set[BoundedHTTPChannel] = set()
        self._is_sweeping = False

    def open(self, channel: "BoundedHTTPChannel") -> bool:
        """Count a new connection and expect a request on it; return whether its address may open another connection."""
        if channel.peer is not None and not address_limits.open_tcp(channel.peer):
            return False
        self.set_deadline(channel, conf().request_head_seconds)
        return True

    def close(self, channel: "BoundedHTTPChannel") -> None:
        """Stop counting a connection that is closed or has become a WebSocket."""
        self.finish_request(channel)
        peer, channel.peer = channel.peer, None
        if peer is not None:
            address_limits.close_tcp(peer)

    def set_deadline(self, channel: "BoundedHTTPChannel", seconds: float) -> None:
        """Close the connection unless its request makes progress within so many seconds."""
        self._deadlines[channel] = time.monotonic() + seconds
        if not self._is_sweeping:
            self._is_sweeping = True
            self._sweep_later()

    def is_receiving(self, channel: "BoundedHTTPChannel") -> bool:
        """Return whether a connection has an incomplete request."""
        return channel in self._deadlines

    def finish_request(self, channel: "BoundedHTTPChannel") -> None:
        """Cancel the deadline of a request that is complete or never will be."""
        self._deadlines.pop(channel, None)
        self._large_bodies.discard(channel)

    def admit_large_body(self, channel: "BoundedHTTPChannel") -> bool:
        """Count a request with a large body if there is room for another; return whether there is."""
        if len(self._large_bodies) >= MAX_LARGE_BODIES:
            return False
        self._large_bodies.add(channel)
        return True

    def _sweep_later(self) -> None:
        reactor.callLater(SWEEP_SECONDS, self._sweep)  # type: ignore[arg-type]

    def _sweep(self) -> None:
        now = time.monotonic()
        for channel in [channel for channel, deadline in self._deadlines.items() if deadline < now]:
            self.finish_request(channel)
            channel.transport.abortConnection()
        self._is_sweeping = bool(self._deadlines)
        if self._is_sweeping:
            self._sweep_later()


_HTTPChannel: Any = http.HTTPChannel  # without types


class BoundedHTTPChannel(_HTTPChannel, SlicedConnection):  # type: ignore[misc]
    """Twisted's HTTP connection with limits."""

    peer: str | None = None
    """The address that the connection counts for; None once it is not counted."""
    is_rejected = False
    cost = 4  # `consume` parses a request; answering it later takes three times as long

    def connectionMade(self) -> None:
        super().connectionMade()
        self.peer = self.party = getattr(self.transport.getPeer(), "host", None)
        if not http_connections.open(self):
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

    def headerReceived(self, line: bytes) -> bool:
        try:
            return bool(super().headerReceived(line))
        except ValueError:  # the Content-Length has more digits than Python converts
            self._respondToBadRequestAndDisconnect()
            return False

    def allHeadersReceived(self) -> None:
        self.body_limit = body_limit(self._path.decode("latin-1"))
        if self.length is not None and self.length > self.body_limit.max_bytes:
            self.reject_body()
        elif (self.length is None or self.length > LARGE_BODY_BYTES) and not http_connections.admit_large_body(self):
            self.reject(503, b"Service Unavailable", BUSY)
        else:
            http_connections.set_deadline(self, conf().request_seconds)
        super().allHeadersReceived()

    def allContentReceived(self) -> None:
        http_connections.finish_request(self)
        if not self.is_rejected:
            super().allContentReceived()

    def connectionLost(self, reason: Any) -> None:
        http_connections.close(self)
        self.unconsumed = b""
        super().connectionLost(reason)

    def reject_body(self) -> None:
        """Reject a request whose body is too large, see `reject`."""
        self.reject(413, b"Content Too Large", self.body_limit.sentence, self.body_limit.error_member)

    def reject(self, status: int, phrase: bytes, sentence: str, member: str = "error") -> None:
        """Answer an incomplete request with an error, and close the connection later.

        Closing it immediately could lose the response.
        """
        if self.is_rejected:
            return
        self.is_rejected = True
        body = compact_json({member: sentence}).encode()
        head = b"HTTP/1.1 %d %b\r\nContent-Type: application/json\r\nContent-Length: %d\r\nConnection: close\r\n\r\n"
        self.transport.write(head % (status, phrase, len(body)) + body)
        http_connections.set_deadline(self, REJECTED_SECONDS)


class BoundedRequest(WebRequest):  # type: ignore[misc]
    """Daphne's request, with a limit for bodies that do not announce their size."""

    def process(self) -> Any:
        # Daphne would trust this header from any client, and applications would build links with it.
        self.requestHeaders.removeHeader(b"daphne-root-path")
        transport, channel = self.transport, self.channel
        processed = super().process()
        if self.transport is None and self.channel is not None:  # Daphne has turned the connection into a WebSocket
            http_connections.close(channel)
            # Twisted would keep data that came with the handshake for the next request.
            protocol = transport.wrappedProtocol if isinstance(transport, ProtocolWrapper) else transport.protocol
            channel.rawDataReceived = protocol.dataReceived
        return processed

    def handleContentChunk(self, data: bytes) -> None:
        if self.content.tell() + len(data) > self.channel.body_limit.max_bytes:
            self.channel.reject_body()
        else:
            super().handleContentChunk(data)


http_connections = HttpConnections()


def install() -> None:
    """Make Daphne use these connections and requests."""
    HTTPFactory.protocol = _new_protocol
    # Twisted would parse forms, which applications do themselves; it takes a fifth of the time of a small POST.
    http_protocol.WebRequest = partial(BoundedRequest, parsePOSTFormSubmission=False)


def _new_protocol(factory: HTTPFactory) -> Any:
    return http._GenericHTTPChannelProtocol(BoundedHTTPChannel())
