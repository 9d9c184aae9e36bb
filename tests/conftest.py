"""A running server for each way to serve the service, and clients for it."""

import fcntl
import gc
import itertools
import json
import os
import shutil
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractContextManager, AsyncExitStack, contextmanager
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple, cast

import httpx
import pytest
from django.core.management import call_command
from django.test import override_settings
from pytest_django import DjangoDbBlocker

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
    manage,
    server_command,
)

Connect = Callable[..., Awaitable[Client]]

CHEAP_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
# The other kinds are "tls", "uvicorn" and "balanced". SERVERS=balanced runs the tests in sockets/ with their clients
# spread over two nodes.
SERVERS = os.environ.get("SERVERS", "serve,shut").split(",")


# A busy machine may take longer than the 5 seconds that httpx waits by default.
for _part in ("connect", "read", "write", "pool"):
    setattr(httpx._config.DEFAULT_TIMEOUT_CONFIG, _part, 30)

# In these folders, tests mostly wait.
WAITING = ("nodes", "data", "soak")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mix tests that wait with tests that compute, the former rather early, so that the processes end together."""

    def place(item: pytest.Item) -> tuple[float, str]:
        module = str(item.path)
        return zlib.crc32(module.encode()) * (0.5 if item.path.parent.name in WAITING else 1.0), module

    items.sort(key=place)


@contextmanager
def shared_folder(folders: pytest.TempPathFactory, name: str) -> Iterator[Path]:
    """Lock a folder that the processes of a run share, so that only the first one has to fill it."""
    own = folders.getbasetemp()
    folder = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / name
    folder.mkdir(exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield folder


def pytest_collection_finish() -> None:
    """Exclude the thousands of collected tests from garbage collections."""
    gc.collect()
    gc.freeze()


class Tenants(NamedTuple):
    directory: Path
    keys: dict[str, str]
    secrets: dict[str, str]
    app_id: str


@pytest.fixture(scope="session")
def tenants(tmp_path_factory: pytest.TempPathFactory) -> Tenants:
    """A directory with a database of tenants, which servers get a copy of."""
    with shared_folder(tmp_path_factory, "tenants") as folder:
        directory, found = folder / "data", folder / "keys.json"
        if not found.exists():
            directory.mkdir()
            found.write_text(json.dumps(make_tenants(environment(directory))))
        return Tenants(directory, *json.loads(found.read_text()))


@pytest.fixture
def migrated(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The temporary directory of the test, with an empty database that is up to date."""
    with shared_folder(tmp_path_factory, "migrated") as folder:
        database = folder / "db.sqlite3"
        if not database.exists():
            manage(environment(folder), "migrate", "-v", "0")
    shutil.copy(database, tmp_path)
    return tmp_path


@pytest.fixture(scope="session")
def keys(tenants: Tenants) -> dict[str, str]:
    """The public keys of the tenants, by name."""
    return tenants.keys


@pytest.fixture(scope="session")
def secrets(tenants: Tenants) -> dict[str, str]:
    """The secrets of these keys, by name."""
    return tenants.secrets


@pytest.fixture(scope="session")
def app_id(tenants: Tenants) -> str:
    """The App ID of the demo cluster, for Pusher's libraries."""
    return tenants.app_id


@contextmanager
def _starting(tenants: Tenants, folders: pytest.TempPathFactory) -> Iterator[Callable[..., LiveServer]]:
    """Start servers, each with the same tenants in its own database; at the end, check that no log has a traceback."""
    servers: list[LiveServer] = []

    def start_server(
        kind: str, *arguments: str, application: str = "piesite.asgi:application", **env: str
    ) -> LiveServer:
        directory = folders.mktemp(kind)
        shutil.copytree(tenants.directory, directory, dirs_exist_ok=True)
        port = free_port()
        command = [*server_command(kind, port, directory, application), *arguments]
        server = LiveServer(directory, command, port, kind=kind, **env)
        server.start()
        servers.append(server)
        return server

    yield start_server
    for server in servers:
        server.stop()
    for server in servers:
        # Uvicorn itself logs a traceback for text that is not UTF-8.
        assert server.kind == "uvicorn" or "Traceback" not in server.log, server.log


@pytest.fixture(scope="module")
def start(tenants: Tenants, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., LiveServer]]:
    """Start servers that run until the tests of the module have ended: a hundred idle ones would take half a core."""
    with _starting(tenants, tmp_path_factory) as start_server:
        yield start_server


@pytest.fixture(scope="session")
def shared(tenants: Tenants, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., LiveServer]]:
    """Return the server of a kind that all modules use, which the first of them starts."""
    with _starting(tenants, tmp_path_factory) as start_server:
        yield cache(start_server)


@pytest.fixture(scope="session")
def serve(shared: Callable[..., LiveServer]) -> LiveServer:
    """The service, run by `manage.py serve`."""
    return shared("serve")


@pytest.fixture(scope="session")
def nodes(tenants: Tenants, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[LiveServer]]:
    """Two nodes that share Redis and PostgreSQL and expect a proxy. A test that stops a node starts it again."""
    with Redis(tmp_path_factory.mktemp("redis")) as redis, Postgres() as postgres:
        directory = tmp_path_factory.mktemp("nodes")
        shutil.copytree(tenants.directory, directory, dirs_exist_ok=True)
        env = {"DATA_DIR": str(directory), "DATABASE_URL": postgres.url(), "REDIS_URL": redis.url}
        copy_tenants(environment(directory), environment(directory, **env))
        with _starting(tenants, tmp_path_factory) as start_server:
            yield [start_server("serve", **env, **BEHIND_PROXY) for _ in range(2)]


@pytest.fixture(scope="session")
def balanced(nodes: list[LiveServer], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Balanced]:
    """The two nodes behind HAProxy, as one server."""
    with behind_haproxy(tmp_path_factory.mktemp("haproxy"), nodes).start() as proxy:
        yield proxy


@pytest.fixture(scope="session", params=SERVERS)
def server(request: pytest.FixtureRequest, shared: Callable[..., LiveServer]) -> LiveServer:
    """The service, once for each way to serve it."""
    if request.param == "balanced":
        return cast(Balanced, request.getfixturevalue("balanced"))
    return shared(request.param)


@pytest.fixture
async def connect(server: LiveServer, keys: dict[str, str]) -> AsyncIterator[Connect]:
    """Connect to a channel of the server: `await connect("room", "notify_self", key="other")`."""
    async with AsyncExitStack() as stack:

        async def connect_client(channel: str, *flags: str, key: str = "demo", **options: Any) -> Client:
            path = channel_path(channel, keys.get(key, key), *flags)
            return await stack.enter_async_context(open_client(server, path, **options))

        yield connect_client


@pytest.fixture(scope="module")
def module_data(
    django_db_setup: None, django_db_blocker: DjangoDbBlocker
) -> Iterator[Callable[[], AbstractContextManager[None]]]:
    """Let a fixture create what all tests of a module find: `with module_data():`. The end deletes all data."""

    @contextmanager
    def creating() -> Iterator[None]:
        with django_db_blocker.unblock(), override_settings(PASSWORD_HASHERS=CHEAP_HASHERS):
            yield

    yield creating
    with django_db_blocker.unblock():
        call_command("flush", verbosity=0, interactive=False)


_numbers = itertools.count()


@pytest.fixture
def channel() -> str:
    """The ID of a channel that no other test uses."""
    return f"channel-{next(_numbers)}"
