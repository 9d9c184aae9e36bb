"""The insides of Daphne, Twisted and Autobahn that this service relies on.

With versions of these libraries that lack them, one warning says so, and everything goes through ASGI instead.
"""

import asyncio
import inspect
import logging
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from daphne.http_protocol import HTTPFactory, WebRequest
from daphne.server import Server
from daphne.ws_protocol import WebSocketFactory, WebSocketProtocol
from twisted.internet import abstract, reactor, tcp
from twisted.web import http

from realtime.conf import conf
from realtime.server import http_connections
from realtime.server.websocket import ServerProtocol

logger = logging.getLogger(__name__)


def missing_insides() -> list[str]:
    """What this module relies on and the installed libraries do not have; empty if all is well."""
    transport = tcp.Server.__new__(tcp.Server)
    abstract.FileDescriptor.__init__(transport)
    expectations = {
        "daphne: WebSocketFactory.protocol": getattr(WebSocketFactory, "protocol", None) is WebSocketProtocol,
        "daphne: WebSocketProtocol.onConnect(request)": _takes(WebSocketProtocol, "onConnect", "request"),
        "autobahn: sendCloseFrame(code)": _takes(WebSocketProtocol, "sendCloseFrame", "code"),
        "autobahn: _fail_connection(code, reason)": _takes(WebSocketProtocol, "_fail_connection", "code", "reason"),
        "autobahn: _closeConnection(abort)": _takes(WebSocketProtocol, "_closeConnection", "abort"),
        "autobahn: CONFIG_ATTRS": {
            *("failByDrop", "maxMessagePayloadSize", "maxFramePayloadSize", "autoPingTimeout", "closeHandshakeTimeout")
        }
        <= set(getattr(WebSocketProtocol, "CONFIG_ATTRS", ())),
        "autobahn: _connectionMade()": _takes(WebSocketProtocol, "_connectionMade", "self"),
        "autobahn: _connectionLost(reason)": _takes(WebSocketProtocol, "_connectionLost", "reason"),
        "autobahn: _dataReceived(data)": _takes(WebSocketProtocol, "_dataReceived", "data"),
        "daphne: WebRequest(parsePOSTFormSubmission), as Twisted has it": _takes(
            http.Request, "__init__", "parsePOSTFormSubmission"
        ),
        "twisted: HTTPFactory.protocol, which makes a connection's HTTPChannel": (
            http.HTTPFactory.protocol is http._genericHTTPChannelProtocolFactory
        ),
        "twisted: HTTPChannel.allHeadersReceived() and its like": all(
            _takes(http.HTTPChannel, method, "self")
            for method in ("connectionMade", "allHeadersReceived", "allContentReceived", "loseConnection")
        ),
        "twisted: HTTPChannel.rawDataReceived(data)": _takes(http.HTTPChannel, "rawDataReceived", "data"),
        "twisted: HTTPChannel.headerReceived(line)": _takes(http.HTTPChannel, "headerReceived", "line"),
        "twisted: HTTPChannel._respondToBadRequestAndDisconnect()": _takes(
            http.HTTPChannel, "_respondToBadRequestAndDisconnect", "self"
        ),
        "twisted: Request.handleContentChunk(data)": _takes(http.Request, "handleContentChunk", "data"),
        "daphne: HTTPFactory makes WebRequest": "WebRequest" in HTTPFactory.buildProtocol.__code__.co_names,
        "daphne: Server.protocol_disconnected(protocol)": _takes(Server, "protocol_disconnected", "protocol"),
        "twisted: HTTPFactory.log(request)": _takes(HTTPFactory, "log", "request"),
        "daphne: onMessage(payload, isBinary)": _takes(WebSocketProtocol, "onMessage", "payload", "isBinary"),
        "twisted: the write buffer of a transport": (
            transport.dataBuffer == b""
            and transport.offset == 0
            and transport._tempDataLen == 0
            and transport._tempDataBuffer == []
        ),
    }
    return [name for name, holds in expectations.items() if not holds]


def _takes(cls: type, method: str, *parameters: str) -> bool:
    function = getattr(cls, method, None)
    return function is not None and set(parameters) <= set(inspect.signature(function).parameters)


def install() -> bool:
    """Have Daphne use this project's connections. Return whether it does; if not, one warning says why."""
    if missing := missing_insides():
        logger.warning("Unknown versions of the server's libraries; using ASGI alone. Missing: %s", "; ".join(missing))
        return False
    ServerProtocol.maxMessagePayloadSize = ServerProtocol.maxFramePayloadSize = conf().max_message_bytes
    WebSocketFactory.protocol = ServerProtocol
    # Twisted would format a line a request for a log that nobody opened (Daphne has its own).
    HTTPFactory.log = _log_nothing
    Server.protocol_disconnected = _disconnected
    http_connections.install()
    return True


def when_running(function: Callable[[], object]) -> None:
    """Call a function in the event loop as soon as Daphne's runs. With another server it is never called."""
    reactor.callLater(0, function)  # type: ignore[arg-type]


def _disconnected(server: Any, protocol: object) -> None:
    """Do as Daphne does, and forget a request when it is done.

    Daphne keeps them until it looks through all once a second. Of thousands, that and Python's search for garbage among
    them kept everybody waiting for 40 ms.
    """
    details = server.connections[protocol]
    details.setdefault("disconnected", time.time())
    application = details.get("application_instance")
    if application is not None:
        application.add_done_callback(partial(_forget, server, protocol))


def _forget(server: Any, protocol: object, application: "asyncio.Future[None]") -> None:
    if not application.cancelled() and application.exception() is None:  # else Daphne tells of it
        server.connections.pop(protocol, None)


def _log_nothing(factory: HTTPFactory, request: WebRequest) -> None: ...
