"""Threads in which the data plane queries the database, separate from those that serve pages and the REST API."""

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

from django.db import close_old_connections

from realtime.base.time_slices import run_patiently

P = ParamSpec("P")
T = TypeVar("T")


class DatabaseThreads:
    """Runs queries in a few threads of its own, so that one that blocks does not delay the others."""

    def __init__(self, name: str, threads: int) -> None:
        """
        Args:
            name: appears in the names of the threads.
            threads: how many queries run at the same time.
        """
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix=f"database-{name}", initializer=run_patiently)

    def wrap(self, function: Callable[P, T]) -> Callable[P, Awaitable[T]]:
        """Return an asynchronous function that calls `function` in one of the threads."""

        def query(*args: P.args, **kwargs: P.kwargs) -> T:
            close_old_connections()
            try:
                return function(*args, **kwargs)
            finally:
                close_old_connections()

        def call(*args: P.args, **kwargs: P.kwargs) -> Awaitable[T]:
            return asyncio.get_running_loop().run_in_executor(self._pool, lambda: query(*args, **kwargs))

        return call


lookups = DatabaseThreads("lookup", 8)
"""For questions that a client waits for."""
background = DatabaseThreads("background", 2)
"""For everything else."""
webhooks = DatabaseThreads("webhooks", 1)
"""For the queue of webhooks, which may be long."""
