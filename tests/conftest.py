"""A running server for each way of serving, and clients for it."""

import itertools
import os
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.clients import Client, channel_path, open_client
from tests.proxies import BEHIND_PROXY, Balanced, behind_haproxy
from tests.servers import (
    LiveServer,
    Postgres,
    Redis,
    copy_tenants,
    environment,
    free_port,
    make_tenants,
    server_command,
)

Connect = Callable[..., Awaitable[Client]]

# SERVERS=balanced runs the tests of sockets with their clients spread over two nodes.
SERVERS = os.environ.get("SERVERS", "serve,daphne,tls,uvicorn").split(",")


class Tenants(NamedTuple):
    directory: Path
    keys: dict[str, str]
    secrets: dict[str, str]


@pytest.fixture(scope="session")
def tenants(tmp_path_factory: pytest.TempPathFactory) -> Tenants:
    """A directory with a database that has tenants, to be copied."""
    directory = tmp_path_factory.mktemp("tenants")
    return Tenants(directory, *make_tenants(environment(directory)))


@pytest.fixture(scope="session")
def keys(tenants: Tenants) -> dict[str, str]:
    """The public keys of the tenants, by name."""
    return tenants.keys


@pytest.fixture(scope="session")
def secrets(tenants: Tenants) -> dict[str, str]:
    """Their secrets."""
    return tenants.secrets


@pytest.fixture(scope="session")
def start(tenants: Tenants, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., LiveServer]]:
    """Start servers; each has the same tenants in a database of its own. None may have logged a traceback."""
    servers: list[LiveServer] = []

    def start_one(kind: str, *arguments: str, application: str = "piesite.asgi:application", **env: str) -> LiveServer:
        directory = tmp_path_factory.mktemp(kind)
        shutil.copytree(tenants.directory, directory, dirs_exist_ok=True)
        port = free_port()
        command = [*server_command(kind, port, directory, application), *arguments]
        server = LiveServer(directory, command, port, kind=kind, **env)
        server.start()
        servers.append(server)
        return server

    yield start_one
    for server in servers:
        server.stop()
    for server in servers:
        # Uvicorn logs one of its own for text that is not UTF-8.
        assert server.kind == "uvicorn" or "Traceback" not in server.log, server.log


@pytest.fixture(scope="session")
def serve(start: Callable[..., LiveServer]) -> LiveServer:
    """The service as its own command runs it."""
    return start("serve")


@pytest.fixture(scope="session")
def nodes(
    start: Callable[..., LiveServer], tenants: Tenants, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[list[LiveServer]]:
    """Two nodes on a Redis and a PostgreSQL, which expect a proxy before them. Who stops one starts it again."""
    with Redis(tmp_path_factory.mktemp("redis")) as redis, Postgres() as postgres:
        env = {"DATA_DIR": str(tenants.directory), "DATABASE_URL": postgres.url(), "REDIS_URL": redis.url}
        copy_tenants(environment(tenants.directory), environment(tenants.directory, **env))
        nodes = [start("serve", **env, **BEHIND_PROXY) for _ in range(2)]
        yield nodes
        for node in nodes:
            node.stop()


@pytest.fixture(scope="session")
def balanced(nodes: list[LiveServer], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Balanced]:
    """These nodes behind HAProxy, as one server."""
    proxy = behind_haproxy(tmp_path_factory.mktemp("haproxy"), nodes)
    proxy.start()
    yield proxy
    proxy.stop()


@pytest.fixture(scope="session", params=SERVERS)
def server(request: pytest.FixtureRequest, start: Callable[..., LiveServer]) -> LiveServer:
    """The service, in each way of serving it."""
    if request.param in ("serve", "balanced"):
        return request.getfixturevalue(request.param)
    return start(request.param)


@pytest.fixture
async def connect(server: LiveServer, keys: dict[str, str]) -> AsyncIterator[Connect]:
    """Connect to a channel of the server: `await connect("room", "notify_self", key="other")`."""
    async with AsyncExitStack() as stack:

        async def connect_one(channel: str, *flags: str, key: str = "demo", **options: Any) -> Client:
            path = channel_path(channel, keys.get(key, key), *flags)
            return await stack.enter_async_context(open_client(server, path, **options))

        yield connect_one


_numbers = itertools.count()


@pytest.fixture
def channel() -> str:
    """The ID of a channel that no other test uses."""
    return f"channel-{next(_numbers)}"
