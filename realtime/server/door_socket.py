"""WebSockets whose handshake the front door has read: the connections of `server.websocket`, at less cost.

Autobahn sets some forty attributes on each new connection, nearly all of them to the same values, and keeps a timer and
two futures for its handshake. Here the values are attributes of the class, learned once from a connection of Autobahn.
"""

import base64
import hashlib
import time
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

from autobahn.websocket.protocol import WebSocketProtocol as AutobahnProtocol
from daphne.ws_protocol import WebSocketFactory
from twisted.internet import reactor, tcp
from twisted.internet.protocol import connectionDone

from realtime.server.fair_scheduling import nothing, scheduler
from realtime.server.websocket import ServerProtocol

_MAGIC = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455, section 1.3
_RESPONSE = (
    b"HTTP/1.1 101 Switching Protocols\r\n%bUpgrade: WebSocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Accept: %b\r\n\r\n"
)
# How often silent clients are looked for, in seconds, as Daphne does for its own connections.
_CHECK_SECONDS = 2.0
# Attributes of Autobahn's connections that a connection of ours makes when it needs them, or never.
_NOT_LEARNED = {
    *("factory", "utf8validator", "is_closed", "is_open", "trafficStats", "send_queue", "openHandshakeTimeoutCall"),
    *("_transport_details", "_valid_events", "_results"),
}


class _Future:
    """Stands in for the futures of a connection, for which nothing waits."""

    def callback(self, result: object) -> None: ...


class DoorSocket(ServerProtocol):
    """A WebSocket that came through the front door."""

    is_closed = is_open = _Future()
    openHandshakeTimeoutCall = None
    trafficStats: Any = None  # of all together; nothing reads it
    # As they are after a handshake:
    request = ()
    websocket_version = 13

    _new_validator: Callable[[], Any]
    _on_lost: Callable[[], object] = staticmethod(nothing)
    _is_lost = False

    def __init__(self, server: Any, path: str, client: Sequence[Any] | None, key: bytes) -> None:
        """
        Args:
            server: Daphne's server.
            path: the path of the handshake.
            client: the client's host and port; None if they are unknown.
            key: the `Sec-WebSocket-Key` of the handshake.
        """
        # Autobahn's own initialization is left out, see above.
        self.server = server
        self.factory = server.ws_factory
        self._path = path
        self._client = client
        self._key = key

    @cached_property
    def utf8validator(self) -> Any:
        return self._new_validator()

    def connectionMade(self) -> None:
        if not hasattr(type(self), "autoPingTimeout"):
            self._copy_options()
        self._opened_at = self._heard_at = time.monotonic()
        _sockets.add(self)
        self._log("connecting")

    async def accept(self) -> None:
        """Complete the handshake, if the client is still there."""
        if self._state != self.STATE_CONNECTING:
            return
        server = self.factory.server
        accepted = base64.b64encode(hashlib.sha1(self._key + _MAGIC, usedforsecurity=False).digest())
        self.sendData(_RESPONSE % (b"Server: %b\r\n" % server.encode() if server else b"", accepted))
        del self._key
        self.state = self.STATE_OPEN
        self._log("connected")
        if self.unconsumed:
            scheduler.enqueue(self)

    def connectionLost(self, reason: Any = connectionDone) -> None:
        if isinstance(self.transport, tcp.Connection):
            self._connectionLost(reason)  # what Twisted's adapter does besides is to format lines for a debug log
        else:
            super().connectionLost(reason)

    def _connectionLost(self, reason: Any) -> None:
        AutobahnProtocol._connectionLost(self, reason)
        self.data = b""

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        if self.sink is not None:
            super().onMessage(payload, isBinary)

    def onClose(self, wasClean: bool, code: int, reason: str) -> None:
        _sockets.discard(self)
        self._log("disconnected")
        self._is_lost = True
        on_lost, self._on_lost = self._on_lost, nothing  # a cycle that garbage collection would have to find
        on_lost()

    def when_lost(self, function: Callable[[], object]) -> None:
        """Have a function called when the connection has ended; immediately, if it has."""
        if self._is_lost:
            function()
        else:
            self._on_lost = function

    def check_timeouts(self) -> None:
        if self._state == self.STATE_CONNECTING:
            if time.monotonic() - self._opened_at > self.server.websocket_connect_timeout:
                self.dropConnection(abort=True)
        else:
            super().check_timeouts()

    def _log(self, action: str) -> None:
        if self.server.action_logger:
            client = "{}:{}".format(*self._client) if self._client else None
            self.server.log_action("websocket", action, {"path": self._path, "client": client})


class _Sockets(set[DoorSocket]):
    """The open connections, which are looked at now and then."""

    _is_checking = False

    def add(self, socket: DoorSocket) -> None:
        super().add(socket)
        if not self._is_checking:
            self._is_checking = True
            self._check_later()

    def _check_later(self) -> None:
        reactor.callLater(_CHECK_SECONDS, self._check)  # type: ignore[arg-type]

    def _check(self) -> None:
        for socket in list(self):
            socket.check_timeouts()
        self._is_checking = bool(self)
        if self._is_checking:
            self._check_later()


_sockets = _Sockets()


def learn() -> list[str]:
    """Learn the attributes that Autobahn gives to each of its connections.

    Returns:
        What it gives them that is not known; if that is anything, the door must stay shut.
    """

    class Example(ServerProtocol): ...

    try:
        example = Example()
        example.factory = WebSocketFactory(None)
        example._copy_options()
        example._connectionMade()
        example.openHandshakeTimeoutCall.cancel()
        DoorSocket.trafficStats = example.trafficStats
        DoorSocket._new_validator = type(example.utf8validator)
    except Exception as error:
        return [f"autobahn: a new connection ({error!r})"]
    learned = {name: value for name, value in vars(example).items() if name not in _NOT_LEARNED}
    for name, value in learned.items():
        if name not in vars(DoorSocket):
            setattr(DoorSocket, name, value)
    return [
        f"autobahn: the initial {name} of a connection"
        for name, value in learned.items()
        if value is not None and not isinstance(value, bool | int | bytes)
    ]
