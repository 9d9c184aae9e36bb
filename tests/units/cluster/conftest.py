"""A Redis, and two nodes on it."""

from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from tests.servers import Redis
from tests.units.cluster.kinds import running_redis
from tests.units.cluster.links import Listener, listening


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, dict[str, Any]]]:
    """The layer's host entries for one Redis, by kind of connection."""
    with running_redis(tmp_path_factory.mktemp("redis")) as hosts:
        yield hosts


@pytest.fixture
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Redis]:
    """A Redis that the test may stop."""
    with Redis(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
async def pair(server: Redis) -> AsyncIterator[tuple[Listener, Listener]]:
    """Two nodes that have joined the group `a`."""
    async with listening(server.url) as here, listening(server.url) as there:
        await here.link.join("a")
        await there.link.join("a")
        yield here, there
