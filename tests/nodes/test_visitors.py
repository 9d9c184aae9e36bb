"""Visitors of many channels that come and go while Redis is away leave nothing behind on a node."""

import asyncio
import os
import signal
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path

import redis

from tests import metrics
from tests.clients import channel_path, until
from tests.nodes.agreement import Crowd
from tests.nodes.test_as_one import visit
from tests.nodes.test_redis_vanishes import readiness
from tests.servers import LiveServer, Redis

VISITORS, WARM_UP, AT_ONCE = 2_000, 600, 200
NOTICE_SECONDS = 15
# How long a newcomer may wait for the first message of another node, in seconds.
NEWCOMER_SECONDS = 3
MAX_GROWTH_KIB = 16 * 1024
# A node may keep a few more connections to Redis and to the database open than before.
MAX_MORE_FILES = 20


async def test_visitors_during_an_outage_leave_nothing_behind(
    start: Callable[..., LiveServer], keys: dict[str, str], secrets: dict[str, str], tmp_path: Path
) -> None:
    with Redis(tmp_path) as server:
        nodes = [start("daphne", REDIS_URL=server.url) for _ in range(2)]
        async with AsyncExitStack() as stack:
            crowd = Crowd(nodes, keys["demo"], secrets["demo"], stack)
            await crowd.gather()
            await visit_channels(nodes[0], keys["demo"], "warm-up", WARM_UP)
            with redis.Redis.from_url(server.url, decode_responses=True) as client:
                wanted = await until_idle(client, nodes[0])
            files, memory = len(os.listdir(nodes[0].proc / "fd")), nodes[0].memory_kib()

            server.stop(signal.SIGKILL)
            await until(lambda: all(readiness(node) == (200, False) for node in nodes), NOTICE_SECONDS)
            await visit_channels(nodes[0], keys["demo"], "visitor", VISITORS)
            await metrics.until(lambda scrape: scrape["connections"] == 2, nodes[0])
            server.start()
            await until(lambda: all(readiness(node) == (200, True) for node in nodes), NOTICE_SECONDS)

            async with asyncio.timeout(NEWCOMER_SECONDS):
                newcomer, other = [await crowd.connect(node, "newcomer") for node in nodes]
                await other.send("hello")
                assert await newcomer.receive() == "hello"
            for one in (newcomer, other):
                await one.socket.close()
            await crowd.until_exact()
            with redis.Redis.from_url(server.url, decode_responses=True) as client:
                assert await until_idle(client, nodes[0]) == wanted
                subscribed = client.info("commandstats")["cmdstat_subscribe"]["calls"]
            assert subscribed == 2 + 2  # both nodes everything that they want, and each the newcomer's channel
            growth = nodes[0].memory_kib() - memory
            print(f"memory grew by {growth} KiB")
            assert growth < MAX_GROWTH_KIB
            await until(lambda: len(os.listdir(nodes[0].proc / "fd")) <= files + MAX_MORE_FILES)
        for node in nodes:
            assert node.stop() == 0


async def visit_channels(node: LiveServer, key: str, name: str, count: int) -> None:
    """Visit many channels, some at the same time."""
    for first in range(0, count, AT_ONCE):
        visits = (visit(node, channel_path(f"{name}-{number}", key)) for number in range(first, first + AT_ONCE))
        await asyncio.gather(*visits)


async def until_idle(client: "redis.Redis[str]", node: LiveServer) -> dict[str, int]:
    """Wait until only the crowd is left on a node; return how many nodes hear each of its groups in Redis."""
    await metrics.until(lambda scrape: scrape["connections"] == scrape["channels"] == 2, node)
    counts = "piesocket:0:channels:*"
    await until(lambda: all({*client.hgetall(name)} == {"crowd", "people"} for name in client.keys(counts)))
    await until(lambda: len(client.execute_command("PUBSUB", "CHANNELS")) == 3)
    names = sorted(client.execute_command("PUBSUB", "CHANNELS"))
    numbers = client.execute_command("PUBSUB", "NUMSUB", *names)
    return dict(zip(numbers[::2], numbers[1::2], strict=True))
