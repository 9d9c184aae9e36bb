"""Quotas for messages: the rate of a connection, and the daily number of an account."""

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import pytest
from django.db import OperationalError

from accounts.usage import seconds_to_midnight, today
from realtime.node import message_quotas
from realtime.node.message_quotas import Bucket, MessageQuotas, connection_quotas
from tests.units.protocols.test_admission import ACCESS

OTHER_KEY = replace(ACCESS, public_key="o" * 60)
OTHER_ACCOUNT = replace(ACCESS, public_key="p" * 60, account_id=9)


class Clock:
    """The clock of the module under test."""

    now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(message_quotas, "time", clock)
    return clock


def count_message(bucket: Bucket) -> bool:
    """Count a message as its sender does; return whether it may be sent."""
    bucket.tokens -= 1
    return bucket.tokens >= 0 or bucket.refill()


def allowed(bucket: Bucket, tries: int) -> int:
    return [count_message(bucket) for _ in range(tries)].count(True)


def test_a_bucket_allows_a_burst_and_then_a_steady_rate(clock: Clock) -> None:
    bucket = Bucket(10)
    assert allowed(bucket, 30) == 10
    clock.now += 0.5
    assert allowed(bucket, 30) == 5
    clock.now += 3600
    assert allowed(bucket, 30) == 10


def test_a_sender_within_its_quota_is_never_refused(clock: Clock) -> None:
    bucket = Bucket(10)
    for _ in range(1000):
        clock.now += 0.1
        assert count_message(bucket)


def test_at_twice_the_quota_half_of_the_messages_are_refused_and_it_is_not_a_flood(clock: Clock) -> None:
    bucket = Bucket(10)
    sent = 0
    for _ in range(2000):
        clock.now += 0.05
        sent += count_message(bucket)
    assert 1000 <= sent <= 1020
    assert not bucket.is_flooded


def test_three_times_the_quota_for_some_seconds_is_a_flood(clock: Clock) -> None:
    bucket = Bucket(10)
    seconds = 0.0
    while not bucket.is_flooded:
        seconds += 1 / 30
        clock.now += 1 / 30
        count_message(bucket)
    assert 4 < seconds < 10


def test_a_sender_with_a_small_quota_has_time_to_read_the_notice(clock: Clock) -> None:
    bucket = Bucket(1)
    assert allowed(bucket, message_quotas.PATIENCE_MESSAGES) == 1
    assert not bucket.is_flooded


def test_a_changed_rate_applies_immediately(clock: Clock) -> None:
    bucket = Bucket(10)
    bucket.set_rate(2)
    assert allowed(bucket, 30) == 2
    bucket.set_rate(100)
    clock.now += 1
    assert allowed(bucket, 300) == 100


DAY = date(2030, 1, 1)


class Calendar:
    """A calendar whose day the test changes."""

    day = DAY

    def __call__(self) -> date:
        return self.day


class Ledger:
    """What the whole service has recorded."""

    def __init__(self, day: date | None = None, **totals: int) -> None:
        self.day = day or today()
        self.by_day = {(self.day, int(pk.removeprefix("account_"))): total for pk, total in totals.items()}
        self.broken = False

    @property
    def totals(self) -> dict[int, int]:
        """What is recorded for the most recent day."""
        return {pk: total for (day, pk), total in self.by_day.items() if day == self.day}

    async def record(self, counts: Mapping[int, int], day: date) -> Mapping[int, int]:
        if self.broken:
            raise OperationalError("gone")
        self.day = max(self.day, day)
        for pk, count in counts.items():
            self.by_day[day, pk] = self.by_day.get((day, pk), 0) + count
        return {pk: self.by_day[day, pk] for pk in counts}


async def test_the_connection_quotas_are_those_of_the_account_and_of_the_key() -> None:
    narrow = replace(ACCESS, quotas=replace(ACCESS.quotas, key_connections=1))
    assert connection_quotas(narrow) == {"account:1": 10, f"key:{narrow.public_key}": 1}


async def test_the_daily_quota_of_an_account_applies_across_all_nodes() -> None:
    ledger = Ledger(account_1=900)
    quotas = MessageQuotas(ledger.record)
    use = quotas.account(ACCESS)
    assert use.take(60)
    await quotas.sync()
    assert ledger.totals[1] == 960
    assert use.take(40)
    assert not use.take()
    await quotas.sync()
    assert ledger.totals[1] == 1000
    assert not use.take()


async def test_a_new_day_starts_at_zero_and_the_old_one_keeps_what_was_sent_on_it() -> None:
    ledger, calendar = Ledger(DAY, account_1=990), Calendar()
    quotas = MessageQuotas(ledger.record, calendar)
    use = quotas.open(ACCESS)
    await quotas.sync()
    assert use.take(10)
    assert not use.take()
    calendar.day = DAY + timedelta(days=1)
    await quotas.sync()
    assert use.take(400)
    await quotas.sync()
    assert ledger.by_day == {(DAY, 1): 1000, (calendar.day, 1): 400}
    assert use.take(600)
    assert not use.take()


