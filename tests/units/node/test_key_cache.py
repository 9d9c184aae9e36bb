"""The cache of API keys that admission uses."""

import asyncio
import threading
from dataclasses import replace

import pytest
from django.db import OperationalError

from accounts.key_access import KeyAccess
from realtime.node import key_cache as keys_module
from realtime.node.key_cache import KeyCache
from tests.clients import until
from tests.units.protocols.test_admission import ACCESS, KEY

UNKNOWN = "u" * 60


class Database:
    """Stands in for the database and records which keys are looked up."""

    def __init__(self, **known: KeyAccess) -> None:
        self.known = known
        self.asked: list[str] = []
        self.broken = False
        self.may_answer = threading.Event()
        self.may_answer.set()

    async def load(self, public_key: str) -> KeyAccess | None:
        return await asyncio.get_running_loop().run_in_executor(None, self._query, public_key)

    def _query(self, public_key: str) -> KeyAccess | None:
        self.asked.append(public_key)
        found = self.known.get(public_key)
        assert self.may_answer.wait(10)
        if self.broken:
            raise OperationalError("gone")
        return found


@pytest.mark.parametrize("text", ["", "x" * 10_000_000, "k" * 61, "é" * 60])
async def test_text_that_cannot_be_a_key_is_neither_looked_up_nor_cached(text: str) -> None:
    database = Database()
    cache = KeyCache(database.load, 30)
    assert await cache.find(text) is None
    assert (database.asked, len(cache._unknown)) == ([], 0)


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def database() -> Database:
    return Database(**{KEY: ACCESS})


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def cache(database: Database, clock: Clock) -> KeyCache:
    return KeyCache(database.load, 30, clock)


async def test_a_key_is_looked_up_once_until_its_entry_expires(
    cache: KeyCache, database: Database, clock: Clock
) -> None:
    assert [await cache.find(KEY) for _ in range(3)] == [ACCESS] * 3
    assert await cache.find(UNKNOWN) is None
    assert await cache.find(UNKNOWN) is None
    assert database.asked == [KEY, UNKNOWN]
    clock.now += 31
    await cache.find(KEY)
    assert database.asked == [KEY, UNKNOWN, KEY]


async def test_what_is_cached_is_found_without_waiting_and_anything_else_must_be_looked_up(
    cache: KeyCache, database: Database, clock: Clock
) -> None:
    for key in (KEY, UNKNOWN):
        with pytest.raises(KeyError):
            cache.find_cached(key)
        await cache.find(key)
    assert [cache.find_cached(key) for key in (KEY, UNKNOWN, "not a key")] == [ACCESS, None, None]
    clock.now += 31
    for key in (KEY, UNKNOWN):
        with pytest.raises(KeyError):
            cache.find_cached(key)
    assert database.asked == [KEY, UNKNOWN]


async def test_simultaneous_lookups_share_one_query(cache: KeyCache, database: Database) -> None:
    assert await asyncio.gather(*(cache.find(KEY) for _ in range(100))) == [ACCESS] * 100
    assert database.asked == [KEY]


async def test_a_cancelled_lookup_does_not_affect_others_that_share_its_query(
    cache: KeyCache, database: Database
) -> None:
    database.may_answer.clear()
    first, second = (asyncio.create_task(cache.find(KEY)) for _ in range(2))
    await asyncio.sleep(0.01)
    first.cancel()
    await asyncio.sleep(0)
    database.may_answer.set()
    assert await second == ACCESS


@pytest.mark.parametrize(
    "change", [{"public_key": KEY}, {"account_id": ACCESS.account_id}, {"cluster_pk": ACCESS.cluster_pk}]
)
async def test_a_change_causes_a_new_lookup(cache: KeyCache, database: Database, change: dict[str, object]) -> None:
    await cache.find(KEY)
    database.known[KEY] = replace(ACCESS, revoked=True)
    cache.forget(**change)  # type: ignore[arg-type]
    found = await cache.find(KEY)
    assert found is not None
    assert found.revoked


