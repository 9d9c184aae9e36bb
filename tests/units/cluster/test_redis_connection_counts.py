"""Nodes that share a Redis count their connections together, whatever happens to one of them."""

import asyncio
import signal
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
import redis.asyncio

from realtime.cluster import redis_client, redis_queries
from realtime.cluster import redis_connection_counts as module
from realtime.cluster.connection_counts import ConnectionCounts, Place
from realtime.cluster.redis_connection_counts import RedisConnectionCounts
from realtime.cluster.redis_queries import of_all_everywhere, of_all_known, of_clusters_everywhere, of_users_everywhere
from tests.servers import Redis

CHANNEL = (7, "room")
PREFIX = "test:0:"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with Redis(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
async def node(server: Redis, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Callable[[str], RedisConnectionCounts]]:
    """A function that starts nodes by name on an empty Redis, with short intervals."""
    monkeypatch.setattr(module, "RENEW_SECONDS", 0.05)
    monkeypatch.setattr(module, "LEASE_SECONDS", 0.3)
    monkeypatch.setattr(module, "ANSWER_SECONDS", 0.3)
    async with redis.asyncio.from_url(server.url) as client:
        await client.flushall()
    started: list[RedisConnectionCounts] = []

    def start(name: str) -> RedisConnectionCounts:
        counts = RedisConnectionCounts(server.url, PREFIX, name)
        counts.start()
        started.append(counts)
        return counts

    yield start
    for counts in started:
        await counts.stop()
    redis_queries._client(server.url, redis_queries.SECONDS).close()
    redis_queries._client.cache_clear()


def enter(counts: ConnectionCounts, *users: str, channel: tuple[int, str] = CHANNEL, quota: int = 1_000) -> Place:
    """Add a connection of users that each have this quota."""
    place = counts.enter(channel, dict.fromkeys(users, quota))
    assert place is not None
    return place


async def settle(counts: ConnectionCounts, *users: str, channel: tuple[int, str] = CHANNEL) -> Place:
    """Add a connection and return once all nodes count it."""
    place = enter(counts, *users, channel=channel)
    assert await counts.join(place)
    return place


async def count(counts: ConnectionCounts, channel: tuple[int, str] = CHANNEL) -> int:
    future = asyncio.get_running_loop().create_future()
    counts.count(channel, future.set_result)
    async with asyncio.timeout(5):
        return int(await future)


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(10):
        while not await condition():  # noqa: ASYNC110
            await asyncio.sleep(0.02)


async def test_many_channels_are_written_with_few_commands(
    node: Callable[[str], RedisConnectionCounts], server: Redis
) -> None:
    counts = node("a")
    await settle(counts, "user")
    key = f"{PREFIX}channels:a:7"
    async with redis.asyncio.from_url(server.url) as client:
        places = [enter(counts, "user", channel=(7, str(number))) for number in range(200)]
        assert all(await asyncio.gather(*map(counts.join, places)))
        assert await client.hlen(key) == 201
        await client.config_resetstat()
        await asyncio.sleep(module.REWRITE_RENEWALS * module.RENEW_SECONDS)  # all are written again
        for place in places:
            counts.leave(place)
        await until(lambda: has_length(client, key, 1))
        commands = await client.info("commandstats")
    assert commands["cmdstat_hset"]["calls"] < 40
    assert commands["cmdstat_hdel"]["calls"] < 40


async def has_length(client: redis.asyncio.Redis, key: str, length: int) -> bool:
    return bool(await client.hlen(key) == length)


async def test_a_single_node_counts_its_own_connections() -> None:
    counts = ConnectionCounts()
    places = [
        await settle(counts, "account:1", "key:a"),
        await settle(counts, "account:1", "key:b"),
        await settle(counts, "account:1", "key:b", channel=(7, "other")),
    ]
    assert await count(counts) == 2
    assert await counts.of_cluster(7) == {"room": 2, "other": 1}
    assert [counts.of_user(user) for user in ("account:1", "key:a", "key:b", "key:c")] == [3, 1, 2, 0]
    for place in places:
        counts.leave(place)
    assert (await count(counts), await counts.of_cluster(7)) == (0, {})


async def test_the_connections_of_a_node_are_counted_on_all_nodes(node: Callable[[str], RedisConnectionCounts]) -> None:
    one, two, three = map(node, ("one", "two", "three"))
    places = [await settle(counts, "account:1") for counts in (one, one, two)]

    async def is_exact() -> bool:  # Redis may answer too late on a busy machine
        return [await count(counts) for counts in (one, two, three)] == [3, 3, 3]

    await until(is_exact)
    assert await three.of_cluster(7) == {"room": 3}
    assert await three.of_cluster(8) == {}
    one.leave(places[0])

    async def is_known() -> bool:
        return await count(two) == 2

    await until(is_known)


async def test_a_peak_is_the_highest_sum_that_redis_saw(node: Callable[[str], RedisConnectionCounts]) -> None:
    one, two = node("one"), node("two")
    first = [await settle(one, "account:1", "key:a") for _ in range(3)]
    await settle(two, "account:1", "key:b")
    assert one.take_peaks() == {"account:1": 3, "key:a": 3}
    assert two.take_peaks() == {"account:1": 4, "key:b": 1}
    assert one.take_peaks() == {}

    for place in first[:2]:
        one.leave(place)

    async def is_known() -> bool:
        return await count(two) == 2

    await until(is_known)
    await one.note_all()
    assert one.take_peaks() == {"account:1": 2, "key:a": 1}
    assert await one.join(enter(one, "account:1", quota=3))
    assert not await one.join(enter(one, "account:1", quota=3))
    assert one.take_peaks() == {"account:1": 3}


async def test_a_connection_added_during_a_write_waits_for_the_next_write(
    node: Callable[[str], RedisConnectionCounts], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = node("one"), node("two")
    await count(one)
    write = one._write

    async def write_slowly(*args: Any) -> Any:
        await asyncio.sleep(0.1)
        return await write(*args)

    monkeypatch.setattr(one, "_write", write_slowly)
    first = asyncio.create_task(settle(one))
    await asyncio.sleep(0.05)
    await settle(one)
    await first
    assert await count(two) == 2


async def test_a_connection_that_leaves_before_redis_answers_is_not_counted(
    node: Callable[[str], RedisConnectionCounts], server: Redis
) -> None:
    one = node("one")
    await settle(one, "account:1")
    server.process.send_signal(signal.SIGSTOP)
    try:
        place = enter(one, "account:1")
        joining = asyncio.create_task(one.join(place))
        await asyncio.sleep(0)
        one.leave(place)
        assert await joining
    finally:
        server.process.send_signal(signal.SIGCONT)
    assert (one.of_user("account:1"), await count(one)) == (1, 1)


async def test_a_connection_whose_answer_comes_just_in_time_is_counted_once(
    node: Callable[[str], RedisConnectionCounts],
) -> None:
    one = node("one")
    await settle(one)
    loop = asyncio.get_running_loop()
    is_busy = True

    def slow_down() -> None:
        time.sleep(0.03)
        if is_busy:
            loop.call_soon(slow_down)

    slow_down()  # each iteration of the loop takes long, so answers and time limits come in the same ones
    places = [enter(one, "account:1") for _ in range(100)]
    joins = []
    for place in places:
        joins.append(asyncio.create_task(one.join(place)))
        await asyncio.sleep(0)
    assert all(await asyncio.gather(*joins))
    is_busy = False
    for place in places:
        one.leave(place)
    assert (one.of_user("account:1"), await count(one)) == (0, 1)


async def test_simultaneous_counts_share_a_query_and_each_get_an_answer(
    node: Callable[[str], RedisConnectionCounts],
) -> None:
    one, two = node("one"), node("two")
    await settle(two)
    assert await asyncio.gather(*(count(one) for _ in range(500))) == [1] * 500


async def test_many_simultaneous_queries_open_few_connections_to_redis(
    node: Callable[[str], RedisConnectionCounts], server: Redis
) -> None:
    one = node("one")
    await settle(one)
    await asyncio.gather(*(one.of_cluster(7) for _ in range(500)))
    async with redis.asyncio.from_url(server.url) as client:
        assert len(await client.client_list()) < 15


async def test_the_connections_of_a_user_are_counted_on_this_node_and_on_all_nodes(
    node: Callable[[str], RedisConnectionCounts], server: Redis
) -> None:
    one, two = node("one"), node("two")
    await settle(one, "account:1", "key:a")
    await settle(two, "account:1", "key:b")
    assert [counts.of_user("account:1") for counts in (one, two)] == [1, 1]
    assert of_users_everywhere(server.url, PREFIX, ["account:1", "key:b", "key:c"]) == [2, 1, 0]


async def test_any_number_of_users_and_clusters_is_counted_on_all_nodes(
    node: Callable[[str], RedisConnectionCounts], server: Redis
) -> None:
    one, two = node("one"), node("two")
    await settle(one, "account:1", "key:a", channel=(7, "a"))
    await settle(two, "account:1", "key:b", channel=(7, "b"))
    await settle(two, "account:2", "key:c", channel=(8, "a"))
    users = [f"account:{number}" for number in range(2_500)]
    assert of_users_everywhere(server.url, PREFIX, users) == [0, 2, 1, *[0] * 2_497]
    assert of_clusters_everywhere(server.url, PREFIX, [7, 9, 8]) == [2, 0, 1]
    assert of_all_everywhere(server.url, PREFIX, "account:") == (2, 3)
    assert of_users_everywhere(server.url, PREFIX, []) == of_clusters_everywhere(server.url, PREFIX, []) == []


async def test_of_simultaneous_connections_to_all_nodes_exactly_as_many_stay_as_the_quota_allows(
    node: Callable[[str], RedisConnectionCounts], server: Redis
) -> None:
    nodes = [node(name) for name in ("one", "two", "three")]
    places = [(counts, enter(counts, "account:1", f"key:{counts}", quota=40)) for _ in range(40) for counts in nodes]
    for counts in nodes:
        assert counts.enter(CHANNEL, {"account:1": 40}) is None
    stays = await asyncio.gather(*(counts.join(place) for counts, place in places))
    assert stays.count(True) == 40
    assert of_users_everywhere(server.url, PREFIX, ["account:1"]) == [40]
    for (counts, place), may_stay in zip(places, stays, strict=True):
        if not may_stay:
            counts.leave(place)
    assert sum(counts.of_user("account:1") for counts in nodes) == 40

    async def is_exact() -> bool:
        return await count(nodes[0]) == 40 and of_users_everywhere(server.url, PREFIX, ["account:1"]) == [40]

    await until(is_exact)


async def test_a_connection_that_leaves_makes_room_on_another_node(
    node: Callable[[str], RedisConnectionCounts],
) -> None:
    one, two = node("one"), node("two")
    first = enter(one, "key:a", quota=1)
    assert await one.join(first)
    refused = enter(two, "key:a", quota=1)
    assert not await two.join(refused)
    two.leave(refused)
    one.leave(first)
    await settle(one)  # by then the departure is written too
    assert await two.join(enter(two, "key:a", quota=1))


async def test_a_connection_that_leaves_while_other_nodes_are_asked_takes_up_no_room(
    node: Callable[[str], RedisConnectionCounts], server: Redis
) -> None:
    one, two = node("one"), node("two")
    for _ in range(20):
        leaving = enter(one, "key:a", quota=1)
        await asyncio.sleep(0)
        one.leave(leaving)
        await settle(one)
        assert of_users_everywhere(server.url, PREFIX, ["key:a"]) == [0]
        stays = enter(two, "key:a", quota=1)
        assert await two.join(stays)
        two.leave(stays)
        await settle(two)


async def test_more_connections_can_arrive_at_the_same_time_than_fit_into_one_query(
    node: Callable[[str], RedisConnectionCounts], server: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_MAX_BATCH", 7)
    one, two = node("one"), node("two")
    places = [(counts, enter(counts, "account:1", quota=60)) for _ in range(50) for counts in (one, two)]
    assert sum(await asyncio.gather(*(counts.join(place) for counts, place in places))) == 60
    assert of_users_everywhere(server.url, PREFIX, ["account:1"]) == [60]


async def test_a_node_that_dies_is_no_longer_counted_and_leaves_nothing_behind(
    node: Callable[[str], RedisConnectionCounts], server: Redis
) -> None:
    one, two = node("one"), node("two")
    await settle(two, "account:1")
    for task in two._tasks:  # like SIGKILL: it sends nothing more
        task.cancel()

    async def is_forgotten() -> bool:
        return await count(one) == 0

    await until(is_forgotten)
    await asyncio.sleep(0.2)
    async with redis.asyncio.from_url(server.url, decode_responses=True) as client:
        assert [key for key in await client.keys(f"{PREFIX}*") if "two" in key] == []
        assert await client.smembers(f"{PREFIX}nodes") == {"one"}


async def test_a_node_that_stops_is_immediately_no_longer_counted(node: Callable[[str], RedisConnectionCounts]) -> None:
    one, two = node("one"), node("two")
    await settle(two)
    await two.stop()
    assert await count(one) == 0


async def test_nodes_write_their_counts_again_after_redis_has_lost_them(
    node: Callable[[str], RedisConnectionCounts], server: Redis
) -> None:
    one, two = node("one"), node("two")
    await settle(two, "account:1")
    async with redis.asyncio.from_url(server.url) as client:
        await client.flushall()

    async def is_back() -> bool:
        return await count(one) == 1

    await until(is_back)
    assert of_users_everywhere(server.url, PREFIX, ["account:1"]) == [1]


@pytest.mark.parametrize("how", ["stopped", "frozen"])
async def test_while_redis_is_unreachable_a_node_counts_its_own_connections_and_afterwards_all(
    node: Callable[[str], RedisConnectionCounts], server: Redis, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    one, two = node("one"), node("two")
    for counts in (one, two):
        await settle(counts, "account:1")
    server.stop() if how == "stopped" else server.process.send_signal(signal.SIGSTOP)
    try:
        assert await count(one) == 1
        async with asyncio.timeout(1):
            await settle(one, "account:1")
        assert await count(one) == 2
        assert (one.is_reachable, one.of_user("account:1")) == (False, 2)
        assert one.take_peaks()["account:1"] >= 2
        await asyncio.sleep(0.5)
    finally:
        server.start() if how == "stopped" else server.process.send_signal(signal.SIGCONT)

    async def is_exact() -> bool:
        return [await count(counts) for counts in (one, two)] == [3, 3] and of_users_everywhere(
            server.url, PREFIX, ["account:1"]
        ) == [3]

    await until(is_exact)
    assert one.is_reachable
    told = [record.message for record in caplog.records if record.name == redis_client.__name__]
    assert 0 < len([message for message in told if "unreachable" in message]) <= 2 * 3


async def test_users_and_clusters_are_counted_in_one_answer(
    server: Redis, node: Callable[[str], RedisConnectionCounts]
) -> None:
    here, there = node("here"), node("there")
    for counts in (here, there, there):
        await settle(counts, "account:1", "key:a")
    await settle(here, "account:2", channel=(8, "room"))
    answer = await asyncio.to_thread(of_all_known, server.url, PREFIX, ["key:a", "account:2", "key:b"], [7, 8, 9], 5.0)
    assert answer == [3, 1, 0, 3, 1, 0]
    assert await asyncio.to_thread(of_all_known, server.url, PREFIX, [], [8], 5.0) == [1]


def test_a_redis_that_is_silent_or_gone_is_not_waited_for() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        begun = time.monotonic()
        assert of_all_known(f"redis://127.0.0.1:{port}/0", PREFIX, ["key:a"], [7], 0.3) is None
        assert time.monotonic() - begun < 2  # the machine may be busy; without the limit, it would be four seconds
    assert of_all_known(f"redis://127.0.0.1:{port}/0", PREFIX, ["key:a"], [7], 0.3) is None


async def test_after_a_write_other_nodes_see_the_count(node: Callable[[str], RedisConnectionCounts]) -> None:
    first, second = node("first"), node("second")
    await settle(first)
    await settle(second)
    for number in range(1, 20):
        written = asyncio.Event()
        first.subscribe((7, "many"))
        first.after_write((7, "many"), written.set)
        async with asyncio.timeout(5):
            await written.wait()
        assert await count(second, (7, "many")) == number
