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
from realtime.server.fair_scheduling import SlicedConnection, scheduler

SWEEP_SECONDS = 1.0
# How long who was refused may take to read the answer, in seconds; what they send meanwhile is dropped.
REFUSED_SECONDS = 5.0
# From what size on a body waits on disk (Twisted's constant), and how many of these may come in at once.
LARGE_BODY_BYTES = 100_000
MAX_LARGE_BODIES = 64

TOO_LARGE = "The request is larger than {} bytes; send less at a time."
BUSY = "The server takes in as many large requests as it can; try again."


class HttpConnections:
    """The connections of this process that are not WebSockets. Loop thread only."""

    def __init__(self) -> None:
        # Those with a request that is not complete, and by when it must be.
        self._due: dict[BoundedHTTPChannel, float] = {}
        self._large: set[BoundedHTTPChannel] = set()
        self._is_sweeping = False

    def take(self, channel: "BoundedHTTPChannel") -> bool:
        """Count a new connection; return whether its peer may have one more."""
        if channel.peer is not None and not address_limits.open_tcp(channel.peer):
            return False
        self.expect(channel, conf().request_head_seconds)
        return True

    def forget(self, channel: "BoundedHTTPChannel") -> None:
        """A connection is gone, or is a socket now."""
        self.settle(channel)
        peer, channel.peer = channel.peer, None
        if peer is not None:
            address_limits.close_tcp(peer)

    def expect(self, channel: "BoundedHTTPChannel", seconds: float) -> None:
        """A request must go on within so many seconds."""
        self._due[channel] = time.monotonic() + seconds
        if not self._is_sweeping:
            self._is_sweeping = True
            self._sweep_later()

    def expects(self, channel: "BoundedHTTPChannel") -> bool:
        """Whether a request is not complete."""
        return channel in self._due

    def settle(self, channel: "BoundedHTTPChannel") -> None:
        """A request is complete, or will never be."""
        self._due.pop(channel, None)
        self._large.discard(channel)

    def take_large(self, channel: "BoundedHTTPChannel") -> bool:
        """Whether one more large body may come in."""
        if len(self._large) >= MAX_LARGE_BODIES:
            return False
        self._large.add(channel)
        return True

    def _sweep_later(self) -> None:
        reactor.callLater(SWEEP_SECONDS, self._sweep)  # type: ignore[arg-type]

    def _sweep(self) -> None:
        now = time.monotonic()
        for channel in [channel for channel, due in self._due.items() if due < now]:
            self.settle(channel)
            channel.transport.abortConnection()
        self._is_sweeping = bool(self._due)
        if self._is_sweeping:
            self._sweep_later()


_HTTPChannel: Any = http.HTTPChannel  # without types


class BoundedHTTPChannel(_HTTPChannel, SlicedConnection):  # type: ignore[misc]
    """Twisted's HTTP connection, within bounds."""

    peer: str | None = None
    """Where it comes from, while it is counted there."""
    is_refused = False
    cost = 4  # to take it is to parse a request; to answer it, later, takes three times as long

    def connectionMade(self) -> None:
        super().connectionMade()
        self.peer = self.party = getattr(self.transport.getPeer(), "host", None)
        if not http_connections.take(self):
            self.transport.abortConnection()

    def dataReceived(self, data: bytes) -> None:
        if self.is_refused:
            return
        if self._handlingRequest:
            super().dataReceived(data)  # keeps it until the answer is sent, and is read no more if that is much
            return
        if not http_connections.expects(self):
            http_connections.expect(self, conf().request_head_seconds)
        scheduler.receive(self, data)

    def take(self, data: bytes, position: int, until: float) -> int:
        super().dataReceived(data)
        return len(data)

    def headerReceived(self, line: bytes) -> bool:
        try:
            return bool(super().headerReceived(line))
        except ValueError:  # of a Content-Length that has more digits than Python reads
            self._respondToBadRequestAndDisconnect()
            return False

    def allHeadersReceived(self) -> None:
        limit = conf().max_request_bytes
        if self.length is not None and self.length > limit:
            self.refuse(413, b"Content Too Large", TOO_LARGE.format(limit))
        elif (self.length is None or self.length > LARGE_BODY_BYTES) and not http_connections.take_large(self):
            self.refuse(503, b"Service Unavailable", BUSY)
        else:
            http_connections.expect(self, conf().request_seconds)
        super().allHeadersReceived()

    def allContentReceived(self) -> None:
        http_connections.settle(self)
        if not self.is_refused:
            super().allContentReceived()

    def connectionLost(self, reason: Any) -> None:
        http_connections.forget(self)
        self.untaken = b""
        super().connectionLost(reason)

    def refuse(self, status: int, phrase: bytes, sentence: str) -> None:
        """Answer a request before it is complete, and end the connection: later, or the answer could be lost."""
        if self.is_refused:
            return
        self.is_refused = True
        body = compact_json({"error": sentence}).encode()
        head = b"HTTP/1.1 %d %b\r\nContent-Type: application/json\r\nContent-Length: %d\r\nConnection: close\r\n\r\n"
        self.transport.write(head % (status, phrase, len(body)) + body)
        http_connections.expect(self, REFUSED_SECONDS)


class BoundedRequest(WebRequest):  # type: ignore[misc]
    """Daphne's request, whose body has a size also if it does not say so."""

    def process(self) -> Any:
        # Daphne would believe anybody, and applications would send people there.
        self.requestHeaders.removeHeader(b"daphne-root-path")
        transport, channel = self.transport, self.channel
        processed = super().process()
        if self.transport is None and self.channel is not None:  # Daphne has made a socket of the connection
            http_connections.forget(channel)
            # Twisted would keep what came with the handshake for a next request.
            protocol = transport.wrappedProtocol if isinstance(transport, ProtocolWrapper) else transport.protocol
            channel.rawDataReceived = protocol.dataReceived
        return processed

    def handleContentChunk(self, data: bytes) -> None:
        if self.content.tell() + len(data) > conf().max_request_bytes:
            self.channel.refuse(413, b"Content Too Large", TOO_LARGE.format(conf().max_request_bytes))
        else:
            super().handleContentChunk(data)


http_connections = HttpConnections()


def install() -> None:
    """Have Daphne use these connections and requests."""
    HTTPFactory.protocol = _new_protocol
    # Twisted would parse forms, which applications do by themselves: a fifth of the time of a small POST.
    http_protocol.WebRequest = partial(BoundedRequest, parsePOSTFormSubmission=False)


def _new_protocol(factory: HTTPFactory) -> Any:
    return http._GenericHTTPChannelProtocol(BoundedHTTPChannel())
