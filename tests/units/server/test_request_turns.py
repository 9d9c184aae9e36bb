"""Requests to the Cluster API take turns: a limited number in each turn of the loop, alternating between accounts."""

import asyncio
import itertools

from realtime.server.fair_scheduling import RequestTurns

ONE, OTHER = 1, 2


async def served(turns: RequestTurns, *accounts: int) -> list[int]:
    """Return the order in which simultaneous requests are let through."""
    order: list[int] = []

    async def request(account: int) -> None:
        await turns.wait(account)
        order.append(account)

    await asyncio.gather(*(request(account) for account in accounts))
    return order


async def test_an_account_waits_for_one_request_of_another_account_and_not_for_all() -> None:
    assert await served(RequestTurns(1), *[ONE] * 5, *[OTHER] * 2) == [ONE, ONE, OTHER, ONE, OTHER, ONE, ONE]


async def test_the_number_of_requests_in_each_turn_of_the_loop_is_limited() -> None:
    turns = RequestTurns(4)
    waiting = [asyncio.ensure_future(turns.wait(ONE)) for _ in range(100)]
    done = [sum(task.done() for task in waiting)]
    while done[-1] < len(waiting):
        await asyncio.sleep(0)
        done.append(sum(task.done() for task in waiting))
    assert max(after - before for before, after in itertools.pairwise(done)) == 4


async def test_a_cancelled_request_takes_no_turn() -> None:
    turns = RequestTurns(1)
    waiting = [asyncio.ensure_future(turns.wait(ONE)) for _ in range(3)]
    await asyncio.sleep(0)
    waiting[1].cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    assert [task.cancelled() for task in waiting] == [False, True, False]
    assert await served(turns, OTHER) == [OTHER]
