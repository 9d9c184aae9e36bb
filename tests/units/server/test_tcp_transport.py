"""A connection that is paused receives nothing until it is resumed, and costs no system call if nothing arrives."""

import asyncio
import socket
from collections.abc import Iterator

import pytest

from realtime.server.tcp_transport import TcpTransport


class Reactor:
    """The part of Twisted's reactor that a transport uses. It counts the changes of what the selector watches."""

    def __init__(self) -> None:
        self.changes = 0
        self._asyncioEventloop = self
        self._readers: dict[TcpTransport, int] = {}

    def add_reader(self, fd: int, *callback: object) -> None:
        self.changes += 1
        asyncio.get_running_loop().add_reader(fd, *callback)  # type: ignore[arg-type]

    def removeReader(self, transport: TcpTransport) -> None:
        self.changes += 1
        asyncio.get_running_loop().remove_reader(self._readers.pop(transport))

    def _readOrWrite(self, transport: TcpTransport, is_read: bool) -> None:
        assert is_read
        transport.doRead()


class Protocol:
    def __init__(self) -> None:
        self.received = b""

    def dataReceived(self, data: bytes) -> None:
        self.received += data


@pytest.fixture
def sockets() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    with ours, theirs:
        yield ours, theirs


async def test_a_pause_without_data_does_not_change_what_the_selector_watches(
    sockets: tuple[socket.socket, socket.socket],
) -> None:
    reactor = Reactor()
    transport = TcpTransport(sockets[0], Protocol(), ("127.0.0.1", 1), None, 0, reactor)
    for _ in range(3):
        transport.pauseProducing()
        await asyncio.sleep(0.01)
        transport.resumeProducing()
    assert reactor.changes == 1
    transport.stopReading()


async def test_what_arrives_during_a_pause_is_received_after_it(sockets: tuple[socket.socket, socket.socket]) -> None:
    reactor, protocol = Reactor(), Protocol()
    transport = TcpTransport(sockets[0], protocol, ("127.0.0.1", 1), None, 0, reactor)
    transport.pauseProducing()
    sockets[1].send(b"later")
    await asyncio.sleep(0.05)
    assert (protocol.received, reactor.changes) == (b"", 2)  # watched no longer, or the loop would not rest
    transport.resumeProducing()
    await asyncio.sleep(0.05)
    assert protocol.received == b"later"
    transport.stopReading()
