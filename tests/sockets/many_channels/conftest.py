"""The servers for these tests: with each door. The tests of PieSocket v3 cover the other ways to serve."""

from collections.abc import Callable, Iterator

import pytest

from tests.conftest import SERVERS
from tests.servers import LiveServer, Redis


@pytest.fixture(scope="session", params=[kind for kind in SERVERS if kind in ("serve", "shut", "balanced")])
def server(request: pytest.FixtureRequest, shared: Callable[..., LiveServer]) -> LiveServer:
    return request.getfixturevalue("balanced") if request.param == "balanced" else shared(request.param)


@pytest.fixture(scope="module", params=["one node", "two nodes"])
def places(request: pytest.FixtureRequest, start: Callable[..., LiveServer], redis: Redis) -> list[LiveServer]:
    """Where clients connect: twice to the same node, or to two nodes."""
    if request.param == "one node":
        return [request.getfixturevalue("serve")] * 2
    return [start("serve", REDIS_URL=redis.url) for _ in range(2)]


@pytest.fixture
def own_server(start: Callable[..., LiveServer], redis: Redis) -> Iterator[LiveServer]:
    """A server with tenants that only one test changes, by commands, which tell it through Redis."""
    with start("serve", REDIS_URL=redis.url) as server:
        yield server
