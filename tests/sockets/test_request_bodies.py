"""Requests with large bodies, without a login: what the server reads and parses, and what others notice of it."""

import asyncio
import json
from collections.abc import AsyncIterator

import pytest

from tests.servers import LiveServer

KIB = 1024
MOST = 64 * KIB


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
