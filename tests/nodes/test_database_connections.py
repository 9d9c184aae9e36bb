"""How many connections to PostgreSQL a process opens, whatever it is asked for at the same time."""

import asyncio
import secrets
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from tests.servers import LiveServer, Postgres, environment, free_port, manage, server_command

REQUESTS = 200
# One for each request that Django handles at the same time, and others for lookups of keys, other queries, and health.
MOST = 16 + 8 + 2 + 1
OPEN = "SELECT count(*) FROM pg_stat_activity WHERE client_port IS NOT NULL AND pid <> pg_backend_pid()"


@pytest.fixture
def postgres() -> Iterator[Postgres]:
    with Postgres() as postgres:
        yield postgres


@pytest.fixture
def node(postgres: Postgres, tmp_path: Path) -> Iterator[LiveServer]:
    env = {"DATABASE_URL": postgres.url(), "REQUESTS_PER_MINUTE_PER_ADDRESS": "100000"}
    manage(environment(tmp_path, **env), "migrate", "-v", "0")
    port = free_port()
    with LiveServer(tmp_path, server_command("serve", port, tmp_path), port, **env).start() as node:
        yield node
    assert "Traceback" not in node.log, node.log


async def test_concurrent_requests_with_invalid_tokens_and_keys_share_a_few_connections(
    postgres: Postgres, node: LiveServer
) -> None:
    counts: list[int] = []
    async with node.http_client() as client, await psycopg.AsyncConnection.connect(postgres.url()) as database:
        await database.set_autocommit(True)

        async def ask_api() -> int:
            token = secrets.token_hex(32)
            return (await client.get("/api/v1/accounts/", headers={"Authorization": f"Token {token}"})).status_code

        async def ask_cluster() -> int:
            credentials = {"key": secrets.token_hex(30), "secret": "x" * 60}
            return (await client.get("/api/connections", headers=credentials)).status_code

        async def count() -> None:
            row = await (await database.execute(OPEN)).fetchone()
            assert row is not None
            counts.append(row[0])

        answers = [asyncio.create_task(ask()) for _ in range(REQUESTS) for ask in (ask_api, ask_cluster)]
        while not all(answer.done() for answer in answers):
            await count()
            await asyncio.sleep(0.01)
        await count()
    assert {answer.result() for answer in answers} <= {401, 429}
    assert 0 < max(counts) <= MOST
