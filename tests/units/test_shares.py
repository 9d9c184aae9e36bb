"""Connections are counted among nodes that share a Redis, whatever happens to one of them."""

import asyncio
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
import redis.asyncio

from realtime import shares as module
from realtime.shares import PREFIX, RedisShares, Shares, of_user_everywhere
from tests.servers import Redis

CHANNEL = (7, "room")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with Redis(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
async def node(server: Redis, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Callable[[str], RedisShares]]:
    """Start nodes by name on an empty Redis, all with shorter times."""
    monkeypatch.setattr(module, "RENEW_SECONDS", 0.05)
    monkeypatch.setattr(module, "LEASE_SECONDS", 0.3)
    monkeypatch.setattr(module, "ANSWER_SECONDS", 0.3)
    async with redis.asyncio.from_url(server.url) as client:
        await client.flushall()
    started: list[RedisShares] = []

    def start(name: str) -> RedisShares:
        shares = RedisShares(server.url, name)
        shares.start()
        started.append(shares)
        return shares

    yield start
    for shares in started:
        await shares.stop()
    module._client(server.url).close()
    module._client.cache_clear()


async def count(shares: Shares, channel: tuple[int, str] = CHANNEL) -> int:
    future = asyncio.get_running_loop().create_future()
    shares.count(channel, future.set_result)
    async with asyncio.timeout(5):
        return int(await future)


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(10):
        while not await condition():  # noqa: ASYNC110
            await asyncio.sleep(0.02)


async def test_alone_a_node_counts_what_it_has() -> None:
    shares = Shares()
    shares.add(CHANNEL, "account:1", "key:a")
    shares.add(CHANNEL, "account:1", "key:b")
    shares.add((7, "other"), "account:1", "key:b")
    assert await count(shares) == 2
    assert await shares.of_cluster(7) == {"room": 2, "other": 1}
    assert [shares.of_user(user) for user in ("account:1", "key:a", "key:b", "key:c")] == [3, 1, 2, 0]
    for channel in (CHANNEL, CHANNEL, (7, "other")):
        shares.add(channel, "account:1", connections=-1)
    assert (await count(shares), await shares.of_cluster(7)) == (0, {})


async def test_what_is_written_is_counted_by_all(node: Callable[[str], RedisShares]) -> None:
    one, two, three = map(node, ("one", "two", "three"))
    for shares in (one, one, two):
        shares.add(CHANNEL, "account:1")
        await shares.written()
    assert [await count(shares) for shares in (one, two, three)] == [3, 3, 3]
    assert await three.of_cluster(7) == {"room": 3}
    assert await three.of_cluster(8) == {}
    one.add(CHANNEL, "account:1", connections=-1)
    await one.written()
    assert await count(two) == 2


async def test_written_waits_for_a_write_that_has_begun(
    node: Callable[[str], RedisShares], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = node("one"), node("two")
    await count(one)
    write = one._write

    async def write_slowly(*args: Any) -> None:
        await asyncio.sleep(0.1)
        await write(*args)

    monkeypatch.setattr(one, "_write", write_slowly)
    one.add(CHANNEL)
    await asyncio.sleep(0.05)
    await one.written()
    assert await count(two) == 1


async def test_who_asks_at_once_shares_a_question_and_gets_an_answer_each(node: Callable[[str], RedisShares]) -> None:
    one, two = node("one"), node("two")
    two.add(CHANNEL)
    await two.written()
    assert await asyncio.gather(*(count(one) for _ in range(500))) == [1] * 500


async def test_users_are_counted_everywhere_within_a_look(node: Callable[[str], RedisShares], server: Redis) -> None:
    one, two = node("one"), node("two")
    one.add(CHANNEL, "account:1", "key:a")
    two.add(CHANNEL, "account:1", "key:b")
    await asyncio.sleep(0.3)
    assert [shares.of_user("account:1") for shares in (one, two)] == [2, 2]
    assert (one.of_user("key:b"), of_user_everywhere(server.url, "account:1")) == (1, 2)


async def test_a_node_that_dies_is_counted_no_longer_and_leaves_nothing(
    node: Callable[[str], RedisShares], server: Redis
) -> None:
    one, two = node("one"), node("two")
    two.add(CHANNEL, "account:1")
    await two.written()
    for task in two._tasks:  # as good as SIGKILL: it says nothing more
        task.cancel()

    async def is_forgotten() -> bool:
        return await count(one) == 0

    await until(is_forgotten)
    await asyncio.sleep(0.2)
    async with redis.asyncio.from_url(server.url, decode_responses=True) as client:
        assert [key for key in await client.keys(f"{PREFIX}*") if "two" in key] == []
        assert await client.smembers(f"{PREFIX}nodes") == {"one"}


async def test_a_node_that_stops_is_counted_no_longer_at_once(node: Callable[[str], RedisShares]) -> None:
    one, two = node("one"), node("two")
    two.add(CHANNEL)
    await two.written()
    await two.stop()
    assert await count(one) == 0


async def test_what_redis_has_forgotten_is_said_again(node: Callable[[str], RedisShares], server: Redis) -> None:
    one, two = node("one"), node("two")
    two.add(CHANNEL, "account:1")
    await two.written()
    async with redis.asyncio.from_url(server.url) as client:
        await client.flushall()

    async def is_back() -> bool:
        return await count(one) == 1

    await until(is_back)
    await asyncio.sleep(0.2)
    assert one.of_user("account:1") == 1


@pytest.mark.parametrize("how", ["stopped", "frozen"])
async def test_while_redis_is_away_a_node_counts_its_own_and_afterwards_all(
    node: Callable[[str], RedisShares], server: Redis, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    one, two = node("one"), node("two")
    for shares in (one, two):
        shares.add(CHANNEL, "account:1")
        await shares.written()
    server.stop() if how == "stopped" else server.process.send_signal(signal.SIGSTOP)
    try:
        assert await count(one) == 1
        one.add(CHANNEL, "account:1")
        async with asyncio.timeout(1):
            await one.written()
        assert await count(one) == 2
        assert (one.is_reachable, one.of_user("account:1")) == (False, 2)
        await asyncio.sleep(0.5)
    finally:
        server.start() if how == "stopped" else server.process.send_signal(signal.SIGCONT)

    async def is_exact() -> bool:
        return [await count(shares) for shares in (one, two)] == [3, 3] and one.of_user("account:1") == 3

    await until(is_exact)
    assert one.is_reachable
    told = [record.message for record in caplog.records if record.name == module.__name__]
    assert 0 < len([message for message in told if "out of reach" in message]) <= 2 * 3
