"""The refusals of a node in memory: bounded, counted, and written again after an outage of the database."""

import asyncio
import time
from collections.abc import Mapping, Sequence

import pytest
from django.db import DataError, OperationalError

from accounts.refusals import KEPT_PER_KEY
from accounts.refused_clients import Cause, RefusedClient
from realtime.node.refusal_log import MAX_CAUSES, MAX_KEPT, RefusalLog
from tests.clients import until


class Database:
    """Keeps what is written."""

    def __init__(self) -> None:
        self.is_reachable = True
        self.takes_all = True
        self.counts: dict[Cause, int] = {}
        self.kept: list[RefusedClient] = []

    async def record(self, counts: Mapping[Cause, int], clients: Sequence[RefusedClient]) -> None:
        if not self.is_reachable:
            raise OperationalError("unreachable")
        if not self.takes_all:
            raise DataError("value too long")
        for cause, count in counts.items():
            self.counts[cause] = self.counts.get(cause, 0) + count
        self.kept += clients

    async def prune(self) -> bool:
        return False


@pytest.fixture
def database() -> Database:
    return Database()


@pytest.fixture
async def log(database: Database) -> RefusalLog:
    return RefusalLog(database.record, database.prune)


def refused(
    key: str = "key", reason: str = "bad_jwt", host: str | None = None, account: int | None = 1
) -> RefusedClient:
    cause = Cause(account, account, host, key, 4009, reason, "")
    return RefusedClient(cause, time.time(), "room", "", "", "", "", {})


async def test_a_flood_at_one_key_keeps_the_last_and_counts_all(log: RefusalLog, database: Database) -> None:
    clients = [refused() for _ in range(10_000)]
    for client in clients:
        log.note(client)
    await log.stop()
    assert database.counts == {clients[0].cause: 10_000}
    assert database.kept == clients[-KEPT_PER_KEY:]


async def test_a_flood_at_many_keys_is_bounded_and_leaves_room_for_the_others(
    log: RefusalLog, database: Database
) -> None:
    quiet = refused("quiet")
    log.note(quiet)
    for number in range(20_000):
        log.note(refused(f"key{number % 10}"))
    await log.stop()
    assert len(database.kept) == MAX_KEPT
    assert quiet in database.kept
    assert sum(database.counts.values()) == 20_001


async def test_causes_are_bounded(log: RefusalLog, database: Database) -> None:
    for number in range(MAX_CAUSES * 2):
        log.note(refused(f"key{number}"))
    await log.stop()
    assert len(database.counts) == MAX_CAUSES


async def test_what_is_nobodys_is_not_kept(log: RefusalLog, database: Database) -> None:
    log.note(refused("", account=None))
    log.note(refused("", account=None, host="shop"))
    await log.stop()
    assert [client.cause.cluster_id for client in database.kept] == ["shop"]


async def test_it_is_written_within_seconds_and_again_after_an_outage(log: RefusalLog, database: Database) -> None:
    database.is_reachable = False
    log.start()
    log.note(refused())
    await asyncio.sleep(1.5)
    log.note(refused())
    database.is_reachable = True
    await until(lambda: len(database.kept) == 2)
    assert sum(database.counts.values()) == 2
    await log.stop()


async def test_what_cannot_be_stored_does_not_stop_later_refusals(
    log: RefusalLog, database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    database.takes_all = False
    log.note(refused("long"))
    await log.stop()
    assert caplog.messages == ["1 refusal is lost, because it cannot be stored: value too long"]
    database.takes_all = True
    log.note(refused())
    await log.stop()
    assert [client.cause.public_key for client in database.kept] == ["key"]
