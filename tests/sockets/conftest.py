"""What several tests of sockets use."""

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack

import pytest

from tests.clients import Client, channel_path, open_client
from tests.servers import LiveServer, Redis
from tests.sockets.raw import Open, Raw
from tests.sockets.workers import SPREAD, WORKERS


@pytest.fixture
def raw(keys: dict[str, str]) -> Iterator[Open]:
    """Open a connection: `raw(server, channel, "a header line")`."""
    opened: list[Raw] = []

    def open_raw(server: LiveServer, channel: str, *lines: str, key: str = "demo", receive_buffer: int = 0) -> Raw:
        opened.append(Raw(server, channel_path(channel, keys[key]), *lines, receive_buffer=receive_buffer))
        return opened[-1]

    yield open_raw
    for client in opened:
        client.socket.close()


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Redis]:
    with Redis(tmp_path_factory.mktemp("redis")) as redis:
        yield redis


@pytest.fixture
def fresh_workers(start: Callable[..., LiveServer], redis: Redis) -> Iterator[LiveServer]:
    """A server with two workers, which a test may kill."""
    with start("serve", "--workers", str(WORKERS), REDIS_URL=redis.url) as server:
        yield server


@pytest.fixture
async def clients(server: LiveServer, keys: dict[str, str], channel: str) -> AsyncIterator[list[Client]]:
    """Clients in one channel, on all workers of the server."""
    async with AsyncExitStack() as stack:
        path = channel_path(channel, keys["demo"])
        yield [await stack.enter_async_context(open_client(server, path)) for _ in range(SPREAD)]
