"""The database is the truth: changes that nobody announced are found, and a busy database delays nobody."""

import sqlite3
from collections.abc import Callable

import pytest

from realtime.node.access_changes import RECONCILE_SECONDS
from realtime.protocols import closes
from tests.clients import channel_path, open_client, until
from tests.servers import LiveServer
from tests.sockets.test_refusals import error

REVOKE = """
from accounts.models import ApiKey
from django.utils import timezone
ApiKey.objects.filter(label="second").update(revoked_at=timezone.now())
"""


@pytest.fixture(scope="module")
def server(start: Callable[..., LiveServer]) -> LiveServer:
    return start("serve", KEY_CACHE_SECONDS="1")


async def test_a_key_that_is_revoked_by_sql_loses_its_connections(
    server: LiveServer, keys: dict[str, str], channel: str
) -> None:
    async with (
        open_client(server, channel_path(channel, keys["second"])) as concerned,
        open_client(server, channel_path(channel, keys["demo"])) as other,
    ):
        await concerned.settle()
        server.shell(REVOKE)
        assert await concerned.ending(2 * RECONCILE_SECONDS) == ([error(closes.KEY_REVOKED)], 4001)
        assert await other.count() == 1


async def test_a_held_write_lock_keeps_nobody_from_connecting(
    server: LiveServer, keys: dict[str, str], channel: str
) -> None:
    database = sqlite3.connect(server.directory / "db.sqlite3", isolation_level=None)
    database.execute("BEGIN IMMEDIATE")
    try:
        for name in ("demo", "silent", "browser", "other"):
            async with open_client(server, channel_path(channel, keys[name])) as client:
                await client.settle()
    finally:
        database.execute("ROLLBACK")
        database.close()
    used = "from accounts.models import ApiKey; print(ApiKey.objects.filter(label='silent', last_used_at=None).count())"
    await until(lambda: server.shell(used).strip() == "0", 30)
