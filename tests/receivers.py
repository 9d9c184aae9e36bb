"""Receivers of webhooks: HTTP servers that keep what they get, and answer as a test wants."""

import contextlib
import json
import socketserver
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple, Self


class Received(NamedTuple):
    """A request."""

    path: str
    headers: dict[str, str]
    """By name in lower case."""
    body: bytes

    @property
    def events(self) -> list[dict[str, Any]]:
        events: list[dict[str, Any]] = json.loads(self.body)["events"]
        return events

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]


class Reply(NamedTuple):
    """An answer."""

    status: int = 200
    body: bytes = b"taken"
    headers: tuple[tuple[str, str], ...] = ()
    seconds: float = 0.0
    """How long to wait before it."""


class Receiver:
    """A server on 127.0.0.1.

    Args:
        reply: returns the answer to each request; by default, all are taken.
    """

    def __init__(self, reply: Callable[[Received], Reply] = lambda _: Reply()) -> None:
        self.reply = reply
        self.requests: list[Received] = []
        self.connections = 0
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            timeout = 30

            def do_POST(self) -> None:
                length = int(self.headers["content-length"])
                body = self.rfile.read(length)
                if len(body) < length:
                    return  # the sender has died
                got = Received(self.path, {name.lower(): value for name, value in self.headers.items()}, body)
                receiver.requests.append(got)
                reply = receiver.reply(got)
                time.sleep(reply.seconds)
                self.send_response(reply.status)
                for name, value in reply.headers:
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(reply.body)))
                self.end_headers()
                self.wfile.write(reply.body)

            def log_message(self, format: str, *args: Any) -> None:
                pass

            def handle(self) -> None:
                receiver.connections += 1
                with contextlib.suppress(OSError):  # the sender has given up
                    super().handle()

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 128

        self._server = Server(("127.0.0.1", 0), Handler)
        self.port = self._server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}/hook"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


@contextlib.contextmanager
def raw_receiver(answer: bytes, *, is_endless: bool = False) -> Iterator[str]:
    """Run a server that answers each request with the same bytes, or with them again and again. Yield its URL."""

    class Handler(socketserver.StreamRequestHandler):
        timeout = 30

        def handle(self) -> None:
            with contextlib.suppress(OSError):
                while head := self._head():
                    name = b"content-length:"
                    lengths = [line[len(name) :] for line in head.splitlines() if line.lower().startswith(name)]
                    self.rfile.read(int(lengths[0]))
                    self.wfile.write(answer)
                    while is_endless:
                        self.wfile.write(answer)

        def _head(self) -> bytes:
            """Return the lines before the body; empty at the end of the connection."""
            lines = []
            while (line := self.rfile.readline()) not in (b"\r\n", b""):
                lines.append(line)
            return b"".join(lines)

    # At its end, it waits for the threads of all connections, so that none goes on beside later tests.
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}/hook"
        server.shutdown()
