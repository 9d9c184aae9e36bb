"""The requests of a node to Redis."""

import asyncio

from realtime.cluster.redis_client import RedisClient
from tests.servers import Redis


async def test_however_many_ask_at_the_same_time_few_connections_are_open(server: Redis) -> None:
    client = RedisClient(server.url, "test:", "node")
    answers = await asyncio.gather(*(client.ask(("ECHO", str(number))) for number in range(100)))
    assert answers == [[str(number)] for number in range(100)]
    info = await client.redis.info("clients")
    assert 1 <= info["connected_clients"] <= 8
    await client.redis.aclose()
