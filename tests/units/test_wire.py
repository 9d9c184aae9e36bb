"""What the insides of the libraries must be like, and what happens if they are not."""

import logging

import pytest
from daphne.ws_protocol import WebSocketFactory, WebSocketProtocol

from realtime import wire


@pytest.fixture(autouse=True)
def _restored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(WebSocketFactory, "protocol", WebSocketProtocol)


def test_the_installed_libraries_are_as_expected() -> None:
    assert wire.missing_insides() == []
    assert wire.install()
    assert WebSocketFactory.protocol is wire.ServerProtocol


@pytest.mark.parametrize("name", ["onMessage", "sendCloseFrame", "_fail_connection", "_dataReceived"])
def test_others_are_left_alone_with_one_warning(
    name: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(WebSocketProtocol, name, lambda self: None)
    assert not wire.install()
    assert WebSocketFactory.protocol is WebSocketProtocol
    assert [(record.levelno, name in record.getMessage()) for record in caplog.records] == [(logging.WARNING, True)]


@pytest.mark.parametrize("length", [0, 1, 3, 4, 5, 125, 126, 65_536])
def test_unmasking_is_what_the_rfc_says(length: int) -> None:
    mask, payload = b"\x37\xfa\x21\x3d", bytes(index % 251 for index in range(length))
    masked = bytes(byte ^ mask[index % 4] for index, byte in enumerate(payload))
    assert wire._unmask(mask, masked) == payload
