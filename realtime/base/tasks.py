"""How tasks that run as long as a node end with it."""

import asyncio
from collections.abc import Collection

ATTEMPTS = 5
ATTEMPT_SECONDS = 0.5


async def end(tasks: Collection[asyncio.Task[None]]) -> None:
    """Cancel tasks and wait until they have ended, a few seconds at most.

    Again and again, since libraries that wait with a time limit swallow a cancellation now and then.
    """
    left = set(tasks)
    for _ in range(ATTEMPTS):
        for task in left:
            task.cancel()
        if left:
            _, left = await asyncio.wait(left, timeout=ATTEMPT_SECONDS)
