"""Find out which node a client behind a proxy is connected to."""

import asyncio
import signal
from collections.abc import Awaitable, Callable

from tests.clients import Client
from tests.servers import LiveServer

Pair = tuple[Client, Client]
# How long a client of a running node may wait for its pong, in seconds. Short enough to fail no health check.
PONG_SECONDS = 0.5


async def clients_of(node: LiveServer, clients: list[Client]) -> list[Client]:
    """Return the clients that get no answer while a node is frozen."""
    node.process.send_signal(signal.SIGSTOP)
    try:
        pongs = [asyncio.create_task(client.settle()) for client in clients]
        await asyncio.wait(pongs, timeout=PONG_SECONDS)
        silent = [client for client, pong in zip(clients, pongs, strict=True) if not pong.done()]
    finally:
        node.process.send_signal(signal.SIGCONT)
    await asyncio.gather(*pongs)
    return silent


async def one_on_each(nodes: list[LiveServer], connect: Callable[[], Awaitable[Client]]) -> Pair:
    """Connect until there is a client on each of two nodes; return them in the order of the nodes."""
    clients: list[Client] = []
    async with asyncio.timeout(20):
        while True:
            clients += [await connect() for _ in range(2)]
            on_first, on_second = [await clients_of(node, clients) for node in nodes]
            if on_first and on_second:
                return on_first[0], on_second[0]