async def test_stopping_records_what_is_left_once_even_while_it_is_being_written() -> None:
    ledger = Ledger()
    may_write = asyncio.Event()

    async def record(counts: Mapping[int, int], day: date) -> Mapping[int, int]:
        await may_write.wait()
        return await ledger.record(counts, day)

    quotas = MessageQuotas(record)
    quotas.start()
    quotas.account(ACCESS).take(100)
    await asyncio.sleep(0.01)
    stopping = asyncio.create_task(quotas.stop())
    await asyncio.sleep(0.01)
    may_write.set()
    await stopping
    assert ledger.totals == {1: 100}


async def test_stopping_does_not_wait_forever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(message_quotas, "STOP_SECONDS", 0.05)

    async def record(counts: Mapping[int, int], day: date) -> Mapping[int, int]:
        await asyncio.Event().wait()
        return {}

    quotas = MessageQuotas(record)
    quotas.start()
    quotas.account(ACCESS).take(1)
    await asyncio.sleep(0.01)
    async with asyncio.timeout(1):
        await quotas.stop()


async def test_a_batch_over_the_quota_is_refused_and_not_counted() -> None:
    use = MessageQuotas(Ledger().record).account(ACCESS)
    assert not use.take(1001)
    assert use.take(1000)


async def test_messages_sent_during_a_write_are_counted_once() -> None:
    ledger = Ledger()
    quotas = MessageQuotas(ledger.record)
    use = quotas.account(ACCESS)
    use.take(10)

    async def record(counts: Mapping[int, int], day: date) -> Mapping[int, int]:
        use.take(5)
        return await ledger.record(counts, day)

    quotas._record = record
    await quotas.sync()
    assert (ledger.totals[1], use.sent) == (10, 5)


async def test_no_count_is_lost_while_the_database_is_unreachable() -> None:
    ledger = Ledger()
    quotas = MessageQuotas(ledger.record)
    quotas.account(ACCESS).take(10)
    ledger.broken = True
    await quotas.sync()
    ledger.broken = False
    await quotas.sync()
    assert ledger.totals[1] == 10


async def test_a_changed_daily_quota_applies_immediately() -> None:
    quotas = MessageQuotas(Ledger().record)
    quotas.account(ACCESS).take(500)
    raised = replace(ACCESS, quotas=replace(ACCESS.quotas, messages_per_day=2000))
    lowered = replace(ACCESS, quotas=replace(ACCESS.quotas, messages_per_day=500))
    assert quotas.account(raised).take(1500)
    assert not quotas.account(lowered).take()


async def test_an_idle_account_is_forgotten_unless_it_has_used_up_its_daily_quota() -> None:
    quotas = MessageQuotas(Ledger().record)
    quotas.account(ACCESS).take(1)
    quotas.account(OTHER_ACCOUNT).take(1000)
    for _ in range(2):
        await quotas.sync()
    assert list(quotas._accounts) == [9]


async def test_what_an_account_has_sent_on_other_nodes_is_loaded_immediately() -> None:
    quotas = MessageQuotas(Ledger(account_1=1000).record)
    quotas.start()
    await asyncio.sleep(0.01)
    use = quotas.account(ACCESS)
    assert use.take()
    await asyncio.sleep(0.01)
    assert not use.take()
    await quotas.stop()


def test_a_new_day_begins_at_midnight_utc() -> None:
    now = datetime.now(UTC)
    assert 0 <= 86400 - (now.hour * 3600 + now.minute * 60 + now.second) - seconds_to_midnight() <= 1


async def test_a_day_that_ends_while_the_database_is_unreachable_is_recorded_later_and_limits_nobody() -> None:
    ledger, calendar = Ledger(DAY), Calendar()
    quotas = MessageQuotas(ledger.record, calendar)
    use = quotas.account(ACCESS)
    assert use.take(1000)
    ledger.broken = True
    await quotas.sync()
    calendar.day = DAY + timedelta(days=1)
    await quotas.sync()
    assert use.take(7)
    ledger.broken = False
    await quotas.sync()
    assert ledger.by_day == {(DAY, 1): 1000, (calendar.day, 1): 7}
    assert quotas.messages == 1007


async def test_a_day_that_ends_while_its_counts_are_recorded_is_recorded_once() -> None:
    ledger, calendar = Ledger(DAY), Calendar()

    async def record(counts: Mapping[int, int], day: date) -> Mapping[int, int]:
        totals = await ledger.record(counts, day)
        if day == DAY and calendar.day == DAY:
            use.take(5)
            calendar.day = DAY + timedelta(days=1)
        return totals

    quotas = MessageQuotas(record, calendar)
    use = quotas.account(ACCESS)
    use.take(10)
    await quotas.sync()
    use.take(1)
    await quotas.sync()
    assert ledger.by_day == {(DAY, 1): 15, (calendar.day, 1): 1}
    assert quotas.messages == 16
