"""What admission knows of API keys in this process: asked of the database once, forgotten when accounts tells so."""

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, NamedTuple

from channels.db import database_sync_to_async
from django.db import Error as DatabaseError
from django.db import OperationalError

from accounts.access import find_access, record_use
from accounts.key_access import KeyAccess, can_be_a_key

logger = logging.getLogger(__name__)

MAX_KEYS = 50_000
MAX_UNKNOWN_KEYS = 10_000
# How long a key is admitted by without asking again while the database is out of reach, in seconds.
OUTAGE_SECONDS = 2.0
# How long the database is waited for, in seconds: where there is an older answer, and where there is none. One that
# does not answer keeps nobody waiting any longer.
OLDER_SECONDS = 0.5
ANSWER_SECONDS = 3.0
# How many keys may be asked for at once.
MAX_QUESTIONS = 1_000


def load_key(public_key: str) -> KeyAccess | None:
    """Ask the database for a key, which counts as using it."""
    access = find_access(public_key)
    if access is not None and not access.revoked:
        record_use(public_key)
    return access


class _Entry(NamedTuple):
    access: KeyAccess | None
    good_until: float


class KeyCache:
    """API keys by their public part. Loop thread only; the database is asked in a thread."""

    def __init__(
        self,
        load: Callable[[str], KeyAccess | None],
        max_age_seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """
        Args:
            load: asks the database for a key; returns None if there is no such key.
            max_age_seconds: how long an answer is good for when nobody tells of a change.
            clock: tells the time, in seconds.
        """
        self._load = database_sync_to_async(load)
        self._max_age_seconds = max_age_seconds
        self._clock = clock
        self._known: OrderedDict[str, _Entry] = OrderedDict()
        # Apart from the known ones, so that guessing does not push those out.
        self._unknown: OrderedDict[str, _Entry] = OrderedDict()
        self._loading: dict[str, asyncio.Task[KeyAccess | None]] = {}
        self._answered_at = 0.0  # when the database last did, or had nothing to answer
        self.is_reachable = True
        """Whether the database has answered the last question."""
        # Grows with each change that was told of; what was read before it may be outdated.
        self.version = 0

    async def find(self, public_key: str) -> KeyAccess | None:
        """Return what is known of a key; None if there is no such key. A key known already costs no wait.

        If `version` has changed meanwhile, the answer may be outdated: ask again.

        Raises:
            django.db.Error: the database is out of reach or does not answer, and the key was not known before.
        """
        if not can_be_a_key(public_key):
            return None  # and nothing to remember: it may be of any length
        entry = self._known.get(public_key) or self._unknown.get(public_key)
        if entry is not None and entry.good_until > self._clock():
            return entry.access
        if not self._loading:
            self._answered_at = self._clock()
        task = self._loading.get(public_key)
        if self._clock() - self._answered_at < ANSWER_SECONDS:
            if task is None and len(self._loading) < MAX_QUESTIONS:
                # One query, however many connections wait for it.
                task = self._loading[public_key] = asyncio.create_task(self._fetch(public_key))
                task.add_done_callback(_look_at)
            if task is not None:
                await asyncio.wait([task], timeout=ANSWER_SECONDS if entry is None else OLDER_SECONDS)
        if task is not None and task.done():
            return task.result()
        if entry is not None:
            return entry.access
        error = OperationalError("it does not answer")
        self._lost(error)
        raise error

    async def find_current(self, public_key: str) -> KeyAccess | None:
        """The same, asked again until no change was told of meanwhile."""
        while True:
            version = self.version
            access = await self.find(public_key)
            if version == self.version:
                return access

    def forget(
        self, *, account_id: int | None = None, cluster_pk: int | None = None, public_key: str | None = None
    ) -> None:
        """Drop what is known of the keys of an account, of a cluster, or of one key."""
        self.version += 1
        if public_key is not None:
            self._known.pop(public_key, None)
            self._unknown.pop(public_key, None)
            return
        for key, (access, _) in list(self._known.items()):
            if access is not None and (access.account_id == account_id or access.cluster_pk == cluster_pk):
                del self._known[key]

    def forget_all(self) -> None:
        """Ask again for every key, since changes may have been missed. What is known still serves if nobody answers."""
        self.version += 1
        self._unknown.clear()
        for key, entry in self._known.items():
            self._known[key] = entry._replace(good_until=0)

    async def _fetch(self, public_key: str) -> KeyAccess | None:
        version = self.version
        try:
            access: KeyAccess | None = await self._load(public_key)
            if not self.is_reachable:
                logger.warning("The database answers again.")
                self.is_reachable = True
            if version == self.version:
                self._keep(public_key, access, self._max_age_seconds)
            return access
        except DatabaseError as error:
            self._lost(error)
            entry = self._known.get(public_key)
            if entry is None:
                raise
            self._keep(public_key, entry.access, OUTAGE_SECONDS)
            return entry.access
        finally:
            self._answered_at = self._clock()
            del self._loading[public_key]

    def _lost(self, error: DatabaseError) -> None:
        if self.is_reachable:
            reason = str(error).partition("\n")[0]
            logger.error("The database is out of reach (%s); only keys that were known before are admitted.", reason)
            self.is_reachable = False

    def _keep(self, public_key: str, access: KeyAccess | None, seconds: float) -> None:
        entries, limit = (self._unknown, MAX_UNKNOWN_KEYS) if access is None else (self._known, MAX_KEYS)
        # One at most of the two knows a key.
        (self._known if access is None else self._unknown).pop(public_key, None)
        entries[public_key] = _Entry(access, self._clock() + seconds)
        entries.move_to_end(public_key)
        if len(entries) > limit:
            entries.popitem(last=False)


def _look_at(task: asyncio.Task[Any]) -> None:
    """Nobody may wait for it any longer, which is no reason to log what it has raised."""
    if not task.cancelled():
        task.exception()
