"""The REST API and the pages over the network: many requests at the same time, and requests that are not as usual."""

import asyncio
from collections.abc import Callable

from tests.servers import LiveServer


async def test_twenty_clients_read_the_schema_at_the_same_time(start: Callable[..., LiveServer]) -> None:
    async with start("serve").http_client() as client:
        for _ in range(2):
            answers = await asyncio.gather(*(client.get("/api/v1/schema/") for _ in range(20)))
            assert {answer.status_code for answer in answers} == {200}
            assert len({answer.text for answer in answers}) == 1
