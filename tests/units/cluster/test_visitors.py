"""Thousands of clients that come and go, each in a channel of its own, with and without Redis."""

import asyncio
import gc
import signal
import time

import redis

from realtime.cluster.link import JOIN_SECONDS
from realtime.cluster.subscriber import MAX_NAMES, Subscription
from tests.clients import until
from tests.servers import Redis
from tests.units.cluster.links import Listener
from tests.units.cluster.test_outages import until_back, until_lost

Pair = tuple[Listener, Listener]
VISITORS = 20_000
# How long a newcomer may wait for the first message of another node, in seconds.
NEWCOMER_SECONDS = 3


def leftovers() -> tuple[int, int]:
    """Return how many subscriptions and tasks this process has."""
    gc.collect()
    return sum(type(one) is Subscription for one in gc.get_objects()), len(asyncio.all_tasks())


def heard_groups(client: "redis.Redis[str]") -> dict[str, int]:
    """Return how many nodes hear each group, according to Redis."""
    names = client.execute_command("PUBSUB", "CHANNELS")
    numbers = client.execute_command("PUBSUB", "NUMSUB", *names) if names else []
    return {name.partition("__group__")[2]: count for name, count in zip(numbers[::2], numbers[1::2], strict=True)}


async def test_visitors_during_an_outage_leave_nothing_behind(pair: Pair, server: Redis) -> None:
    here, there = pair
    before = leftovers()
    server.stop()
    await until_lost(here, there)
    for number in range(VISITORS):
        await here.link.join(f"visitor {number}")
        if number >= 5:
            here.link.leave(f"visitor {number}")
    wanted = [f"visitor {number}" for number in range(5)]
    server.start()
    await until_back(here, there)
    with redis.Redis.from_url(server.url, decode_responses=True) as client:
        assert heard_groups(client) == {"a": 2, **dict.fromkeys(wanted, 1)}
        stats = client.info("commandstats")
        assert stats["cmdstat_subscribe"]["calls"] == 2
        assert "cmdstat_unsubscribe" not in stats
        async with asyncio.timeout(NEWCOMER_SECONDS):
            await here.link.join("newcomer")
            there.publish("hello", "newcomer")
            await until(lambda: here.text("newcomer") == "hello")
        for group in (*wanted, "newcomer"):
            here.link.leave(group)
        await until(lambda: heard_groups(client) == {"a": 2})
        await until(lambda: leftovers()[0] == before[0])
        await until(lambda: leftovers()[1] <= before[1])


async def test_visitors_while_redis_hangs_are_not_open_before_it_answers(pair: Pair, server: Redis) -> None:
    here, _ = pair
    server.process.send_signal(signal.SIGSTOP)
    begun = time.monotonic()
    joins = [asyncio.create_task(here.link.join(f"visitor {number}")) for number in range(VISITORS)]
    await asyncio.sleep(0.5)
    open_before = sum(join.done() for join in joins)
    seconds = time.monotonic() - begun
    server.process.send_signal(signal.SIGCONT)
    assert open_before == 0 or seconds > JOIN_SECONDS  # only a very slow machine takes as long as that
    await asyncio.gather(*joins)
    with redis.Redis.from_url(server.url, decode_responses=True) as client:
        await until(lambda: len(heard_groups(client)) == VISITORS + 1)


async def test_a_burst_of_visitors_hears_everything_from_when_it_is_open(pair: Pair, server: Redis) -> None:
    here, there = pair
    promised = 0

    async def visit(group: str) -> None:
        nonlocal promised
        begun = time.monotonic()
        await here.link.join(group)
        if time.monotonic() - begun < JOIN_SECONDS:
            promised += 1
            there.publish("x", group)

    await asyncio.gather(*(visit(f"visitor {number}") for number in range(VISITORS)))
    assert promised
    await until(lambda: here.messages == promised)
    with redis.Redis.from_url(server.url) as client:
        calls = client.info("commandstats")["cmdstat_subscribe"]["calls"]
    print(f"{promised} of {VISITORS} were open within {JOIN_SECONDS:g} s; {calls} commands")
    assert calls <= VISITORS / MAX_NAMES + 2
