"""The outlet that writes directly to the socket."""

from collections import Counter
from types import SimpleNamespace
from typing import Any

from daphne.ws_protocol import WebSocketProtocol
from twisted.internet.abstract import FileDescriptor

from realtime.fanout.backlogs import Backlogs
from realtime.protocols.frames import Message
from realtime.server.socket_outlet import SocketOutlet


def test_the_backlog_of_a_slow_client_is_complete_and_in_few_pieces() -> None:
    reactor: Any = SimpleNamespace(addWriter=lambda transport: None)  # it never writes
    transport = FileDescriptor(reactor)
    transport.connected = 1
    protocol: Any = SimpleNamespace(state=WebSocketProtocol.STATE_OPEN, transport=transport)
    outlet = SocketOutlet(protocol, Backlogs(1_000_000, 10_000_000), Counter())
    messages = [Message(str(number)) for number in range(10_000)]
    for message in messages:
        outlet.deliver(message)
    everything = b"".join(message.wire for message in messages)
    assert b"".join(transport._tempDataBuffer) == everything
    assert outlet.waiting_bytes() == len(everything)
    assert len(transport._tempDataBuffer) <= 1_000
