"""Nodes restart one at a time under load, and connected clients miss no message."""

import asyncio
import contextlib
import itertools
import random
import signal
import time
from collections import defaultdict
from dataclasses import dataclass, field

from websockets.exceptions import ConnectionClosed, InvalidHandshake

from tests.clients import Client, channel_path, open_client
from tests.proxies import Balanced
from tests.servers import LiveServer

CLIENTS, SENDERS = 60, 15
PONG = '{"system":"pong"}'
# How long a message may take before it counts as lost, in seconds.
LATE_SECONDS = 2.0


@dataclass
class Connection:
    """A connection of a client, from when it was certainly in the channel until the client noticed the close."""

    joined: float = float("inf")
    closed: float = float("inf")
    received: set[str] = field(default_factory=set)


class Visitor:
    """A client that reconnects with jitter after every close, and records what it sends and receives."""

    def __init__(self, server: LiveServer, path: str, name: str, *, sends: bool) -> None:
        self._server, self._path, self._name, self._sends = server, path, name, sends
        self.connections: list[Connection] = []
        self.sent: dict[str, float] = {}
        self.codes: list[int] = []

    async def run(self, until: asyncio.Event) -> None:
        while not until.is_set():
            # The proxy may have no node available.
            with contextlib.suppress(ConnectionClosed, InvalidHandshake, OSError):
                async with open_client(self._server, self._path, host="demo.ws.test") as client:
                    await self._use(client, until)
            await asyncio.sleep(random.uniform(0, 0.5))

    async def _use(self, client: Client, until: asyncio.Event) -> None:
        connection = Connection()
        self.connections.append(connection)
        tasks = [asyncio.create_task(self._close(client, until))]
        await client.send("cmd_ping")
        try:
            while True:
                message = str(await client.socket.recv())
                connection.received.add(message)
                if message == PONG:
                    connection.joined = time.monotonic()
                    tasks += [asyncio.create_task(self._send(client))] if self._sends else []
        except ConnectionClosed as closed:
            connection.closed = time.monotonic()
            self.codes.append(closed.rcvd.code if closed.rcvd else 1006)
        finally:
            for task in tasks:
                task.cancel()

    async def _send(self, client: Client) -> None:
        for number in itertools.count(len(self.sent)):
            message = f"{self._name}:{number}"
            await client.send(message)
            self.sent[message] = time.monotonic()
            await asyncio.sleep(0.02)

    async def _close(self, client: Client, until: asyncio.Event) -> None:
        await until.wait()
        await asyncio.sleep(LATE_SECONDS)
        await client.socket.close()


async def test_no_message_between_connected_clients_is_lost(
    balanced: Balanced, keys: dict[str, str], channel: str
) -> None:
    path, finished = channel_path(channel, keys["demo"]), asyncio.Event()
    visitors = [Visitor(balanced, path, f"v{number}", sends=number < SENDERS) for number in range(CLIENTS)]
    running = asyncio.gather(*(visitor.run(finished) for visitor in visitors))
    await asyncio.sleep(2)
    for node in balanced.nodes:
        node.process.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(node.process.wait, 30) == 0
        await asyncio.sleep(1)
        await asyncio.to_thread(node.start)
        await asyncio.sleep(4)  # until the proxy has noticed
    finished.set()
    await running

    codes = [code for visitor in visitors for code in visitor.codes]
    assert {1012} <= set(codes) <= {1000, 1012}
    assert codes.count(1012) >= CLIENTS
    lost: dict[str, list[str]] = defaultdict(list)
    expected = 0
    for sender in visitors[:SENDERS]:
        for message, sent_at in sender.sent.items():
            for visitor in visitors:
                if visitor is sender:
                    continue
                for connection in visitor.connections:
                    if connection.joined <= sent_at and sent_at + LATE_SECONDS <= connection.closed:
                        expected += 1
                        if message not in connection.received:
                            lost[message].append(visitor._name)
    print(f"{expected} deliveries expected, {sum(map(len, lost.values()))} missing")
    assert expected > 10_000
    assert not lost
