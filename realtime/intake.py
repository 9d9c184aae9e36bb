"""What a TCP connection may do that is no socket, or not yet: how long, how much, and how many of one peer.

Twisted bounds a request's head (16 KiB, 500 lines) and ends what is silent for a minute. It waits for ever for who
sends a byte now and then, writes bodies of any size to disk, and takes any number of connections. So a request has a
time to be complete, a body has a size, and a peer has so many connections that are no sockets. Behind proxies of ours
all come from these, which do the same and are not bounded here.
"""

import time
from collections import Counter
from functools import partial
from typing import Any

from daphne import http_protocol
from daphne.http_protocol import HTTPFactory, WebRequest
from twisted.internet import reactor
from twisted.protocols.policies import ProtocolWrapper
from twisted.web import http

from .conf import conf
from .frames import compact_json
from .turns import Taker, turns

SWEEP_SECONDS = 1.0
# How long who was refused may take to read the answer, in seconds; what they send meanwhile is dropped.
REFUSED_SECONDS = 5.0
# From what size on a body waits on disk (Twisted's constant), and how many of these may come in at once.
LARGE_BODY_BYTES = 100_000
MAX_LARGE_BODIES = 64

TOO_LARGE = "The request is larger than {} bytes; send less at a time."
BUSY = "The server takes in as many large requests as it can; try again."


class Intake:
    """The connections of this process that are no sockets. Loop thread only."""

    def __init__(self) -> None:
        self._of_peer: Counter[str] = Counter()
        # Those with a request that is not complete, and by when it must be.
        self._due: dict[Channel, float] = {}
        self._large: set[Channel] = set()
        self._is_sweeping = False

    def take(self, channel: "Channel") -> bool:
        """Count a new connection; return whether its peer may have one more."""
        peer = channel.peer
        if peer is not None and not conf().num_proxies:
            self._of_peer[peer] += 1
            if self._of_peer[peer] > conf().max_http_per_address:
                return False
        self.expect(channel, conf().request_head_seconds)
        return True

    def forget(self, channel: "Channel") -> None:
        """A connection is gone, or is a socket now."""
        self.settle(channel)
        peer, channel.peer = channel.peer, None
        if peer is not None and peer in self._of_peer:
            self._of_peer[peer] -= 1
            if not self._of_peer[peer]:
                del self._of_peer[peer]

    def expect(self, channel: "Channel", seconds: float) -> None:
        """A request must go on within so many seconds."""
        self._due[channel] = time.monotonic() + seconds
        if not self._is_sweeping:
            self._is_sweeping = True
            self._sweep_later()

    def expects(self, channel: "Channel") -> bool:
        """Whether a request is not complete."""
        return channel in self._due

    def settle(self, channel: "Channel") -> None:
        """A request is complete, or will never be."""
        self._due.pop(channel, None)
        self._large.discard(channel)

    def take_large(self, channel: "Channel") -> bool:
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


class Channel(_HTTPChannel, Taker):  # type: ignore[misc]
    """Twisted's HTTP connection, within bounds."""

    peer: str | None = None
    """Where it comes from, while it is counted there."""
    is_refused = False
    cost = 4  # to take it is to parse a request; to answer it, later, takes three times as long

    def connectionMade(self) -> None:
        super().connectionMade()
        self.peer = self.party = getattr(self.transport.getPeer(), "host", None)
        if not intake.take(self):
            self.transport.abortConnection()

    def dataReceived(self, data: bytes) -> None:
        if self.is_refused:
            return
        if self._handlingRequest:
            super().dataReceived(data)  # keeps it until the answer is sent, and is read no more if that is much
            return
        if not intake.expects(self):
            intake.expect(self, conf().request_head_seconds)
        turns.receive(self, data)

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
        elif (self.length is None or self.length > LARGE_BODY_BYTES) and not intake.take_large(self):
            self.refuse(503, b"Service Unavailable", BUSY)
        else:
            intake.expect(self, conf().request_seconds)
        super().allHeadersReceived()

    def allContentReceived(self) -> None:
        intake.settle(self)
        if not self.is_refused:
            super().allContentReceived()

    def connectionLost(self, reason: Any) -> None:
        intake.forget(self)
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
        intake.expect(self, REFUSED_SECONDS)


class Request(WebRequest):  # type: ignore[misc]
    """Daphne's request, whose body has a size also if it does not say so."""

    def process(self) -> Any:
        # Daphne would believe anybody, and applications would send people there.
        self.requestHeaders.removeHeader(b"daphne-root-path")
        transport, channel = self.transport, self.channel
        processed = super().process()
        if self.transport is None and self.channel is not None:  # Daphne has made a socket of the connection
            intake.forget(channel)
            # Twisted would keep what came with the handshake for a next request.
            protocol = transport.wrappedProtocol if isinstance(transport, ProtocolWrapper) else transport.protocol
            channel.rawDataReceived = protocol.dataReceived
        return processed

    def handleContentChunk(self, data: bytes) -> None:
        if self.content.tell() + len(data) > conf().max_request_bytes:
            self.channel.refuse(413, b"Content Too Large", TOO_LARGE.format(conf().max_request_bytes))
        else:
            super().handleContentChunk(data)


intake = Intake()


def install() -> None:
    """Have Daphne take connections in this way."""
    HTTPFactory.protocol = _new_protocol
    # Twisted would parse forms, which applications do by themselves: a fifth of the time of a small POST.
    http_protocol.WebRequest = partial(Request, parsePOSTFormSubmission=False)


def _new_protocol(factory: HTTPFactory) -> Any:
    return http._GenericHTTPChannelProtocol(Channel())
