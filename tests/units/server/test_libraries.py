"""The service uses internals of its libraries; if these are not as expected, it leaves the libraries alone."""

import logging

import pytest
from daphne.ws_protocol import WebSocketFactory, WebSocketProtocol

from realtime.server import libraries
from realtime.server.websocket import ServerProtocol


@pytest.fixture(autouse=True)
def _restored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(WebSocketFactory, "protocol", WebSocketProtocol)


def test_the_internals_of_the_installed_libraries_are_as_expected() -> None:
    assert libraries.missing_insides() == []
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
