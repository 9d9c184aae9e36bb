"""Clients that can send arbitrary bytes."""

import contextlib
import socket
import struct
import time
from collections.abc import Callable

from realtime.server.http_limits import REJECTED_SECONDS
from tests.conformance.test_short_paths import CLOSE, FIN, TEXT, frame, split
from tests.servers import LiveServer
from tests.sockets.test_refusals import GOOD_HANDSHAKE, handshake

PING = frame(FIN | TEXT, b"cmd_ping")
PONG = b'{"system":"pong"}'
# The server ends a refused connection at the latest after REJECTED_SECONDS; this is sooner.
PROMPT_SECONDS = REJECTED_SECONDS - 0.5


class Raw:
    """A client that can send arbitrary bytes."""

    def __init__(self, server: LiveServer, path: str, *lines: str, receive_buffer: int = 0) -> None:
        self.socket = socket.socket()
        if receive_buffer:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.settimeout(20)
        self.socket.connect(("127.0.0.1", server.port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.sendall(handshake(path, *GOOD_HANDSHAKE, *lines))
        self.answer = b""
        while not self.answer.endswith(b"\r\n\r\n"):
            self.answer += self.socket.recv(1)

    def send(self, data: bytes) -> None:
        """Send as much as the server takes before it ends the connection."""
        with contextlib.suppress(ConnectionError):
            self.socket.sendall(data)

    def ending(self) -> tuple[list[str], int]:
        """Return the texts that still arrive and the close code, or 1006 if there is no close frame."""
        received = b""
        with contextlib.suppress(ConnectionResetError):
            while chunk := self.socket.recv(1 << 20):
                received += chunk
        data, control = split(received)
        codes = [struct.unpack("!H", payload[:2])[0] for opcode, payload in control if opcode == CLOSE]
        return [payload.decode() for opcode, payload in data if opcode == TEXT], codes[0] if codes else 1006

    def ask(self, command: bytes) -> bytes:
        """Send a command and return the payload of the answer, which must be short."""
        self.send(frame(FIN | TEXT, command))
        return self.socket.recv(100)[2:]

    def answers(self) -> bool:
        """Return whether the server still answers this client."""
        return self.ask(b"cmd_ping") == b'{"system":"pong"}'


Open = Callable[..., Raw]


def open_socket(server: LiveServer) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", server.port), timeout=10)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def read_until(connection: socket.socket, expected: bytes) -> bytes:
    received = b""
    while expected not in received:
        chunk = connection.recv(65_536)
        assert chunk, f"the server closed the connection after {received!r}"
        received += chunk
    return received


def exchange(server: LiveServer, request: bytes) -> tuple[bytes, float]:
    """Send bytes; return what the server sends until it ends the connection, and how long that takes in seconds."""
    begun = time.monotonic()
    with open_socket(server) as connection:
        connection.sendall(request)
        received = b""
        with contextlib.suppress(ConnectionResetError):
            while chunk := connection.recv(65_536):
                received += chunk
    return received, time.monotonic() - begun
