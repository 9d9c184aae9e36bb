"""The service uses internals of its libraries; if these are not as expected, it leaves the libraries alone."""

import logging
from collections.abc import Callable
from typing import Any

import pytest
from autobahn.websocket.protocol import WebSocketProtocol as AutobahnProtocol
from daphne import http_protocol
from daphne.http_protocol import HTTPFactory
from daphne.ws_protocol import WebSocketFactory, WebSocketProtocol
from twisted.internet import tcp
from twisted.web import http

from realtime.server import libraries
from realtime.server.front_door import Doors, Visitor
from realtime.server.tcp_transport import TcpTransport
from realtime.server.websocket import ServerProtocol


@pytest.fixture(autouse=True)
def _restored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(WebSocketFactory, "protocol", WebSocketProtocol)
    monkeypatch.setattr(HTTPFactory, "protocol", http.HTTPFactory.protocol)
    monkeypatch.setattr(http_protocol, "WebRequest", http_protocol.WebRequest)
    monkeypatch.setattr(tcp.Port, "transport", tcp.Server)


def _nothing(*arguments: Any) -> Any: ...


DOORS = Doors(_nothing, _nothing)


def test_the_internals_of_the_installed_libraries_are_as_expected() -> None:
    assert libraries.missing_internals() == []
    assert libraries.install()
    assert WebSocketFactory.protocol is ServerProtocol


@pytest.mark.parametrize("name", ["onMessage", "sendCloseFrame", "_fail_connection", "_dataReceived"])
def test_libraries_with_other_internals_are_left_alone_with_one_warning(
    name: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(WebSocketProtocol, name, lambda self: None)
    assert not libraries.install()
    assert WebSocketFactory.protocol is WebSocketProtocol
    assert [(record.levelno, name in record.getMessage()) for record in caplog.records] == [(logging.WARNING, True)]


def test_the_front_door_opens_with_the_installed_libraries(caplog: pytest.LogCaptureFixture) -> None:
    libraries.open_front_door(DOORS)
    assert tcp.Port.transport is TcpTransport
    assert isinstance(HTTPFactory.protocol(None), Visitor)
    assert caplog.records == []


def _with_a_list(made: Callable[[Any], None]) -> Callable[[Any], None]:
    def make(self: Any) -> None:
        made(self)
        self.novelty: list[object] = []

    return make


@pytest.mark.parametrize(
    ("cls", "name", "replacement"),
    [
        (http.HTTPChannel, "requestDone", _nothing),
        (tcp.Port, "transport", None),
        (AutobahnProtocol, "_connectionMade", None),
        (AutobahnProtocol, "_connectionMade", _with_a_list(AutobahnProtocol._connectionMade)),
    ],
)
def test_with_other_internals_the_front_door_stays_shut_with_one_warning(
    cls: type, name: str, replacement: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    before = HTTPFactory.protocol
    monkeypatch.setattr(cls, name, replacement)
    libraries.open_front_door(DOORS)
    assert HTTPFactory.protocol is before
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "the front door stays shut" in caplog.records[0].getMessage()
