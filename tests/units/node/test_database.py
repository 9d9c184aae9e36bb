"""The threads in which the data plane queries the database."""

import asyncio
import threading
from collections.abc import Iterator

import pytest

from realtime.node.database import DatabaseThreads, background, lookups, webhooks


@pytest.fixture
def answer() -> Iterator[threading.Event]:
    """Return an event for which blocked queries wait."""
    answer = threading.Event()
    yield answer
    answer.set()


@pytest.mark.parametrize(("blocked", "queries"), [(lookups, 7), (background, 20), (webhooks, 2)])
async def test_a_lookup_does_not_wait_for_other_queries_that_block(
    answer: threading.Event, blocked: DatabaseThreads, queries: int
) -> None:
    waiting = [asyncio.ensure_future(blocked.wrap(answer.wait)()) for _ in range(queries)]
    async with asyncio.timeout(5):
        assert await lookups.wrap(lambda: "found")() == "found"
    assert not any(query.done() for query in waiting)
    answer.set()
    assert await asyncio.gather(*waiting) == [True] * queries
