"""How late the event loop is."""

import asyncio
import time
from collections.abc import AsyncIterator

import pytest

from realtime.metrics.lag import TICK_SECONDS, Lag


@pytest.fixture
async def lag() -> AsyncIterator[Lag]:
    lag = Lag()
    lag.start()
    yield lag
    await lag.stop()


async def test_an_idle_loop_has_almost_no_lag(lag: Lag) -> None:
    await asyncio.sleep(2.5 * TICK_SECONDS)
    assert 0 <= lag.seconds < 0.2
    assert 0 <= lag.worst < 0.2


async def test_the_lag_of_a_blocked_loop_shows_immediately_and_the_worst_is_remembered(lag: Lag) -> None:
    await asyncio.sleep(0)
    time.sleep(TICK_SECONDS + 1)  # noqa: ASYNC251
    assert 1 <= lag.seconds < 1.5
    await asyncio.sleep(0.1)
    assert 1 <= lag.seconds < 1.5
    await asyncio.sleep(1.5 * TICK_SECONDS)
    assert lag.seconds < 0.2
    assert 1 <= lag.worst < 1.5
