"""Many requests without a login at the same time, on each kind of database."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from statistics import median

import pytest

from tests.clients import channel_path, open_client
from tests.servers import LiveServer

KIB = 1024


def lists(count: int) -> bytes:
    """Return JSON with so many small lists, of which a parser makes large objects."""
    return b'{"email":[' + b"[]," * count + b"[]]}"


@pytest.fixture
def server(service: Callable[..., LiveServer], tmp_path: Path) -> LiveServer:
    server = service(tmp_path)
    server.manage("migrate", "-v", "0")
    return server.start()


async def test_twenty_clients_read_the_schema_at_the_same_time(server: LiveServer) -> None:
    async with server.http_client() as client:
        for _ in range(2):
            answers = await asyncio.gather(*(client.get("/api/v1/schema/") for _ in range(20)))
            assert {answer.status_code for answer in answers} == {200}
            assert len({answer.text for answer in answers}) == 1


async def test_a_flood_of_large_bodies_neither_delays_others_nor_takes_memory(server: LiveServer) -> None:
    key = json.loads(server.manage("demo", "--json"))["key"]
    statuses: set[int] = set()
    seconds: list[float] = []
    bodies = [lists(21_000), lists(850_000)]  # 62 KiB, and 2.5 MB
    loop = asyncio.get_running_loop()
    async with (
        server.http_client(headers={"Content-Type": "application/json"}) as http,
        open_client(server, channel_path("1", key)) as client,
    ):
        await http.post("/api/v1/token/", content=b"{}")
        before = server.memory_kib()

        async def flood() -> None:
            for number in range(10):
                body = bodies[number % 2]
                statuses.add((await http.post("/api/v1/token/", content=body)).status_code)

        floods = [asyncio.create_task(flood()) for _ in range(16)]
        while not all(flood.done() for flood in floods):
            started_at = loop.time()
            await client.settle()
            seconds.append(loop.time() - started_at)
        await asyncio.gather(*floods)
    assert statuses == {400, 413, 429}
    assert server.memory_kib() - before < 200 * KIB  # with bodies of 2.5 MB, it would be 900 MiB more
    assert median(seconds) < 0.2
