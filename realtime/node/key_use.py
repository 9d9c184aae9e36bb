"""When API keys were last used, gathered in memory and written now and then. Loop thread only."""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Collection

from django.db import Error as DatabaseError

from realtime.base.tasks import KeptTask

logger = logging.getLogger(__name__)

WRITE_SECONDS = 5.0
STOP_SECONDS = 3.0
# How many keys are remembered while the database is unreachable; the use of further ones is not recorded.
MAX_KEYS = 50_000


class KeyUse:
    """The keys that were used since they were last written."""

    def __init__(self, write: Callable[[Collection[str]], Awaitable[None]]) -> None:
        """
        Args:
            write: records that keys are in use, by their public part.
        """
        self._write = write
        self._used: set[str] = set()
        self._writing = KeptTask("recording which keys are used", self._run)

    def start(self) -> None:
        """Start to write."""
        self._writing.start()

    async def stop(self) -> None:
        """Write what is left; give up after `STOP_SECONDS`."""
        await self._writing.stop()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(STOP_SECONDS):
                await self._write_used()

    def note(self, public_key: str) -> None:
        """Remember that a key was used: it admitted a connection, or came with its right secret."""
        if len(self._used) < MAX_KEYS:
            self._used.add(public_key)

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(WRITE_SECONDS)
            await self._write_used()

    async def _write_used(self) -> None:
        used, self._used = self._used, set()
        try:
            if used:
                await self._write(used)
        except DatabaseError as error:
            logger.debug("Cannot record yet which keys are used: %s", error)
            self._used |= used
