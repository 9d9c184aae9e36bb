"""A page that watches a cluster live, without a browser."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from tests.clients import until
from tests.servers import LiveServer

KINDS = ["connect", "refusal", "subscription", "message", "publish", "call", "close"]


class Watcher:
    """The events of a stream, and why it has ended."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self.frames: list[dict[str, Any]] = []
        self.events: list[dict[str, Any]] = []
        self.end: str | None = None
        self.code: int | None = None
        self.listening = asyncio.create_task(self._listen())

    async def ask(self, text: str = "", kinds: list[str] = KINDS, *, content: bool = False) -> None:
        """Say what to show, and renew the lease."""
        await self._socket.send(json.dumps({"kinds": kinds, "filter": text, "content": content}))

    async def _listen(self) -> None:
        try:
            while True:
                frame = json.loads(await self._socket.recv())
                self.end = frame.get("end", self.end)
                self.frames.append(frame)
                self.events += frame.get("events", [])
        except ConnectionClosed as closed:
            self.code = closed.rcvd.code if closed.rcvd else 1006

    def found(self, kind: str, **values: Any) -> list[dict[str, Any]]:
        """Return the events of a kind that have these values."""
        return [
            event
            for event in self.events
            if event["kind"] == kind and all(event.get(name) == value for name, value in values.items())
        ]

    async def wait_for(self, kind: str, seconds: float = 5, **values: Any) -> dict[str, Any]:
        """Return the first event of a kind with these values, as soon as it has arrived."""
        try:
            await until(lambda: bool(self.found(kind, **values)), seconds)
        except TimeoutError:
            raise AssertionError((kind, values, self.events, self.end, self.code)) from None
        return self.found(kind, **values)[0]

    def sum(self, name: str) -> int:
        """Return the sum of a number in all frames."""
        return sum(frame.get(name, 0) for frame in self.frames)


@asynccontextmanager
async def watch(
    server: LiveServer, account: int, cluster: str, session: str, *, origin: str | None = None, content: bool = False
) -> AsyncIterator[Watcher]:
    """Watch a cluster in a session, as the page does; return when the first numbers have arrived, or the end."""
    host = f"localhost:{server.port}"
    async with connect(
        server.url(f"/console/{account}/live/{cluster}/stream", host="localhost"),
        host="127.0.0.1",
        port=server.port,
        origin=origin or f"http://{host}",  # type: ignore[arg-type]
        additional_headers={"Cookie": f"sessionid={session}"},
        proxy=None,
        compression=None,
        ping_interval=None,
    ) as socket:
        watcher = Watcher(socket)
        await watcher.ask(content=content)
        await until(lambda: bool(watcher.frames) or watcher.code is not None)
        yield watcher
        watcher.listening.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await watcher.listening
