"""What the insides of the libraries must be like, and what happens if they are not."""

import logging
from collections import Counter
from types import SimpleNamespace
from typing import Any

import pytest
from daphne.ws_protocol import WebSocketFactory, WebSocketProtocol
from twisted.internet.abstract import FileDescriptor

from realtime import wire
from realtime.frames import Message


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


def test_what_waits_for_a_slow_client_is_kept_whole_and_in_few_pieces() -> None:
    reactor: Any = SimpleNamespace(addWriter=lambda transport: None)  # that never writes
    transport = FileDescriptor(reactor)
    transport.connected = 1
    protocol: Any = SimpleNamespace(state=WebSocketProtocol.STATE_OPEN, transport=transport)
    outlet = wire.WireOutlet(protocol, 1_000_000, Counter())
    messages = [Message(str(number)) for number in range(10_000)]
    for message in messages:
        outlet.deliver(message)
    everything = b"".join(message.wire for message in messages)
    assert b"".join(transport._tempDataBuffer) == everything
    assert outlet.waiting_bytes() == len(everything)
    assert len(transport._tempDataBuffer) <= 1_000
