"""A cache of API keys in this process: one query for each key, repeated when the key expires or its access changes."""

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

from django.db import Error as DatabaseError
from django.db import OperationalError

from accounts.key_access import KeyAccess, can_be_a_key
from realtime.base.errors import first_line

logger = logging.getLogger(__name__)

MAX_KEYS = 50_000
MAX_UNKNOWN_KEYS = 10_000
# How long an expired entry is trusted again after the database could not be reached, in seconds.
OUTAGE_SECONDS = 2.0
# How long a lookup waits for the database, in seconds: if there is an expired entry to fall back on, and if there is
# none. Once the database has not answered for ANSWER_SECONDS, further lookups do not wait at all.
EXPIRED_ANSWER_SECONDS = 0.5
ANSWER_SECONDS = 3.0
# How many keys may be queried at the same time.
MAX_QUERIES = 1_000


class _Entry(NamedTuple):
    access: KeyAccess | None
    expires_at: float


class KeyCache:
    """A cache of API keys by their public part. Loop thread only."""

    def __init__(
        self,
        load: Callable[[str], Awaitable[KeyAccess | None]],
        max_age_seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """
        Args:
            load: queries the database for a key; returns None if it does not exist.
            max_age_seconds: how long an entry is valid unless a change is announced.
            clock: returns the time, in seconds.
        """
        self._load = load
        self._max_age_seconds = max_age_seconds
        self._clock = clock
        self._known: OrderedDict[str, _Entry] = OrderedDict()
        # Separate from the known keys, so that guesses cannot evict those.
        self._unknown: OrderedDict[str, _Entry] = OrderedDict()
        self._loading: dict[str, asyncio.Task[KeyAccess | None]] = {}
        self._queries = 0  # also those whose answer is already outdated
        self._answered_at = 0.0  # when the database last answered, or last had no query to answer
        self.is_reachable = True
        """Whether the database has answered the last query."""
        self.version = 0
        """Grows with each announced change; an answer that was read under an older version may be outdated."""

    def find_cached(self, public_key: str) -> KeyAccess | None:
        """Return the access that a key gives; None if the key does not exist.

        Raises:
            KeyError: the key is not in the cache, or expired; `find` looks it up.
        """
        if not can_be_a_key(public_key):
            return None  # not cached either: it may be of any length
        entry = self._known.get(public_key) or self._unknown[public_key]
        if entry.expires_at <= self._clock():
            raise KeyError(public_key)
        return entry.access

    async def find(self, public_key: str) -> KeyAccess | None:
        """Return the access that a key gives; None if the key does not exist. A cached key is returned without waiting.

        If `version` has changed in the meantime, the result may be outdated: ask again.

        Raises:
            django.db.Error: the database is unreachable or does not answer, and the key is not in the cache.
        """
        try:
            return self.find_cached(public_key)
        except KeyError:
            entry = self._known.get(public_key) or self._unknown.get(public_key)
        if not self._queries:
            self._answered_at = self._clock()
        task = self._loading.get(public_key)
        if self._clock() - self._answered_at < ANSWER_SECONDS:
            if task is None and self._queries < MAX_QUERIES:
                # Connections that ask for the same key share one query.
                self._queries += 1
                task = self._loading[public_key] = asyncio.create_task(self._fetch(public_key))
                task.add_done_callback(_retrieve_exception)
            if task is not None:
                await asyncio.wait([task], timeout=ANSWER_SECONDS if entry is None else EXPIRED_ANSWER_SECONDS)
        if task is not None and task.done():
            return task.result()
        if entry is not None:
            return entry.access
        error = OperationalError("it does not answer")
        self._report_outage(error)
        raise error

    async def find_current(self, public_key: str) -> KeyAccess | None:
        """Return the same as `find`, but ask again until no change was announced in the meantime."""
        while True:
            version = self.version
            access = await self.find(public_key)
            if version == self.version:
                return access

    def forget(
        self, *, account_id: int | None = None, cluster_pk: int | None = None, public_key: str | None = None
    ) -> None:
        """Drop the cached keys of an account or a cluster, or a single key."""
        self._outdate_queries()
        if public_key is not None:
            self._known.pop(public_key, None)
            self._unknown.pop(public_key, None)
            return
        for key, (access, _) in list(self._known.items()):
            if access is not None and (access.account_id == account_id or access.cluster_pk == cluster_pk):
                del self._known[key]

    def forget_all(self) -> None:
        """Expire all cached keys, because changes may have been missed. They still serve if the database is down."""
        self._outdate_queries()
        self._unknown.clear()
        for key, entry in self._known.items():
            self._known[key] = entry._replace(expires_at=0)

    def _outdate_queries(self) -> None:
        """Have nobody rely on an answer that may have been read before the change."""
        self.version += 1
        self._loading.clear()

    async def _fetch(self, public_key: str) -> KeyAccess | None:
        version = self.version
        try:
            access = await self._load(public_key)
            if not self.is_reachable:
                logger.warning("The database answers again.")
                self.is_reachable = True
            if version == self.version:
                self._store(public_key, access, self._max_age_seconds)
            return access
        except DatabaseError as error:
            self._report_outage(error)
            entry = self._known.get(public_key)
            if entry is None:
                raise
            self._store(public_key, entry.access, OUTAGE_SECONDS)
            return entry.access
        finally:
            self._answered_at = self._clock()
            self._queries -= 1
            if self._loading.get(public_key) is asyncio.current_task():
                del self._loading[public_key]

    def _report_outage(self, error: DatabaseError) -> None:
        if self.is_reachable:
            reason = first_line(error)
            logger.error("Only cached API keys are accepted because of a database error: %s", reason)
            self.is_reachable = False

    def _store(self, public_key: str, access: KeyAccess | None, seconds: float) -> None:
        entries, limit = (self._unknown, MAX_UNKNOWN_KEYS) if access is None else (self._known, MAX_KEYS)
        # A key is in at most one of the two.
        (self._known if access is None else self._unknown).pop(public_key, None)
        entries[public_key] = _Entry(access, self._clock() + seconds)
        entries.move_to_end(public_key)
        if len(entries) > limit:
            entries.popitem(last=False)


def _retrieve_exception(task: asyncio.Task[Any]) -> None:
    """Keep asyncio from logging an exception that nothing waits for any longer."""
    if not task.cancelled():
        task.exception()
