"""Whatever clients do, a server that they have left holds exactly what it held before they came."""

import asyncio
import itertools
from collections.abc import Callable
from random import Random

import pytest

from tests.servers import LiveServer
from tests.soak.traffic import QUICK, Site, come_and_go, orderly, visits
from tests.soak.watch import changed, held, held_at_rest, until_held

CLIENTS = 1_000
AT_ONCE = 60
REST_SECONDS = 15


@pytest.fixture(scope="module")
def site(start: Callable[..., LiveServer], keys: dict[str, str], secrets: dict[str, str]) -> Site:
    return Site([start("daphne", application="tests.soak.counted:application")], keys, secrets)


async def test_thousands_of_clients_of_every_kind_leave_nothing_behind(site: Site) -> None:
    coming = visits({name: kind for name, kind in QUICK.items() if name != "slow"}, Random(7))

    async def come(count: int) -> None:
        queue = itertools.islice(coming, count)

        async def come_after_another() -> None:
            for _, visit in queue:
                await come_and_go(visit, site)

        async with asyncio.TaskGroup() as clients:
            for _ in range(AT_ONCE):
                clients.create_task(come_after_another())

    await come(200)
    before = await held_at_rest(site.server, REST_SECONDS)
    await come(CLIENTS)
    after = await until_held(site.server, before, REST_SECONDS)
    assert changed(before, after) == {}


async def test_a_connection_is_freed_without_a_search_for_cycles(site: Site) -> None:
    await held(site.server)
    async with asyncio.TaskGroup() as clients:
        for _ in range(200):
            clients.create_task(come_and_go(orderly, site))
    await asyncio.sleep(2.5)  # Daphne looks after what has ended every second
    counts = await held(site.server, after_collection=False)
    # Some are looked after later.
    assert counts.get("objects: realtime.server.websocket.ServerProtocol", 0) < 5
    assert counts.get("objects: realtime.node.connections.Connection", 0) == 0
