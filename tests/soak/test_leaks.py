"""Whatever clients do, after they have left the server holds exactly what it held before they came."""

import asyncio
import itertools
from collections.abc import Callable
from random import Random

import pytest

from accounts.key_access import CLUSTER_OPTIONS
from realtime.node.access_changes import RECONCILE_TICK_SECONDS
from tests.clients import open_client
from tests.conftest import Tenants
from tests.servers import LiveServer
from tests.soak.traffic import QUICK, Site, Visit, of_pusher, of_v4, orderly, run_visit, visits
from tests.soak.watch import changed, held, held_at_rest, until_held
from tests.sockets.pusher import switch_on

CLIENTS = 1_000
CONCURRENT_CLIENTS = 60
REST_SECONDS = 15


@pytest.fixture(scope="module")
def site(start: Callable[..., LiveServer], tenants: Tenants) -> Site:
    server = start("daphne", application="tests.soak.counted:application")
    switch_on(server, *CLUSTER_OPTIONS)
    return Site([server], tenants.keys, tenants.secrets, tenants.app_id)


async def test_thousands_of_clients_of_every_kind_leave_nothing_behind(site: Site) -> None:
    arrivals = visits({name: kind for name, kind in QUICK.items() if name != "slow"}, Random(7))

    async def run_clients(count: int) -> None:
        queue = itertools.islice(arrivals, count)

        async def run_one_after_another() -> None:
            for _, visit in queue:
                await run_visit(visit, site)

        async with asyncio.TaskGroup() as clients:
            for _ in range(CONCURRENT_CLIENTS):
                clients.create_task(run_one_after_another())

    await run_clients(200)
    before = await held_at_rest(site.server, REST_SECONDS)
    await run_clients(CLIENTS)
    after = await until_held(site.server, before, REST_SECONDS)
    assert changed(before, after) == {}


@pytest.mark.parametrize("visit", [orderly, of_pusher, of_v4])
async def test_a_closed_connection_is_freed_without_the_cycle_collector(site: Site, visit: Visit) -> None:
    await held(site.server)
    async with asyncio.TaskGroup() as clients:
        for _ in range(200):
            clients.create_task(run_visit(visit, site))
    await asyncio.sleep(2.5)  # Daphne cleans up ended connections every second
    counts = await held(site.server, after_collection=False)
    # A few may be cleaned up later.
    assert counts.get("objects: realtime.server.websocket.ServerProtocol", 0) < 5
    assert counts.get("objects: realtime.node.connections.Connection", 0) == 0


async def test_the_last_connection_is_freed_after_its_key_was_compared_with_the_database(site: Site) -> None:
    async with open_client(site.server, site.path("talk")):
        await asyncio.sleep(RECONCILE_TICK_SECONDS + 1)
    counts = await until_held(site.server, {}, 3)
    assert counts.get("objects: realtime.node.connections.Connection", 0) == 0
