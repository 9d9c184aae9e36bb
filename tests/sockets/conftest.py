"""What several tests of sockets use."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from typing import Any

import httpx
import pytest

from tests.clients import Client, channel_path, open_client
from tests.servers import LiveServer, Redis
from tests.sockets.cluster_api import Publish
from tests.sockets.pusher import PusherClient, open_pusher
from tests.sockets.raw import Open, Raw
from tests.sockets.v4 import V4Client, open_v4
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


@pytest.fixture
async def http(server: LiveServer) -> AsyncIterator[httpx.AsyncClient]:
    verify = server.tls_context() or False
    async with httpx.AsyncClient(base_url=server.url("", scheme="http"), trust_env=False, verify=verify) as client:
        yield client


@pytest.fixture
def publish(http: httpx.AsyncClient, keys: dict[str, str], secrets: dict[str, str]) -> Publish:
    """A function that publishes, by default with the demo key, and returns the status and body of the answer."""

    async def post(channel: Any, message: Any, path: str = "/api/publish", **changed: Any) -> tuple[int, str]:
        members = {"key": keys["demo"], "secret": secrets["demo"], "channelId": channel, "message": message, **changed}
        answer = await http.post(path, json={name: value for name, value in members.items() if value is not ...})
        return answer.status_code, answer.text

    return post


@pytest.fixture
async def pusher(
    server: LiveServer, keys: dict[str, str], secrets: dict[str, str]
) -> AsyncIterator[Callable[..., Awaitable[PusherClient]]]:
    """Connect with Pusher's protocol: `await pusher()`, or `await pusher("other")` with another key."""
    async with AsyncExitStack() as stack:

        async def connect_client(key: str = "demo") -> PusherClient:
            return await stack.enter_async_context(open_pusher(server, keys[key], secrets[key]))

        yield connect_client


@pytest.fixture
async def v4(server: LiveServer, keys: dict[str, str]) -> AsyncIterator[Callable[..., Awaitable[V4Client]]]:
    """Connect with PieSocket v4: `await v4("room", presence=1)`, or `await v4("room", key="other")`."""
    async with AsyncExitStack() as stack:

        async def connect_client(primary: str, *, key: str = "demo", **options: Any) -> V4Client:
            return await stack.enter_async_context(open_v4(server, primary, keys[key], **options))

        yield connect_client
