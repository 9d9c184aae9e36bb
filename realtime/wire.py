"""The insides of Daphne, Twisted and Autobahn, and what this service needs of them that ASGI cannot say.

ASGI on Daphne loses empty messages, cannot close with 1012, and says nothing of what waits for a slow client. So a
connection's messages are written as frames to the socket itself where that is possible. If the libraries are not as
this module knows them, it says so once and steps aside: everything then goes the ordinary way, by ASGI.
"""

import asyncio
import inspect
import logging
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from autobahn.websocket.types import ConnectionDeny
from daphne.ws_protocol import WebSocketFactory, WebSocketProtocol
from twisted.internet import abstract, defer, reactor, tcp

from .closes import NOT_UTF8, TOO_BIG, TOO_SLOW, Close
from .conf import conf
from .frames import Batch, error_message
from .outlets import Send

logger = logging.getLogger(__name__)

# How long a client that was given up for reading too slowly may take to read what waits and the close frame behind it.
SLOW_CLOSE_SECONDS = 10
_OPEN = WebSocketProtocol.STATE_OPEN
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
        "autobahn: CONFIG_ATTRS": {"failByDrop", "maxMessagePayloadSize", "maxFramePayloadSize"}
        <= set(getattr(WebSocketProtocol, "CONFIG_ATTRS", ())),
        "twisted: the write buffer of a transport": (
            transport.dataBuffer == b"" and transport.offset == 0 and transport._tempDataLen == 0
        ),
    }
    return [name for name, holds in expectations.items() if not holds]


def _takes(cls: type, method: str, *parameters: str) -> bool:
    function = getattr(cls, method, None)
    return function is not None and set(parameters) <= set(inspect.signature(function).parameters)


class ServerProtocol(WebSocketProtocol):  # type: ignore[misc]
    """Daphne's connection, which ends with the frames and codes that the wire contract promises."""

    # Class attributes of these names take the place of the options that Autobahn copies into each connection.
    failByDrop = False  # 1007 and 1009 are told with a close frame, not by cutting TCP
    maxMessagePayloadSize = 0
    maxFramePayloadSize = 0

    def onConnect(self, request: Any) -> Any:
        # Daphne would close every connection after 24 hours.
        self.factory.server_class.websocket_timeout = -1
        if not request.headers.get("sec-websocket-protocol", "").isascii():
            # Daphne would fail to decode it, with a traceback and a 500.
            raise ConnectionDeny(400, "Sec-WebSocket-Protocol must be ASCII")  # type: ignore[no-untyped-call]
        return super().onConnect(request)

    def _fail_connection(self, code: int = 1001, reason: str = "going away") -> None:
        for close in (NOT_UTF8, TOO_BIG):
            if code == close.code and close.sentence is not None and self.state == _OPEN:
                self.transport.write(error_message(close.sentence).frame)
        super()._fail_connection(code, reason)


class WireOutlet:
    """An Outlet that writes frames to the transport of a Daphne connection.

    While nothing waits, it writes straight to the socket, and only what the kernel does not take goes to Twisted, whose
    way of buffering and polling costs several times as much. TLS has no socket to write to and goes to Twisted always.
    """

    __slots__ = ("_max_backlog_bytes", "_protocol", "_socket", "_tcp", "_transport")

    def __init__(self, protocol: ServerProtocol, max_backlog_bytes: int) -> None:
        self._protocol = protocol
        self._max_backlog_bytes = max_backlog_bytes
        self._transport = transport = protocol.transport
        self._socket = transport.socket if isinstance(transport, tcp.Connection) else None
        while hasattr(transport, "wrappedProtocol"):
            transport = transport.transport
        self._tcp = transport

    def deliver(self, batch: Batch) -> None:
        if self._protocol.state != _OPEN:
            return
        data = batch.wire
        tcp = self._tcp
        waiting = len(tcp.dataBuffer) - tcp.offset + tcp._tempDataLen
        if waiting > self._max_backlog_bytes:
            self._protocol.closeHandshakeTimeout = SLOW_CLOSE_SECONDS
            self.close(TOO_SLOW)
        elif waiting or self._socket is None:
            self._transport.write(data)
        else:
            try:
                sent = self._socket.send(data)
            except (BlockingIOError, InterruptedError):
                sent = 0
            except OSError:
                return  # the transport finds out by itself, and the consumer with it
            if sent < len(data):
                self._transport.write(data[sent:])

    def close(self, close: Close) -> None:
        if self._protocol.state != _OPEN:
            return
        if close.sentence is not None:
            self._transport.write(error_message(close.sentence).frame)
        self._protocol.sendCloseFrame(code=close.code)

    def stop(self) -> None:
        pass  # Daphne owns the transport

    @property
    def is_gone(self) -> bool:
        return bool(self._protocol.state == _CLOSED)


def outlet_for(send: Send, max_backlog_bytes: int) -> WireOutlet | None:
    """The outlet to the Daphne connection behind an ASGI `send`; None if there is none, or not one of ours."""
    protocol = send.args[0] if isinstance(send, partial) and send.args else None
    return WireOutlet(protocol, max_backlog_bytes) if isinstance(protocol, ServerProtocol) else None


def before_shutdown(drain: Callable[[], Awaitable[None]]) -> None:
    """Have Daphne's reactor call `drain` when it is told to stop, and wait for what it returns.

    The call itself is made before Daphne's cancellation of all applications takes effect.
    """

    def start() -> defer.Deferred[None]:
        return defer.Deferred.fromFuture(asyncio.ensure_future(drain()))

    reactor.addSystemEventTrigger("before", "shutdown", start)  # type: ignore[arg-type]


def install() -> bool:
    """Have Daphne use ServerProtocol. Return whether it does; if not, one warning has said why."""
    if missing := missing_insides():
        logger.warning("Unknown versions of the server's libraries; using ASGI alone. Missing: %s", "; ".join(missing))
        return False
    ServerProtocol.maxMessagePayloadSize = ServerProtocol.maxFramePayloadSize = conf().max_message_bytes
    WebSocketFactory.protocol = ServerProtocol
    return True
