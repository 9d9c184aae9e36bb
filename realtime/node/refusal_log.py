"""Refusals of this node, gathered in memory and written every second. Loop thread only.

However many clients are refused, memory, rows and writes are bounded: of each key, the last are kept, and all are
counted.
"""

import asyncio
import contextlib
import logging
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Mapping, Sequence

from django.db import DataError
from django.db import Error as DatabaseError

from accounts.refusals import KEPT_PER_KEY
from accounts.refused_clients import Cause, RefusedClient
from realtime.base.errors import first_line
from realtime.base.tasks import KeptTask

logger = logging.getLogger(__name__)

WRITE_SECONDS = 1.0
PRUNE_SECONDS = 60.0
STOP_SECONDS = 3.0
# How many causes are counted, and how many refusals are kept of all keys together, until they are written.
MAX_CAUSES = MAX_KEPT = 500

Record = Callable[[Mapping[Cause, int], Sequence[RefusedClient]], Awaitable[None]]
_Key = tuple[int | None, str | None, str]


class RefusalLog:
    """The refusals that are not written yet."""

    def __init__(self, record: Record, prune: Callable[[], Awaitable[bool]]) -> None:
        """
        Args:
            record: counts refusals, and keeps some of them.
            prune: deletes some old refusals; returns whether there may be more of them.
        """
        self._record = record
        self._prune = prune
        self._counts: Counter[Cause] = Counter()
        self._kept: dict[_Key, deque[RefusedClient]] = {}
        self._size = 0
        self._pruned_at = 0.0
        self._writing = KeptTask("recording refusals", self._run)

    def start(self) -> None:
        """Start to write."""
        self._writing.start()

    async def stop(self) -> None:
        """Write what is left; give up after `STOP_SECONDS`."""
        await self._writing.stop()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(STOP_SECONDS):
                await self._write()

    def note(self, client: RefusedClient) -> None:
        """Remember a refusal."""
        cause = client.cause
        if cause.account_pk is None and cause.cluster_id is None:
            return  # nobody's
        if cause in self._counts or len(self._counts) < MAX_CAUSES:
            self._counts[cause] += 1
            self._keep(client)

    def _keep(self, client: RefusedClient) -> None:
        cause = client.cause
        key = (cause.cluster_pk, cause.cluster_id, cause.public_key)
        kept = self._kept.get(key)
        if kept is None:
            kept = self._kept[key] = deque()
        kept.append(client)
        self._size += 1
        if len(kept) > KEPT_PER_KEY:
            self._drop_oldest(key)
        elif self._size > MAX_KEPT:
            self._drop_oldest(max(self._kept, key=lambda each: len(self._kept[each])))

    def _drop_oldest(self, key: _Key) -> None:
        kept = self._kept[key]
        kept.popleft()
        self._size -= 1
        if not kept:
            del self._kept[key]

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(WRITE_SECONDS)
            await self._write()
            if loop.time() - self._pruned_at >= PRUNE_SECONDS:
                with contextlib.suppress(DatabaseError):  # an outage is reported where clients wait for the database
                    if not await self._prune():
                        self._pruned_at = loop.time()

    async def _write(self) -> None:
        if not self._counts:
            return
        counts, self._counts = self._counts, Counter()
        kept, self._kept, self._size = self._kept, {}, 0
        clients = sorted((client for each in kept.values() for client in each), key=lambda client: client.at)
        try:
            await self._record(counts, clients)
        except DataError as error:  # trying again would fail again, and no later refusal would be recorded
            number = sum(counts.values())
            words = "refusal is lost, because it" if number == 1 else "refusals are lost, because they"
            logger.error("%d %s cannot be stored: %s", number, words, first_line(error))
        except DatabaseError as error:
            logger.debug("Cannot record refusals yet: %s", error)
            later, self._counts = self._counts, counts
            for cause, count in later.items():
                if cause in counts or len(counts) < MAX_CAUSES:
                    counts[cause] += count
            newer, self._kept, self._size = self._kept, {}, 0
            for client in [*clients, *(client for each in newer.values() for client in each)]:
                self._keep(client)
