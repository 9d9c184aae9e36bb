"""Two nodes behind each proxy that has a shipped configuration, and three nodes without a proxy."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, ExitStack

import httpx
import pytest

from tests.conftest import Connect
from tests.nodes.service import Service
from tests.nodes.spread import Pair, one_on_each
from tests.proxies import Balanced, behind_nginx
from tests.servers import LiveServer

# Opens an HTTP client of the proxy that connects from a given loopback address.
Http = Callable[..., Awaitable[httpx.AsyncClient]]


@pytest.fixture(scope="session")
def nginx(nodes: list[LiveServer], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Balanced]:
    """The nodes behind nginx."""
    with behind_nginx(tmp_path_factory.mktemp("nginx"), nodes).start() as proxy:
        yield proxy


@pytest.fixture(scope="session", params=["balanced", "nginx"])
def server(request: pytest.FixtureRequest) -> Balanced:
    """The nodes behind each of the proxies."""
    return request.getfixturevalue(request.param)


@pytest.fixture
async def pair(server: Balanced, connect: Connect, channel: str) -> Pair:
    """Two clients in the same channel, one on each node."""
    return await one_on_each(server.nodes, lambda: connect(channel, host="demo.ws.test"))


@pytest.fixture
async def http(server: Balanced) -> AsyncIterator[Http]:
    """Open an HTTP client of the admin's host: `http()`, or `http("127.0.0.2")` to connect from that address."""
    async with AsyncExitStack() as stack:

        async def open_http(address: str = "127.0.0.1") -> httpx.AsyncClient:
            tls = server.tls_context()
            assert tls is not None
            transport = httpx.AsyncHTTPTransport(verify=tls, local_address=address, retries=0)
            client = httpx.AsyncClient(
                base_url=server.url("", scheme="http"),
                headers={"host": f"ws.test:{server.port}"},
                transport=transport,
                trust_env=False,
            )
            return await stack.enter_async_context(client)

        yield open_http


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with ExitStack() as stack:
        service = Service(tmp_path_factory.mktemp("service"), stack)
        yield service
        for node in service.nodes:
            node.stop()
        for node in service.nodes:
            assert "Traceback" not in node.log, node.log
