"""A stopping node stops listening, asks its clients to reconnect, and loses nothing that they have sent."""

import asyncio
import signal
import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack

import httpx
import pytest
from websockets.exceptions import ConnectionClosed

from tests.clients import Client, channel_path, open_client
from tests.conftest import SERVERS
from tests.servers import LiveServer

CROWD = 200


@pytest.fixture(params=[kind for kind in SERVERS if kind in ("serve", "shut", "tls")])
def server(request: pytest.FixtureRequest, start: Callable[..., LiveServer]) -> LiveServer:
    """A separate server for each test, which closes its connections over two seconds."""
    return start(request.param, DRAIN_SECONDS="2")


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as stack:
        yield stack


async def open_clients(server: LiveServer, stack: AsyncExitStack, path: str, number: int) -> list[Client]:
    return [await stack.enter_async_context(open_client(server, path)) for _ in range(number)]


async def closed_at(client: Client) -> float:
    assert await client.ending() == ([], 1012)
    return time.monotonic()


async def test_a_stopping_node_closes_its_connections_gradually(
    server: LiveServer, stack: AsyncExitStack, keys: dict[str, str], channel: str
) -> None:
    clients = await open_clients(server, stack, channel_path(channel, keys["demo"]), 200)
    begun = time.monotonic()
    server.process.send_signal(signal.SIGTERM)
    closed = sorted([moment - begun for moment in await asyncio.gather(*map(closed_at, clients))])
    assert closed[0] < 1
    assert 1.5 < closed[-1] < 4
    assert closed[99] < closed[-1] - 0.5
    assert server.process.wait(20) == 0


async def test_a_stopping_node_stops_listening_and_is_alive_but_not_ready(
    server: LiveServer, stack: AsyncExitStack, keys: dict[str, str], channel: str
) -> None:
    clients = await open_clients(server, stack, channel_path(channel, keys["demo"]), 150)
    verify = server.tls_context() or False
    async with httpx.AsyncClient(base_url=server.url("", scheme="http"), trust_env=False, verify=verify) as http:
        assert (await http.get("/readyz")).json()["ready"] is True
        server.process.send_signal(signal.SIGTERM)
        await asyncio.wait(
            [asyncio.create_task(closed_at(client)) for client in clients], return_when="FIRST_COMPLETED"
        )
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", server.port), timeout=1)
        answer = await http.get("/readyz")
        assert (answer.status_code, answer.json()["ready"]) == (503, False)
        assert (await http.get("/healthz")).json()["alive"] is True
    assert server.process.wait(20) == 0


async def test_a_later_second_signal_closes_all_connections_immediately(
    start: Callable[..., LiveServer], stack: AsyncExitStack, keys: dict[str, str], channel: str
) -> None:
    server = start("serve", DRAIN_SECONDS="60")
    clients = await open_clients(server, stack, channel_path(channel, keys["demo"]), 600)
    begun = time.monotonic()
    server.process.send_signal(signal.SIGTERM)
    server.process.send_signal(signal.SIGTERM)  # a supervisor may signal the process and its group
    ends = asyncio.gather(*map(closed_at, clients))
    await asyncio.sleep(1.5)
    assert not ends.done()
    server.process.send_signal(signal.SIGTERM)
    assert max(await ends) - begun < 4
    assert server.process.wait(20) == 0


async def test_what_a_client_sends_before_it_receives_the_close_is_distributed(
    server: LiveServer, stack: AsyncExitStack, keys: dict[str, str], channel: str
) -> None:
    """While the connections are closed one after another, no message of a closed sender is lost."""
    path = channel_path(channel, keys["demo"])
    clients = await open_clients(server, stack, path, 100)
    received: dict[Client, list[str]] = {client: [] for client in clients}
    sent: dict[Client, int] = dict.fromkeys(clients, 0)
    closed: list[Client] = []

    async def listen(client: Client) -> None:
        try:
            while True:
                received[client].append(str(await client.socket.recv()))
        except ConnectionClosed:
            closed.append(client)

    async def send_repeatedly(number: int, client: Client) -> None:
        try:
            while True:
                await client.send(f"{number} {sent[client]}")
                sent[client] += 1
                await asyncio.sleep(0.02)
        except ConnectionClosed:
            pass

    tasks = [asyncio.create_task(listen(client)) for client in clients]
    tasks += [asyncio.create_task(send_repeatedly(number, client)) for number, client in enumerate(clients[:20])]
    await asyncio.sleep(0.5)
    server.process.send_signal(signal.SIGTERM)
    await asyncio.gather(*tasks)
    last = received[closed[-1]]
    for number, client in enumerate(clients[:20]):
        if closed.index(client) < len(closed) // 2:  # what a late one sends may find the last one closed
            own = [line for line in last if line.startswith(f"{number} ")]
            assert own == [f"{number} {count}" for count in range(sent[client])]
