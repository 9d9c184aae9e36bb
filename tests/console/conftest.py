"""Fixtures for the console: the tenants of `tenants.py`, with Django's client and in a real browser."""

import asyncio
import json
import shutil
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path

import pytest
from django.core.cache import cache
from django.test import Client
from pytest_django import Settings

from accounts.models import Account, ApiKey, Cluster
from accounts.users import User
from tests.browser import open_page
from tests.conftest import CHEAP_HASHERS
from tests.console.browsing import Console, Service
from tests.console.live_nodes import MAX_CHANNELS, Nodes, Shop, open_stream
from tests.console.planes import Plane
from tests.console.tenants import Tenant, Tenants, make_tenants
from tests.servers import LiveServer, Redis, Shell, need

FOLDER = Path(__file__).parent

As = Callable[[str | None], Client]


@pytest.fixture(autouse=True)
def _isolate(settings: Settings) -> None:
    """Clear the counters of earlier tests, and hash passwords without cost."""
    cache.clear()
    settings.PASSWORD_HASHERS = CHEAP_HASHERS
    settings.WHITENOISE_AUTOREFRESH = True  # otherwise each client begins with a list of all files


@pytest.fixture
def shops(db: None) -> Tenants:
    """The shop, the other tenant and their people, in the database of the test."""
    return make_tenants()


@pytest.fixture
def account(shops: Tenants) -> Account:
    """The shop's account."""
    return Account.objects.get(pk=shops.shop.account)


@pytest.fixture
def cluster(shops: Tenants) -> Cluster:
    """The shop's cluster."""
    return Cluster.objects.get(cluster_id=shops.shop.cluster)


@pytest.fixture
def key(shops: Tenants) -> ApiKey:
    """The shop's API key."""
    return ApiKey.objects.get(pk=shops.shop.key)


@pytest.fixture
def as_(shops: Tenants) -> As:
    """Return a client of the pages in which the person of a role is logged in, or nobody for None."""

    def client(role: str | None) -> Client:
        client = Client()
        if role is not None:
            client.force_login(User.objects.get(pk=shops.people[role]))
        return client

    return client


@pytest.fixture
def owner(as_: As) -> Client:
    """A client in which the shop's owner is logged in."""
    return as_("owner")


@pytest.fixture
def plane() -> Iterator[Plane]:
    """The data plane, in the test's hands."""
    with Plane() as plane:
        yield plane


@pytest.fixture(scope="module")
def service(start: Callable[..., LiveServer]) -> Iterator[Service]:
    """A running server with the same tenants and people."""
    with add_tenants(start("serve")) as service:
        yield service


@contextmanager
def add_tenants(server: LiveServer) -> Iterator[Service]:
    """Create the tenants of these tests on a running server, and log their people in."""
    script = (
        "import json; from tests.console.tenants import make_sessions, make_tenants; "
        "tenants = make_tenants(); print(json.dumps([*tenants, make_sessions(tenants.people)]))"
    )
    shell = Shell(server.env)
    try:
        shop, other, people, sessions = json.loads(shell.run(script))
        yield Service(server, shell, Tenants(Tenant(*shop), Tenant(*other), people), sessions)
    finally:
        shell.close()


@pytest.fixture
async def console(service: Service, axe: str) -> AsyncIterator[Console]:
    """The console of that server in a browser, in which nobody is logged in yet."""
    async with open_page() as page:
        await page.send("Network.enable")
        console = Console(page, service, axe)
        await console.resize(1280)
        yield console


@pytest.fixture(scope="session")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the packages of package.json are installed."""
    need("npm")
    folder = tmp_path_factory.mktemp("packages")
    shutil.copy(FOLDER / "package.json", folder)
    subprocess.run(["npm", "install", "--silent", "--no-audit", "--no-fund"], cwd=folder, check=True, timeout=100)
    return folder


@pytest.fixture(scope="session")
def axe(packages: Path) -> str:
    """The source of axe-core."""
    return (packages / "node_modules" / "axe-core" / "axe.min.js").read_text()


@pytest.fixture(scope="module")
def nodes(start: Callable[..., LiveServer], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nodes]:
    with Redis(tmp_path_factory.mktemp("redis")) as redis:
        limits = {
            "CONNECTS_PER_MINUTE_PER_ADDRESS": "100000",
            "REQUESTS_PER_MINUTE_PER_ADDRESS": "100000",
            "MAX_CHANNELS_PER_CONNECTION": str(MAX_CHANNELS),
        }
        first = start("serve", REDIS_URL=redis.url, **limits)
        database = f"sqlite:///{first.directory}/db.sqlite3"
        second = start("serve", REDIS_URL=redis.url, DATABASE_URL=database, **limits)
        with add_tenants(first) as service:
            yield Nodes(service, second)
        for node in (second, first):
            node.stop()


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as stack:
        yield stack


@pytest.fixture
async def shop(nodes: Nodes, stack: AsyncExitStack) -> Shop:
    watcher = await open_stream(nodes, stack)
    assert watcher.end is None
    shop = Shop(nodes, stack, watcher)
    async with asyncio.timeout(10):
        while not watcher.found("connect", channel="warm-up"):  # until the other node has heard of the page
            await (await shop.connect(1, "warm-up")).socket.close()
            await asyncio.sleep(0.1)
    return shop
