"""How a node counts usage and passes it on: whole, once, and for the hour in which it happened."""

import asyncio
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from django.db import OperationalError

from accounts.refused_clients import OTHER_CLUSTER, Cause
from accounts.usage_counts import Counts, UsageByHour, UsedBy
from realtime.cluster.connection_counts import ConnectionCounts
from realtime.node import usage as module
from realtime.node.usage import Store, Usage
from tests.units.protocols.test_admission import ACCESS

NOON = datetime(2026, 11, 26, 12, tzinfo=UTC)
KEY, ACCOUNT = UsedBy(ACCESS.account_id, ACCESS.public_key), UsedBy(ACCESS.account_id)
NAMES = {f"key:{ACCESS.public_key}": 100, f"account:{ACCESS.account_id}": 100}


class Database:
    """Keeps what a node writes, by the number of the batch. It can lose a request, or the answer to it."""

    def __init__(self) -> None:
        self.batches: dict[int, UsageByHour] = {}
        self.faults: list[str] = []
        self.warned: list[Mapping[int, int]] = []
        self.store = Store(self.write, self.prune, self.warn)

    async def prune(self) -> bool:
        return False

    async def warn(self, peaks: Mapping[int, int]) -> None:
        self.warned.append(peaks)

    async def write(self, number: int, used: UsageByHour) -> None:
        fault = self.faults.pop(0) if self.faults else ""
        if fault != "request":
            self.batches.setdefault(number, dict(used))
        if fault:
            raise OperationalError(f"the {fault} was lost")

    @property
    def total(self) -> dict[tuple[datetime, UsedBy], Counts]:
        total: dict[tuple[datetime, UsedBy], Counts] = {}
        for batch in self.batches.values():
            for place, counts in batch.items():
                total.setdefault(place, Counts()).add(counts)
        return total


class Clock:
    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def database() -> Database:
    return Database()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def connections() -> ConnectionCounts:
    return ConnectionCounts()


@pytest.fixture
def usage(database: Database, clock: Clock, connections: ConnectionCounts) -> Usage:
    return Usage(database.store, connections, 3600, clock)


async def test_what_a_key_sends_and_what_its_account_receives_are_counted_apart(
    usage: Usage, database: Database
) -> None:
    traffic = usage.open(ACCESS)
    traffic.messages += 3
    traffic.bytes += 30
    traffic.account.deliveries.count += 6
    traffic.account.deliveries.bytes += 60
    usage.key(ACCESS).api_calls += 1
    assert await usage.flush()
    assert database.total == {
        (NOON, KEY): Counts(messages=3, message_bytes=30, api_calls=1),
        (NOON, ACCOUNT): Counts(deliveries=6, delivered_bytes=60),
    }
    assert await usage.flush()
    assert len(database.batches) == 1
    assert (usage.deliveries, usage.delivered_bytes) == (6, 60)


@pytest.mark.parametrize("fault", ["request", "answer"])
async def test_a_batch_that_fails_is_neither_lost_nor_added_twice(
    usage: Usage, database: Database, fault: str, caplog: pytest.LogCaptureFixture
) -> None:
    traffic = usage.open(ACCESS)
    database.faults = [fault] * 2
    traffic.messages += 1
    assert not await usage.flush()
    traffic.messages += 10
    assert not await usage.flush()
    traffic.messages += 100
    assert await usage.flush()
    assert database.total == {(NOON, KEY): Counts(messages=111)}
    assert [record.levelname for record in caplog.records] == ["ERROR", "WARNING"]


async def test_usage_belongs_to_the_hour_in_which_it_was_collected_last(
    usage: Usage, database: Database, clock: Clock
) -> None:
    traffic = usage.open(ACCESS)
    traffic.messages += 1
    clock.now += timedelta(hours=1)
    await usage.collect()
    traffic.messages += 10
    assert await usage.flush()
    assert database.total == {
        (NOON, KEY): Counts(messages=1),
        (NOON + timedelta(hours=1), KEY): Counts(messages=10),
    }


async def test_others_have_their_turn_while_many_keys_are_collected(usage: Usage, database: Database) -> None:
    for number in range(10_000):
        usage.open(replace(ACCESS, public_key=f"key-{number}")).messages += 1
    turns = 0

    async def count_turns() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    counting = asyncio.create_task(count_turns())
    assert await usage.flush()
    counting.cancel()
    assert turns >= 50
    assert sum(counts.messages for counts in database.total.values()) == 10_000


