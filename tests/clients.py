"""WebSocket clients for tests."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import quote

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from tests.servers import LiveServer

ANSWER_SECONDS = 10


class Client:
    """A connection to a channel, with the operations that tests need."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket

    async def send(self, message: str | bytes) -> None:
        await self.socket.send(message)

    async def receive(self) -> str | bytes:
        async with asyncio.timeout(ANSWER_SECONDS):
            return await self.socket.recv()

    async def ask(self, command: str) -> str | bytes:
        await self.send(command)
        return await self.receive()

    async def settle(self) -> None:
        """Return when the server has handled everything that this client sent, and check that nothing else came back.

        The server sends the answer to a command after all earlier deliveries, so nothing else can be on its way.
        """
        assert await self.ask("cmd_ping") == '{"system":"pong"}'

    async def count(self) -> int:
        status = json.loads(await self.ask("cmd_status"))
        return int(status["system"]["connection_count"])

    async def ending(self, seconds: float = ANSWER_SECONDS) -> tuple[list[str | bytes], int]:
        """Return the frames that arrive until the server closes the connection, and the close code."""
        frames: list[str | bytes] = []
        async with asyncio.timeout(seconds):
            while True:
                try:
                    frames.append(await self.socket.recv())
                except ConnectionClosed as closed:
                    return frames, closed.rcvd.code if closed.rcvd else 1006


@asynccontextmanager
async def open_client(
    server: LiveServer, path: str, *, host: str | None = None, **options: Any
) -> AsyncIterator[Client]:
    """Connect to a path of the server, with `host` as the host name if it is given."""
    async with connect(
        server.url(path, host=host or "127.0.0.1"),
        host="127.0.0.1",
        port=server.port,
        ssl=server.tls_context(),
        proxy=None,
        compression=None,
        ping_interval=None,
        max_size=None,
        **options,
    ) as socket:
        yield Client(socket)


def channel_path(channel: str, key: str, *flags: str, **options: str) -> str:
    """Return the path and the query for a connection to a channel."""
    pairs = [f"{name}={quote(value)}" for name, value in options.items()]
    return f"/v3/{channel}?" + "&".join([f"api_key={key}", *flags, *pairs])


class Member:
    """A client in a presence channel, and the events that it has received."""

    def __init__(self, client: Client, uuid: str) -> None:
        self.client = client
        self.uuid = uuid
        self.events: list[dict[str, Any]] = []
        self.listening = asyncio.create_task(self._listen())

    async def _listen(self) -> None:
        with contextlib.suppress(ConnectionClosed):
            while True:
                self.events.append(json.loads(await self.client.socket.recv()))

    @property
    def members(self) -> list[str]:
        """The UUIDs in the last member list."""
        return [member["uuid"] for member in self.events[-1]["data"]["members"]] if self.events else []


async def until(condition: Callable[[], bool], seconds: float = 10, pause: float = 0.02) -> None:
    """Return when a condition holds.

    Args:
        condition: returns whether it holds.
        seconds: the time limit.
        pause: seconds between two checks; 0 checks after each turn of the event loop.

    Raises:
        TimeoutError: the condition did not hold within the time limit.
    """
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(pause)
