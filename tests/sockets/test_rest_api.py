"""The REST API and the pages over the network: many requests at the same time, and requests that are not as usual."""

import time
from collections.abc import Callable

from tests.servers import LiveServer


async def test_bad_hosts_write_at_most_one_short_line_a_second(start: Callable[..., LiveServer]) -> None:
    server = start("serve")
    started_at = time.monotonic()
    async with server.http_client() as client:
        for number in range(60):
            host = f"evil-{number}.example" if number % 2 else "e" * 10_000
            assert (await client.get("/", headers={"Host": host})).status_code == 400
    lines = [line for line in server.log.splitlines() if "DisallowedHost" in line]
    assert 1 <= len(lines) <= time.monotonic() - started_at + 1
    assert max(map(len, lines)) < 500


async def test_a_form_in_another_charset_with_a_csrf_token_gets_400(serve: LiveServer) -> None:
    async with serve.http_client() as client:
        token = (await client.get("/console/you/login/")).cookies["csrftoken"]
        headers = {"X-CSRFToken": token, "Content-Type": "application/x-www-form-urlencoded; charset=utf-16"}
        assert (
            await client.post("/console/you/login/", content=b"login=a&password=b", headers=headers)
        ).status_code == 400


async def test_a_token_is_obtained_without_the_last_slash(serve: LiveServer) -> None:
    async with serve.http_client() as client:
        login = {"email": "owner@example.com", "password": "owner-password"}
        assert "token" in (await client.post("/api/v1/token", json=login)).json()
