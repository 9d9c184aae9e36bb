"""What any client can write to the log: paths without query strings, and few lines about wrong hosts."""

import asyncio
import re
import time
from collections.abc import Callable

import httpx
import pytest
from websockets.exceptions import InvalidStatus

from tests.clients import channel_path, open_client
from tests.servers import LiveServer

QUERY = "api_key=the-key&jwt=the.jwt.itself&secret=the-secret"


@pytest.mark.parametrize(
    ("kind", "arguments"),
    [("daphne", ["--access-log", "-"]), ("daphne", ["-v", "1"]), ("uvicorn", ["--log-level", "info"])],
)
async def test_access_logs_contain_paths_but_no_query_strings(
    start: Callable[..., LiveServer], keys: dict[str, str], channel: str, kind: str, arguments: list[str]
) -> None:
    server = start(kind, *arguments)
    async with open_client(server, channel_path(channel, keys["demo"], jwt="the.jwt.itself", secret="the-secret")):
        pass
    async with open_client(server, channel_path(channel, keys["demo"])) as client:
        await client.settle()
    async with httpx.AsyncClient(base_url=server.url("", scheme="http"), trust_env=False) as client:
        for path in (f"/v3/{channel}", "/api/publish", "/none", "/api/v1/accounts/", "/admin/"):
            await client.get(f"{path}?{QUERY}")
            await client.post(f"{path}?{QUERY}", json={})
    with pytest.raises(InvalidStatus):
        async with open_client(server, f"/v3/{channel}?{QUERY}", additional_headers={"Sec-WebSocket-Protocol": "\xe9"}):
            pass
    deadline = time.monotonic() + 10
    while not re.search(r"/admin/.*/admin/", server.log, re.DOTALL):
        assert time.monotonic() < deadline, server.log
        await asyncio.sleep(0.05)
    assert f"/v3/{channel}" in server.log
    for secret in ("the-key", "the.jwt.itself", "the-secret", keys["demo"], "api_key"):
        assert secret not in server.log


async def test_wrong_hosts_write_at_most_a_line_a_second(serve: LiveServer) -> None:
    before = len(serve.log)
    started_at = time.monotonic()
    async with serve.http_client() as client:
        answers = [await client.get("/", headers={"Host": f"host-{number}.example.org"}) for number in range(100)]
    seconds = time.monotonic() - started_at
    assert {answer.status_code for answer in answers} == {400}
    lines = serve.log[before:].count("Invalid HTTP_HOST header")
    assert 1 <= lines <= seconds + 1