@pytest.mark.parametrize("change", [{"public_key": "other"}, {"account_id": 99}, {"cluster_pk": 99}])
async def test_a_change_to_something_else_causes_no_new_lookup(
    cache: KeyCache, database: Database, change: dict[str, object]
) -> None:
    await cache.find(KEY)
    cache.forget(**change)  # type: ignore[arg-type]
    await cache.find(KEY)
    assert database.asked == [KEY]


async def test_an_unknown_key_is_found_as_soon_as_it_is_announced(cache: KeyCache, database: Database) -> None:
    await cache.find(UNKNOWN)
    database.known[UNKNOWN] = replace(ACCESS, public_key=UNKNOWN)
    cache.forget(public_key=UNKNOWN)
    assert await cache.find(UNKNOWN) == database.known[UNKNOWN]


async def test_a_key_that_changes_during_its_lookup_is_not_cached(cache: KeyCache, database: Database) -> None:
    database.may_answer.clear()
    reading = asyncio.create_task(cache.find(KEY))
    await asyncio.sleep(0.05)
    version = cache.version
    cache.forget(public_key=KEY)
    database.may_answer.set()
    await reading
    assert cache.version != version
    await cache.find(KEY)
    assert database.asked == [KEY, KEY]


async def test_cached_keys_stay_usable_while_the_database_is_unreachable(
    cache: KeyCache, database: Database, clock: Clock
) -> None:
    await cache.find(KEY)
    database.broken = True
    clock.now += 31
    assert await cache.find(KEY) == ACCESS
    with pytest.raises(OperationalError):
        await cache.find(UNKNOWN)


async def test_nobody_waits_long_for_a_database_that_does_not_answer(
    cache: KeyCache, database: Database, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keys_module, "ANSWER_SECONDS", 0.2)
    monkeypatch.setattr(keys_module, "EXPIRED_ANSWER_SECONDS", 0.1)
    await cache.find(KEY)
    clock.now += 31
    database.may_answer.clear()
    assert await cache.find(KEY) == ACCESS
    clock.now += 0.2
    async with asyncio.timeout(0.1):
        assert await cache.find(KEY) == ACCESS
        with pytest.raises(OperationalError):
            await cache.find(UNKNOWN)
    assert database.asked == [KEY, KEY]
    database.known[KEY] = replace(ACCESS, revoked=True)
    database.may_answer.set()
    await asyncio.gather(*cache._loading.values())
    assert await cache.find(UNKNOWN) is None


async def test_the_number_of_simultaneous_lookups_is_limited(
    cache: KeyCache, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keys_module, "MAX_QUERIES", 10)
    database.may_answer.clear()
    asking = [asyncio.create_task(cache.find(f"{number:060}")) for number in range(20)]
    done, _ = await asyncio.wait(asking, timeout=0.1)
    assert [type(task.exception()) for task in done] == [OperationalError] * 10
    database.may_answer.set()
    assert await asyncio.gather(*(set(asking) - done)) == [None] * 10


async def test_guessing_neither_fills_memory_nor_evicts_known_keys(
    cache: KeyCache, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keys_module, "MAX_UNKNOWN_KEYS", 10)
    await cache.find(KEY)
    for number in range(50):
        await cache.find(f"{number:060}")
    await cache.find(KEY)
    assert database.asked.count(KEY) == 1
    assert len(cache._unknown) == 10


@pytest.mark.parametrize("change", [{"public_key": KEY}, {"account_id": ACCESS.account_id}, {"cluster_pk": 99}, None])
async def test_an_answer_that_was_read_before_a_change_is_not_given_to_whoever_asks_after_it(
    change: dict[str, object] | None, cache: KeyCache, database: Database
) -> None:
    database.may_answer.clear()
    before = asyncio.create_task(cache.find_current(KEY))
    await until(lambda: database.asked == [KEY])
    revoked = database.known[KEY] = replace(ACCESS, revoked=True)
    if change is None:
        cache.forget_all()
    else:
        cache.forget(**change)  # type: ignore[arg-type]
    after = asyncio.create_task(cache.find(KEY))
    await until(lambda: database.asked == [KEY, KEY])
    database.may_answer.set()
    assert await asyncio.gather(before, after) == [revoked, revoked]
    assert await cache.find(KEY) == revoked
