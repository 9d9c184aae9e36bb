"""Tasks that run as long as their node, and coroutines that need a task only if they have to wait.

The former are kept running if they fail, and cancelled when the node stops.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Coroutine, Generator
from typing import Any

logger = logging.getLogger(__name__)

ATTEMPTS = 5
ATTEMPT_SECONDS = 0.5
# How long to wait before a task that failed is started again, in seconds.
RESTART_SECONDS = 1.0

restarts: Counter[str] = Counter()
"""How often tasks of this process had to be started again, by their names."""


def keep(name: str, run: Callable[[], Awaitable[None]]) -> asyncio.Task[None]:
    """Start a task that runs until it is cancelled, and starts again if it fails or returns.

    Args:
        name: names the task in the log and in the metrics.
        run: the coroutine function that the task calls.
    """
    return asyncio.create_task(_keep(name, run), name=name)


async def _keep(name: str, run: Callable[[], Awaitable[None]]) -> None:
    while True:
        try:
            await run()
            logger.error("The task %s has ended; starting it again.", name)
        except Exception:
            logger.exception("The task %s has failed; starting it again.", name)
        restarts[name] += 1
        await asyncio.sleep(RESTART_SECONDS)


class KeptTask:
    """A task that runs from `start` to `stop`, and starts again if it fails or returns.

    Args:
        name: names the task in the log and in the metrics.
        run: the coroutine function that the task calls.
    """

    def __init__(self, name: str, run: Callable[[], Awaitable[None]]) -> None:
        self._name = name
        self._run = run
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Start the task."""
        self._task = keep(self._name, self._run)

    async def stop(self) -> None:
        """End the task if it was started."""
        if self._task is not None:
            await end([self._task])


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


def run_eagerly(coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None] | None:
    """Run a coroutine until it has to wait, and the rest of it in a task.

    Until then there is no current task, so the coroutine must not use `asyncio.timeout`.

    Returns:
        The task, which the caller must keep; None if the coroutine has ended. What it raises before it waits is raised.
    """
    try:
        awaited = coroutine.send(None)
    except StopIteration:
        return None
    return asyncio.get_running_loop().create_task(_Started(coroutine, awaited))


_waiting: set[asyncio.Task[None]] = set()


def run_and_keep(coroutine: Coroutine[Any, Any, None]) -> None:
    """Run a coroutine as `run_eagerly` does, and keep its task until that has ended."""
    task = run_eagerly(coroutine)
    if task is not None:
        _waiting.add(task)
        task.add_done_callback(_waiting.discard)


class _Started(Coroutine[Any, Any, None]):
    """A coroutine that has been started and waits for something."""

    def __init__(self, coroutine: Coroutine[Any, Any, None], awaited: Any) -> None:
        self._coroutine = coroutine
        self._awaited = awaited

    def send(self, value: Any) -> Any:
        awaited, self._awaited = self._awaited, None
        return awaited or self._coroutine.send(value)

    def throw(self, *error: Any) -> Any:
        self._awaited = None
        return self._coroutine.throw(*error)

    def close(self) -> None:
        self._coroutine.close()

    def __await__(self) -> Generator[Any, Any, None]:
        raise AssertionError("only a task runs it")
