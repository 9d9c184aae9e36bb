"""Nodes read in Redis the seats that others have written there, as long as these hold their leases."""

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import redis.asyncio

from realtime.cluster.redis_client import RedisClient
from realtime.cluster.redis_seats import RedisSeats
from tests.servers import Redis

PREFIX = "test:0:"
ADA, BOB = ["two", 1, 10, "ada", "{}"], ["two", 2, 20, "bob", "{}"]


@pytest.fixture
async def redis_client(server: Redis) -> AsyncIterator[Any]:
    async with redis.asyncio.from_url(server.url, decode_responses=True) as client:
        yield client


@pytest.fixture
async def seats(server: Redis, redis_client: Any) -> AsyncIterator[Callable[[str, str], Any]]:
    """A function that makes the seats of a node, which holds a lease with this value."""
    clients: list[RedisClient] = []

    async def make(node_id: str, lease: str = "complete") -> RedisSeats:
        clients.append(RedisClient(server.url, PREFIX, node_id))
        await redis_client.sadd(f"{PREFIX}nodes", node_id)
        await redis_client.set(f"{PREFIX}lease:{node_id}", lease)
        return RedisSeats(clients[-1])

    yield make
    for client in clients:
        await client.redis.aclose()


async def test_a_node_reads_the_seats_of_others_and_not_its_own(seats: Callable[..., Any]) -> None:
    one, two = await seats("one"), await seats("two")
    assert await one.write([("room", 1, ["one", 1, 5, "eve", "{}"])], [])
    assert await two.write([("room", 1, ADA), ("room", 2, BOB), ("other", 3, BOB)], [])
    found, _ = await one.of_group("room")
    assert sorted(found) == [ADA, BOB]


async def test_a_seat_that_is_removed_is_not_found_any_more(seats: Callable[..., Any], redis_client: Any) -> None:
    one, two = await seats("one"), await seats("two")
    await two.write([("room", 1, ADA), ("room", 2, BOB)], [])
    await two.write([("room", 1, None)], [])
    assert (await one.of_group("room"))[0] == [BOB]
    await two.write([("room", 2, None)], ["room"])
    assert (await one.of_group("room"))[0] == []
    assert await redis_client.keys(f"{PREFIX}*two*") == [f"{PREFIX}lease:two"]


async def test_nodes_with_all_of_their_seats_in_redis_are_told_from_others(seats: Callable[..., Any]) -> None:
    one, _ = await seats("one"), await seats("two", "incomplete")
    assert await one.of_group("room") == ([], ["one"])


async def test_the_seats_of_a_node_without_a_lease_do_not_count(seats: Callable[..., Any], redis_client: Any) -> None:
    one, two = await seats("one"), await seats("two")
    await two.write([("room", 1, ADA)], [])
    await redis_client.delete(f"{PREFIX}lease:two")
    assert await one.of_group("room") == ([], ["one"])


async def test_a_node_can_forget_its_seats_but_not_those_of_others(
    seats: Callable[..., Any], redis_client: Any
) -> None:
    one, two = await seats("one"), await seats("two")
    await one.write([("room", 1, ["one", 1, 5, "eve", "{}"])], [])
    await two.write([("room", 1, ADA), ("other", 2, BOB)], [])
    await two.forget()
    assert (await one.of_group("room"))[0] == []
    assert (await two.of_group("room"))[0] == [["one", 1, 5, "eve", "{}"]]
    assert await redis_client.keys(f"{PREFIX}*two*") == [f"{PREFIX}lease:two"]


async def test_without_redis_nothing_is_read_or_written(seats: Callable[..., Any], server: Redis) -> None:
    one = await seats("one")
    server.stop()
    assert await one.of_group("room") is None
    assert not await one.write([("room", 1, ADA)], [])
