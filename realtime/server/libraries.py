"""The internals of Daphne, Twisted and Autobahn that this service relies on.

If the installed versions lack any of them, the service logs one warning and uses plain ASGI instead.
"""

import asyncio
import inspect
import logging
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from daphne import http_protocol, server, ws_protocol
from daphne.http_protocol import HTTPFactory, WebRequest
from daphne.server import Server
from daphne.ws_protocol import WebSocketFactory, WebSocketProtocol
from twisted.internet import abstract, reactor, tcp
from twisted.web import http

from realtime.conf import conf
from realtime.server import door_socket, http_limits
from realtime.server.front_door import Doors, visitors
from realtime.server.tcp_transport import TcpTransport
from realtime.server.websocket import ServerProtocol

logger = logging.getLogger(__name__)

_daphne_handle_reply = Server.handle_reply


def missing_internals() -> list[str]:
    """Return the internals that the installed libraries lack; empty if they have all of them."""
    transport = tcp.Server.__new__(tcp.Server)
    abstract.FileDescriptor.__init__(transport)
    expectations = {
        "daphne: WebSocketFactory.protocol": getattr(WebSocketFactory, "protocol", None) is WebSocketProtocol,
        "daphne: WebSocketProtocol.onConnect(request)": _accepts(WebSocketProtocol, "onConnect", "request"),
        "autobahn: sendCloseFrame(code)": _accepts(WebSocketProtocol, "sendCloseFrame", "code"),
        "autobahn: _fail_connection(code, reason)": _accepts(WebSocketProtocol, "_fail_connection", "code", "reason"),
        "autobahn: _closeConnection(abort)": _accepts(WebSocketProtocol, "_closeConnection", "abort"),
        "autobahn: CONFIG_ATTRS": {
            *("failByDrop", "maxMessagePayloadSize", "maxFramePayloadSize", "autoPingTimeout", "closeHandshakeTimeout")
        }
        <= set(getattr(WebSocketProtocol, "CONFIG_ATTRS", ())),
        "autobahn: _connectionMade()": _accepts(WebSocketProtocol, "_connectionMade", "self"),
        "autobahn: _connectionLost(reason)": _accepts(WebSocketProtocol, "_connectionLost", "reason"),
        "autobahn: _dataReceived(data)": _accepts(WebSocketProtocol, "_dataReceived", "data"),
        "daphne: WebRequest(parsePOSTFormSubmission), inherited from Twisted": _accepts(
            http.Request, "__init__", "parsePOSTFormSubmission"
        ),
        "twisted: HTTPFactory.protocol, which creates a connection's HTTPChannel": (
            http.HTTPFactory.protocol is http._genericHTTPChannelProtocolFactory
        ),
        "twisted: HTTPChannel.allHeadersReceived() and similar methods": all(
            _accepts(http.HTTPChannel, method, "self")
            for method in ("connectionMade", "allHeadersReceived", "allContentReceived", "loseConnection")
        ),
        "twisted: HTTPChannel.checkPersistence(request, version)": _accepts(
            http.HTTPChannel, "checkPersistence", "request", "version"
        ),
        "twisted: HTTPChannel.rawDataReceived(data)": _accepts(http.HTTPChannel, "rawDataReceived", "data"),
        "twisted: HTTPChannel.lineReceived(line), with limits": (
            _accepts(http.HTTPChannel, "lineReceived", "line")
            and {"totalHeadersSize", "maxHeaders"} <= set(vars(http.HTTPChannel))
        ),
        "twisted: HTTPChannel._finishRequestBody(data), with the trailers of its decoder": (
            _accepts(http.HTTPChannel, "_finishRequestBody", "data")
            and "_trailerHeaders" in http._ChunkedTransferDecoder.__init__.__code__.co_names
        ),
        "twisted: Request.gotLength(length)": _accepts(http.Request, "gotLength", "length"),
        "twisted: HTTPChannel._respondToBadRequestAndDisconnect()": _accepts(
            http.HTTPChannel, "_respondToBadRequestAndDisconnect", "self"
        ),
        "twisted: Request.handleContentChunk(data)": _accepts(http.Request, "handleContentChunk", "data"),
        "daphne: HTTPFactory creates WebRequest": "WebRequest" in HTTPFactory.buildProtocol.__code__.co_names,
        "daphne: Server.protocol_disconnected(protocol)": _accepts(Server, "protocol_disconnected", "protocol"),
        "daphne: Server.handle_reply(protocol, message)": _accepts(Server, "handle_reply", "protocol", "message"),
        "twisted: HTTPChannel.resumeProducing(), and whether it waits for the transport": (
            _accepts(http.HTTPChannel, "resumeProducing", "self") and hasattr(http.HTTPChannel, "_waitingForTransport")
        ),
        "twisted: HTTPFactory.log(request)": _accepts(HTTPFactory, "log", "request"),
        "daphne: onMessage(payload, isBinary)": _accepts(WebSocketProtocol, "onMessage", "payload", "isBinary"),
        "twisted: the write buffer of a transport": (
            transport.dataBuffer == b""
            and transport.offset == 0
            and transport._tempDataLen == 0
            and transport._tempDataBuffer == []
        ),
    }
    return [name for name, holds in expectations.items() if not holds]


