"""A real Redis for each way of connecting to it, and one that answers when a test says so."""

import asyncio
import contextlib
import subprocess
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
    """Speaks enough of Redis' protocol to be published to, and answers PUBLISH only when it is told to."""

    def __init__(self) -> None:
        self.port = free_port()
        self.published: list[bytes] = []
        """The channels of all PUBLISHes, in order."""
        self.answer_to_publish = b":1\r\n"
        self._unanswered: list[asyncio.StreamWriter] = []

    def answer(self, count: int) -> None:
        """Answer so many PUBLISHes."""
        for writer in self._unanswered[:count]:
            writer.write(self.answer_to_publish)
        del self._unanswered[:count]

    @contextlib.asynccontextmanager
    async def listening(self) -> AsyncIterator[None]:
        """Serve."""
        server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        yield
        server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        commands = hiredis.Reader()
        while data := await reader.read(65536):
            commands.feed(data)
            while command := commands.gets():
                self._handle(command, writer)
        writer.close()

    def _handle(self, command: list[bytes], writer: asyncio.StreamWriter) -> None:
        if command[0] == b"PUBLISH":
            self.published.append(command[1])
            self._unanswered.append(writer)
        else:
            writer.write(b"+PONG\r\n" if command[0] == b"PING" else b"+OK\r\n")