async def test_peaks_are_the_most_connections_of_key_and_account(
    usage: Usage, database: Database, connections: ConnectionCounts, clock: Clock
) -> None:
    places = []
    for _ in range(3):
        usage.open(ACCESS)
        place = connections.enter((1, "room"), NAMES)
        assert place is not None
        assert await connections.join(place)
        places.append(place)
    for place in places[:2]:
        connections.leave(place)
        usage.close(ACCESS)
    assert await usage.flush()
    assert database.total == dict.fromkeys([(NOON, KEY), (NOON, ACCOUNT)], Counts(peak_connections=3))
    clock.now += timedelta(hours=1)
    await usage.collect()
    await connections.note_all()
    assert await usage.flush()
    assert database.total[clock.now, ACCOUNT] == Counts(peak_connections=1)


async def test_connections_that_stay_open_count_in_the_next_hour(
    database: Database, connections: ConnectionCounts
) -> None:
    begun_at = datetime.now(UTC)
    almost = begun_at.replace(minute=59, second=59, microsecond=900_000) - begun_at

    usage = Usage(database.store, connections, 0.2, lambda: datetime.now(UTC) + almost)
    usage.open(ACCESS)
    place = connections.enter((1, "room"), NAMES)
    assert place is not None
    assert await connections.join(place)
    usage.start()
    async with asyncio.timeout(10):
        while len(database.total) < 4:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    await usage.stop()
    assert [counts.peak_connections for counts in database.total.values()] == [1] * 4
    assert {ACCESS.account_id: 1} in database.warned


async def test_owners_can_be_warned_until_an_interval_after_the_last_use(
    database: Database, connections: ConnectionCounts
) -> None:
    usage = Usage(database.store, connections, 0.05)
    usage.open(ACCESS).messages += 1
    usage.start()
    async with asyncio.timeout(10):
        while len(database.warned) < 2:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    await asyncio.sleep(0.2)
    await usage.stop()
    assert database.warned == [{ACCESS.account_id: 0}] * 2


async def test_refusals_count_for_the_key_or_else_for_the_cluster(
    usage: Usage, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_CLUSTERS", 2)
    of_key = Cause(ACCESS.account_id, ACCESS.cluster_pk, "acme", ACCESS.public_key, 4003, "bad_origin", "")
    unknown = Cause(None, None, "acme", "", 4001, "bad_key", "unknown")
    elsewhere = unknown._replace(account_pk=9, public_key="x" * 60, detail=OTHER_CLUSTER)
    for cause in (of_key, unknown, elsewhere, of_key):
        usage.refuse(cause)
    usage.refuse(unknown._replace(cluster_id="one-too-many"))
    usage.refuse(unknown._replace(cluster_id=None))
    assert await usage.flush()
    assert database.total == {
        (NOON, KEY): Counts(refusals=Counter(bad_origin=2)),
        (NOON, UsedBy(cluster_id="acme")): Counts(refusals=Counter(bad_key=2)),
    }


async def test_what_nobody_uses_any_more_is_forgotten(usage: Usage, database: Database) -> None:
    usage.open(ACCESS).messages += 1
    usage.close(ACCESS)
    usage.key(ACCESS).api_calls += 1
    assert await usage.flush()
    assert database.total == {(NOON, KEY): Counts(messages=1, api_calls=1)}
    assert await usage.flush()
    assert (usage._keys, usage._accounts) == ({}, {})


async def test_what_a_connection_sends_after_the_server_has_closed_it_is_counted(
    usage: Usage, database: Database
) -> None:
    traffic = usage.open(ACCESS)
    traffic.messages += 1
    usage.close(ACCESS)
    assert await usage.flush()
    traffic.messages += 1
    again = usage.open(ACCESS)
    again.account.deliveries.count += 1
    assert await usage.flush()
    assert database.total == {(NOON, KEY): Counts(messages=2), (NOON, ACCOUNT): Counts(deliveries=1)}


async def test_while_the_database_is_away_only_so_much_is_kept(
    usage: Usage, database: Database, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "MAX_KEPT", 1)
    database.faults = ["request"]
    usage.open(ACCESS).messages += 1
    assert not await usage.flush()
    usage.key(ACCESS).messages += 10
    usage.refuse(Cause(None, None, "acme", "", 4001, "bad_key", ""))
    assert await usage.flush()
    assert database.total == {(NOON, KEY): Counts(messages=11)}
    assert "1 counts of usage were dropped" in caplog.text


async def test_a_node_that_stops_writes_what_is_left(usage: Usage, database: Database) -> None:
    usage.start()
    usage.open(ACCESS).messages += 1
    await usage.stop()
    assert database.total == {(NOON, KEY): Counts(messages=1)}