def _accepts(cls: type, method: str, *parameters: str) -> bool:
    function = getattr(cls, method, None)
    return function is not None and set(parameters) <= set(inspect.signature(function).parameters)


def install() -> bool:
    """Make Daphne use this project's connections. Return whether it does; if not, log a warning that says why."""
    if missing := missing_internals():
        logger.warning("Unknown versions of the server's libraries; using plain ASGI. Missing: %s", "; ".join(missing))
        return False
    ServerProtocol.maxMessagePayloadSize = ServerProtocol.maxFramePayloadSize = conf().max_message_bytes
    WebSocketFactory.protocol = ServerProtocol
    # Twisted would format a line for each request, although no log file is open (Daphne has its own log).
    HTTPFactory.log = _log_nothing
    Server.protocol_disconnected = _disconnected
    Server.handle_reply = _handle_reply
    # Daphne measures how long something takes with the wall clock, which an administrator or NTP may change.
    for module in (http_protocol, server, ws_protocol):
        module.time = _MonotonicTime
    http_limits.install(http_limits.new_protocol)
    return True


def open_front_door(doors: Doors) -> None:
    """Serve ordinary handshakes and publishes at the front door; if that is not possible, log a warning that says why.

    Args:
        doors: what serves them.
    """
    if not conf().front_door:
        return
    if missing := [*missing_internals_of_door(), *door_socket.learn()]:
        logger.warning(
            "Unknown versions of the server's libraries; the front door stays shut. Missing: %s", "; ".join(missing)
        )
        return
    http_limits.install(visitors(doors))
    tcp.Port.transport = TcpTransport


def missing_internals_of_door() -> list[str]:
    """Return the internals that the installed libraries lack for the front door alone; empty if they have all."""
    twisted_reactor: Any = reactor
    expectations = {
        "twisted: Port.transport": getattr(tcp.Port, "transport", None) is tcp.Server,
        "twisted: Server(sock, protocol, client, server, sessionno, reactor)": _accepts(
            tcp.Server, "__init__", "sock", "protocol", "client", "server", "sessionno", "reactor"
        ),
        "twisted: the readers of the reactor": isinstance(getattr(twisted_reactor, "_readers", None), dict)
        and hasattr(twisted_reactor, "_asyncioEventloop")
        and _accepts(type(twisted_reactor), "_readOrWrite", "selectable", "read"),
        "twisted: HTTPChannel.requestDone(request)": _accepts(http.HTTPChannel, "requestDone", "request"),
        "twisted: HTTPChannel.setTimeout(period)": _accepts(http.HTTPChannel, "setTimeout", "period"),
        "twisted: the channel of a protocol": _accepts(http._GenericHTTPChannelProtocol, "__init__", "original"),
        "daphne: Server.log_action(protocol, action, details)": _accepts(
            Server, "log_action", "protocol", "action", "details"
        ),
    }
    return [name for name, holds in expectations.items() if not holds]


def when_running(function: Callable[[], object]) -> None:
    """Call a function on the event loop as soon as Daphne runs it. With another server, it is never called."""
    reactor.callLater(0, function)  # type: ignore[arg-type]


class _MonotonicTime:
    """Stands in for the module `time` in Daphne's modules, which use nothing else of it."""

    time = staticmethod(time.monotonic)


def _disconnected(server: Any, protocol: object) -> None:
    """Record a disconnect as Daphne does, and forget the connection as soon as its application has finished.

    Daphne keeps it until it looks through all connections, once a second. With thousands of them, that and the garbage
    collection of their objects blocked the loop for 40 ms.
    """
    details = server.connections.get(protocol)
    if details is None:  # Daphne reports a handshake that was rejected twice
        return
    details.setdefault("disconnected", time.monotonic())
    application = details.get("application_instance")
    if application is not None:
        application.add_done_callback(partial(_forget, server, protocol))


async def _handle_reply(server: Any, protocol: Any, message: dict[str, Any]) -> None:
    """Send a part of a response as Daphne does, and wait until the client has taken it if there are more parts.

    Daphne itself would keep the whole response in memory if the client reads slowly.
    """
    await _daphne_handle_reply(server, protocol, message)
    if message.get("more_body"):
        await protocol.drain(len(message.get("body", b"")))


def _forget(server: Any, protocol: object, application: "asyncio.Future[None]") -> None:
    if not application.cancelled() and application.exception() is None:  # otherwise Daphne reports it
        server.connections.pop(protocol, None)


def _log_nothing(factory: HTTPFactory, request: WebRequest) -> None: ...
