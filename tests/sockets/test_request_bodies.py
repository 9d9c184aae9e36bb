"""Requests with large bodies, without a login: what the server reads and parses, and what others notice of it."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from statistics import median

import pytest

from tests.clients import channel_path, open_client
from tests.servers import LiveServer

KIB = 1024
MOST = 64 * KIB


def lists(count: int) -> bytes:
    """Return JSON with so many small lists, of which a parser makes large objects."""
    return b'{"email":[' + b"[]," * count + b"[]]}"


def sentence(most: int) -> str:
    return f"The request is larger than {most} bytes; send less at a time."


@pytest.mark.parametrize(
    ("path", "member", "most"),
    [
        ("/api/v1/token/", "detail", MOST),
        ("/api/v1/accounts/", "detail", MOST),
        ("/api/v1/none", "detail", MOST),
        ("/api/%76%31/token/", "error", MOST),
        ("/admin/login/", "detail", 4 * MOST),
        ("/", "detail", MOST),
        ("/v3/1", "detail", MOST),
    ],
)
async def test_a_larger_body_is_rejected_before_it_has_arrived(
    serve: LiveServer, path: str, member: str, most: int
) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", serve.port)
    writer.write(b"POST %b HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % (path.encode(), most + 1))
    async with asyncio.timeout(10):
        head, body = (await reader.readuntil(b"\r\n\r\n"), await reader.readuntil(b"}"))
    writer.close()
    assert head.startswith(b"HTTP/1.1 413 ")
    assert b"\r\nContent-Type: application/json\r\n" in head
    assert json.loads(body) == {member: sentence(most)}


@pytest.mark.parametrize("chunked", [False, True])
async def test_every_server_rejects_a_larger_body(server: LiveServer, chunked: bool) -> None:
    body = b"[" * (MOST + 1)

    async def stream() -> AsyncIterator[bytes]:
        yield body

    async with server.http_client(headers={"Content-Type": "application/json"}) as client:
        answer = await client.post("/api/v1/token/", content=stream() if chunked else body)
        assert (answer.status_code, answer.json()) == (413, {"detail": sentence(MOST)})
        largest = await client.post("/api/v1/token/", content=body[:-1])
        assert (largest.status_code, list(largest.json())) == (400, ["detail"])


async def test_a_flood_of_large_bodies_neither_delays_others_nor_takes_memory(
    start: Callable[..., LiveServer], keys: dict[str, str]
) -> None:
    server = start("serve")
    statuses: set[int] = set()
    seconds: list[float] = []
    bodies = [lists(21_000), lists(850_000)]  # 62 KiB, and 2.5 MB
    loop = asyncio.get_running_loop()
    async with (
        server.http_client(headers={"Content-Type": "application/json"}) as http,
        open_client(server, channel_path("1", keys["demo"])) as client,
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
