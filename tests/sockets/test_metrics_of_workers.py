"""Each worker on a port reports the metrics of all workers together."""

import asyncio
import os
import platform
import re
import signal
from contextlib import AsyncExitStack
from pathlib import Path

import httpx
import pytest

from piesite import __version__
from realtime.metrics.across_workers import FILE_VARIABLE, Snapshot, WorkerFile
from tests.clients import Client, channel_path, open_client
from tests.metrics import Scrape, scrape, until
from tests.servers import LiveServer
from tests.sockets.workers import SPREAD, is_replaced, pids_with_connections, worker_pids


@pytest.fixture
def server(fresh_workers: LiveServer) -> LiveServer:
    return fresh_workers


async def exchange_messages(clients: list[Client]) -> None:
    for client in clients:
        await client.send("hello")
    for client in clients:
        for _ in range(SPREAD - 1):
            await client.receive()


async def test_each_worker_reports_the_totals(server: LiveServer, clients: list[Client]) -> None:
    assert len(pids_with_connections(server)) == 2
    await exchange_messages(clients)
    await until(lambda numbers: numbers["deliveries_total"] == SPREAD * (SPREAD - 1), server)
    await until(lambda numbers: numbers["bus_round_trip_seconds_count"] > 0, server)
    for numbers in [scrape(server) for _ in range(20)]:
        assert (numbers["processes"], numbers["connections"], numbers["channels"]) == (2, SPREAD, 2)
        assert numbers.some("messages_received_total") == {"client": SPREAD}
        assert numbers["delivered_bytes_total"] == 7 * SPREAD * (SPREAD - 1)
        assert numbers["bus_messages_sent_total"] == numbers["bus_messages_received_total"] == SPREAD
        assert numbers["bus_round_trip_seconds_count"] > 0
        assert numbers["redis_up"] == 1


async def test_no_counter_decreases_when_a_worker_dies_and_is_replaced(
    server: LiveServer, clients: list[Client], keys: dict[str, str], channel: str
) -> None:
    await exchange_messages(clients)
    before = await until(lambda numbers: numbers["deliveries_total"] == SPREAD * (SPREAD - 1), server)
    victim = min(worker_pids(server))
    os.kill(victim, signal.SIGKILL)
    last = before.counters()
    while not is_replaced(server, victim):
        last = scrape_grown(last, server)
        await asyncio.sleep(0.02)
    left = [client for client in clients if client.socket.close_code is None]
    assert 0 < len(left) < SPREAD
    async with AsyncExitStack() as stack:
        path = channel_path(channel, keys["demo"])
        for _ in range(SPREAD):  # on the new worker too
            await stack.enter_async_context(open_client(server, path))
            last = scrape_grown(last, server)
        numbers = await until(lambda numbers: numbers["connections"] == len(left) + SPREAD, server)
        for _ in range(20):
            last = scrape_grown(last, server)
    assert numbers["processes"] == 2
    assert numbers["connections_opened_total"] == 2 * SPREAD
    assert numbers.some("messages_received_total") == {"client": SPREAD}
    assert numbers["deliveries_total"] == before["deliveries_total"]


async def test_build_info_has_one_sample_for_each_version_among_the_workers(server: LiveServer) -> None:
    current = (platform.python_version(), __version__)
    numbers = await until(lambda numbers: numbers["processes"] == 2, server)
    assert builds(numbers) == {current: 1}
    # A worker that was replaced after an upgrade of the code is newer than the rest.
    newer = WorkerFile(numbers_directory(server) / "newer.json")

    def shows_both(numbers: Scrape) -> bool:
        newer.write(Snapshot({}, {"build_info": {"99.0.0|3.99.0": 1}}))
        return builds(numbers) == {current: 1, ("3.99.0", "99.0.0"): 1}

    await until(shows_both, server)


def test_the_files_of_the_workers_are_private_and_deleted_when_they_stop(server: LiveServer) -> None:
    scrape(server)
    directory = numbers_directory(server)
    assert list(directory.glob("*.json")) != []
    assert directory.stat().st_mode & 0o077 == 0
    assert server.stop() == 0
    assert not directory.exists()


def numbers_directory(server: LiveServer) -> Path:
    """Return the directory in which the workers of a server keep their numbers."""
    environment = Path(f"/proc/{min(worker_pids(server))}/environ").read_text()
    return Path(environment.partition(f"{FILE_VARIABLE}=")[2].partition("\0")[0]).parent


def builds(numbers: Scrape) -> dict[tuple[str, str], float]:
    """Return the values of `build_info` by the versions of Python and of the service."""
    found = re.findall(r'^piesocket_build_info{python="(.*?)",version="(.*?)"} (.*)$', numbers.text, re.MULTILINE)
    return {(python, version): float(value) for python, version, value in found}


def scrape_grown(before: dict[tuple[str, ...], float], server: LiveServer) -> dict[tuple[str, ...], float]:
    """Scrape the counters, check that none has decreased, and return them."""
    try:
        now = scrape(server).counters()
    except httpx.TransportError:
        return before  # the worker that was asked has died
    assert {name: value for name, value in before.items() if now[name] < value} == {}
    return now
