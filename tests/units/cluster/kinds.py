"""A real Redis for each way of connecting to it, and one that answers when a test says so."""

import asyncio
import contextlib
import subprocess
from collections import deque
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import hiredis
import redis
from redis.asyncio.connection import Connection

from tests.servers import free_port, make_certificate, need, wait_for_port

PASSWORD = "a secret: @/%"


class OddConnection(Connection):
    """A redis-py connection of a version that lacks a private name which the layer needs."""

    @property
    def _close(self) -> Any:
        raise AttributeError


@contextlib.contextmanager
def running_redis(directory: Path) -> Iterator[dict[str, dict[str, Any]]]:
    """Run a Redis; return the layer's host entries for it, by kind of connection."""
    need("redis-server", "openssl")
    port, tls_port, path = free_port(), free_port(), directory / "redis.sock"
    key, certificate = make_certificate(directory)
    options = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(directory)]
    options += ["--unixsocket", str(path), "--tls-port", str(tls_port), "--tls-auth-clients", "no"]
    options += ["--tls-key-file", str(key), "--tls-cert-file", str(certificate), "--tls-ca-cert-file", str(certificate)]
    process = subprocess.Popen(["redis-server", *options], stdout=subprocess.DEVNULL)
    wait_for_port(port, process)
    with redis.Redis(port=port) as client:
        client.execute_command("ACL", "SETUSER", "layer", "on", f">{PASSWORD}", "resetchannels", "&test*", "+@all")
    common = {"socket_timeout": 5, "socket_connect_timeout": 3, "socket_keepalive": True}
    yield {
        "tcp": {"address": f"redis://127.0.0.1:{port}/3", **common},
        "tls": {"address": f"rediss://localhost:{tls_port}", "ssl_ca_certs": str(certificate), **common},
        "unix": {"address": f"unix://{path}", **common},
        "acl": {"host": "127.0.0.1", "port": port, "username": "layer", "password": PASSWORD, **common},
        "ordinary": {"connection_class": OddConnection, "host": "127.0.0.1", "port": port, **common},
    }
    process.terminate()
    process.wait(10)


class SlowRedis:
    """Speaks enough of Redis' protocol to be used by the layer. It answers PUBLISH when it is told to, and sends
    nothing back."""

    def __init__(self) -> None:
        self.port = free_port()
        self.published: list[bytes] = []
        """The channels of all PUBLISHes, in order."""
        self.answer_to_publish = b":1\r\n"
        self.permitted: float = 0
        """How many PUBLISHes may be answered."""
        self._sessions: list[_Session] = []

    def answer(self, count: float) -> None:
        """Answer so many further PUBLISHes."""
        self.permitted += count
        for session in self._sessions:
            session.answer()

    @contextlib.asynccontextmanager
    async def listening(self) -> AsyncIterator[None]:
        """Serve."""

        def accept() -> _Session:
            self._sessions.append(_Session(self))
            return self._sessions[-1]

        server = await asyncio.get_running_loop().create_server(accept, "127.0.0.1", self.port)
        yield
        server.close()
        for session in self._sessions:
            session.close()
        await asyncio.sleep(0)  # in which they are closed


class _Session(asyncio.Protocol):
    """One connection; its answers are in order."""

    def __init__(self, server: SlowRedis) -> None:
        self._server = server
        self._commands = hiredis.Reader()
        self._unanswered: deque[list[bytes]] = deque()

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._commands.feed(data)
        while command := self._commands.gets():
            if command[0] == b"PUBLISH":
                self._server.published.append(command[1])
            self._unanswered.append(command)
        self.answer()

    def close(self) -> None:
        """Close the connection."""
        self._transport.abort()

    def answer(self) -> None:
        """Answer until a PUBLISH must wait."""
        while self._unanswered and (self._unanswered[0][0] != b"PUBLISH" or self._server.permitted):
            match self._unanswered.popleft():
                case [b"PUBLISH", *_]:
                    self._server.permitted -= 1
                    self._transport.write(self._server.answer_to_publish)
                case [b"SUBSCRIBE", *names]:
                    for name in names:
                        self._transport.write(b"*3\r\n$9\r\nsubscribe\r\n$%d\r\n%b\r\n:1\r\n" % (len(name), name))
                case [b"PING"]:
                    self._transport.write(b"+PONG\r\n")
                case _:
                    self._transport.write(b"+OK\r\n")
