"""Cancelling of tasks that run as long as their node."""

import asyncio
from collections.abc import Collection

ATTEMPTS = 5
ATTEMPT_SECONDS = 0.5


async def end(tasks: Collection[asyncio.Task[None]]) -> None:
    """Cancel tasks and wait until they have ended, for a few seconds at most.

    A task may have to be cancelled several times, since libraries that wait with a time limit sometimes swallow a
    cancellation.
    """
    running = set(tasks)
    for _ in range(ATTEMPTS):
        for task in running:
            task.cancel()
        if running:
            _, running = await asyncio.wait(running, timeout=ATTEMPT_SECONDS)
