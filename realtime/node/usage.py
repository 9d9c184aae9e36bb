"""What API keys and accounts use: counted in memory, and added to the database once a minute. Loop thread only.

A message costs two additions to a counter that its connection holds, and a flush of a room two to one that the room
holds. Each interval becomes a numbered batch. A batch that cannot be written is kept unchanged and tried again under
the same number, so what is uncertain after a failure is neither lost nor added twice.
"""

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime, timedelta
from typing import NamedTuple

from django.db import Error as DatabaseError
from django.utils import timezone

from accounts.key_access import KeyAccess
from accounts.refused_clients import OTHER_CLUSTER, Cause
from accounts.usage_counts import Counts, UsageByHour, UsedBy
from realtime.base.errors import first_line
from realtime.base.portions import paced
from realtime.base.tasks import KeptTask
from realtime.cluster.connection_counts import ConnectionCounts
from realtime.metrics.counters import Deliveries
from realtime.node.message_quotas import account_user, key_user

logger = logging.getLogger(__name__)

STOP_SECONDS = 5.0
RETRY_SECONDS = 5.0
# How often to delete what is too old, and how long to wait between two small deletions, so that others get their turn.
PRUNE_SECONDS = 3600.0
PRUNE_PAUSE_SECONDS = 0.2
# How many counts are kept while the database is unreachable: one for each hour of each key and account.
MAX_KEPT = 200_000
# Clients can ask for any number of clusters that do not exist.
MAX_CLUSTERS = 10_000


class Store(NamedTuple):
    """What usage does in the database."""

    write: Callable[[int, UsageByHour], Awaitable[None]]
    """Adds a batch, unless one with this number was added before."""
    prune: Callable[[], Awaitable[bool]]
    """Deletes some of what is too old; returns whether there may be more."""
    warn: Callable[[Mapping[int, int]], Awaitable[None]]
    """Warns owners of quotas that are nearly used up. Takes the most connections of each account that was used."""


class AccountTraffic:
    """What one account receives on this node."""

    __slots__ = ("deliveries", "keys")

    def __init__(self) -> None:
        self.keys = 0
        """Keys of the account that are counted."""
        self.deliveries = Deliveries()


class KeyTraffic:
    """What one API key sends on this node. Code that publishes a message of the key adds to `messages` and `bytes`."""

    __slots__ = ("account", "account_id", "api_calls", "bytes", "connections", "messages", "public_key")

    def __init__(self, account_id: int, public_key: str, account: AccountTraffic) -> None:
        self.account_id = account_id
        self.public_key = public_key
        self.account = account
        account.keys += 1
        self.messages = self.api_calls = 0
        self.bytes = 0
        """The size of the frames of these messages."""
        self.connections = 0
        """Open connections, which may count messages at any time."""


class Usage:
    """The usage of the keys and accounts that this node serves."""

    def __init__(
        self,
        store: Store,
        connections: ConnectionCounts,
        seconds: float,
        now: Callable[[], datetime] = timezone.now,
    ) -> None:
        """
        Args:
            store: the database.
            connections: the connections of each account and key, of which usage has the peaks.
            seconds: the time from one batch to the next.
            now: returns the current time.
        """
        self._store = store
        self._connections = connections
        self._seconds = seconds
        self._now = now
        self._keys: dict[str, KeyTraffic] = {}
        self._accounts: dict[int, AccountTraffic] = {}
        self._refusals: dict[UsedBy, Counter[str]] = {}
        self._delivered = Deliveries()  # of what has been collected
        self._hour = _hour_of(now())
        self._waiting: dict[tuple[datetime, UsedBy], Counts] = {}
        self._batch: UsageByHour | None = None
        self._number = 0
        self._active: dict[int, int] = {}
        self._can_write = True
        self._dropped = 0
        self._tasks = [
            KeptTask("recording usage", self._run),
            KeptTask("counting connections at full hours", self._begin_hours),
            KeptTask("pruning usage", self._prune_regularly),
        ]

    def start(self) -> None:
        """Start to record."""
        for task in self._tasks:
            task.start()

    async def stop(self) -> None:
        """Record what is left; give up after `STOP_SECONDS`."""
        for task in self._tasks:
            await task.stop()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(STOP_SECONDS):
                while not await self.flush():  # noqa: ASYNC110
                    await asyncio.sleep(RETRY_SECONDS / 10)

    def open(self, access: KeyAccess) -> KeyTraffic:
        """Return the counter of a key for a connection, which may use it until `close`."""
        traffic = self.key(access)
        traffic.connections += 1
        return traffic

    def close(self, access: KeyAccess) -> None:
        """Release the counter of a key: the connection counts nothing more."""
        self._keys[access.public_key].connections -= 1

    def key(self, access: KeyAccess) -> KeyTraffic:
        """Return the counter of a key, to be used before the next turn of the loop."""
        name = access.public_key or str(access.account_id)  # people of an account send messages without a key
        traffic = self._keys.get(name)
        if traffic is None:
            account = self._accounts.get(access.account_id)
            if account is None:
                account = self._accounts[access.account_id] = AccountTraffic()
            traffic = self._keys[name] = KeyTraffic(access.account_id, access.public_key, account)
        return traffic

    def refuse(self, cause: Cause) -> None:
        """Count a refusal: for its key, or for the cluster that the client asked for."""
        if cause.account_pk is not None and cause.detail != OTHER_CLUSTER:
            who = UsedBy(cause.account_pk, cause.public_key)
        elif cause.cluster_id is not None:
            who = UsedBy(cluster_id=cause.cluster_id)
        else:
            return
        if not who.cluster_id or who in self._refusals or len(self._refusals) < MAX_CLUSTERS:
            self._refusals.setdefault(who, Counter())[cause.reason] += 1

    @property
    def deliveries(self) -> int:
        """Messages that this node has delivered since it started, counted once for each receiver."""
        return self._delivered.count + sum(account.deliveries.count for account in self._accounts.values())

    @property
    def delivered_bytes(self) -> int:
        """The size of their frames."""
        return self._delivered.bytes + sum(account.deliveries.bytes for account in self._accounts.values())

    async def collect(self) -> None:
        """Move what was counted since the last call to what waits to be recorded, for the hour in which this began.

        A counter is dropped when nothing was counted between two calls: a connection that the server has closed may
        still publish what it receives until its client has seen the close.
        """
        hour, peaks = self._hour, self._connections.take_peaks()
        async for name, key in paced(list(self._keys.items())):
            self._collect_key(hour, name, key, peaks.get(key_user(key.public_key), 0))
        async for account_id, account in paced(list(self._accounts.items())):
            self._collect_account(hour, account_id, account, peaks.get(account_user(account_id), 0))
        refusals, self._refusals = self._refusals, {}
        async for who, reasons in paced(refusals.items()):
            self._waiting_counts(hour, who).refusals.update(reasons)
        self._hour = _hour_of(self._now())

    def _collect_key(self, hour: datetime, name: str, key: KeyTraffic, peak: int) -> None:
        if key.messages or key.api_calls or peak:
            counts = self._waiting_counts(hour, UsedBy(key.account_id, key.public_key))
            counts.messages += key.messages
            counts.message_bytes += key.bytes
            counts.api_calls += key.api_calls
            counts.peak_connections = max(counts.peak_connections, peak)
            key.messages = key.bytes = key.api_calls = 0
        elif not key.connections and self._keys.get(name) is key:
            del self._keys[name]
            key.account.keys -= 1

    def _collect_account(self, hour: datetime, account_id: int, account: AccountTraffic, peak: int) -> None:
        deliveries = account.deliveries
        if deliveries.count or peak:
            counts = self._waiting_counts(hour, UsedBy(account_id))
            counts.deliveries += deliveries.count
            counts.delivered_bytes += deliveries.bytes
            counts.peak_connections = max(counts.peak_connections, peak)
            self._delivered.count += deliveries.count
            self._delivered.bytes += deliveries.bytes
            deliveries.count = deliveries.bytes = 0
        if not account.keys and self._accounts.get(account_id) is account:
            del self._accounts[account_id]

    def _waiting_counts(self, hour: datetime, who: UsedBy) -> Counts:
        """Return the counts that wait to be recorded for an hour."""
        key = hour, who
        counts = self._waiting.get(key)
        if counts is None:
            counts = Counts()
            if len(self._waiting) < MAX_KEPT:
                self._waiting[key] = counts
            else:
                self._dropped += 1
        return counts

    async def flush(self) -> bool:
        """Record what was counted; return whether all of it is in the database now."""
        await self.collect()
        while self._batch is not None or self._waiting:
            if self._batch is None:
                self._batch, self._waiting = self._waiting, {}
                self._number += 1
            try:
                await self._store.write(self._number, self._batch)
            except DatabaseError as error:
                if self._can_write:
                    reason = first_line(error)
                    logger.error("Cannot record usage yet; this node keeps it in memory: %s", reason)
                self._can_write = False
                return False
            async for (_, who), counts in paced(self._batch.items()):
                if who.account_id:
                    peak = 0 if who.public_key else counts.peak_connections
                    self._active[who.account_id] = max(self._active.get(who.account_id, 0), peak)
            self._batch = None
        if not self._can_write:
            logger.warning("Usage is recorded again.")
            self._can_write = True
        if self._dropped:
            logger.error("%d counts of usage were dropped: they could not be recorded for too long.", self._dropped)
            self._dropped = 0
        return True

    async def _run(self) -> None:
        wait = self._seconds
        before: Mapping[int, int] = {}
        while True:
            await asyncio.sleep(wait)
            wait = self._seconds if await self.flush() else min(self._seconds, RETRY_SECONDS)
            active, self._active = self._active, {}
            # Once more after the last use: what counts against the quota of messages is written by another task.
            warned, before = {**dict.fromkeys(before, 0), **active}, active
            if warned:
                with contextlib.suppress(DatabaseError):  # they are warned when they use more
                    await self._store.warn(warned)

    async def _begin_hours(self) -> None:
        """At each full hour, close the last one. Connections that stay open count for the peaks of the new one.

        This is a task of its own, since the other one may be waiting for a database that does not answer.
        """
        while True:
            next_hour = self._hour + timedelta(hours=1)
            await asyncio.sleep(max((next_hour - self._now()).total_seconds(), 0) + 0.001)
            if self._now() >= next_hour:
                await self.collect()
                await self._connections.note_all()

    async def _prune_regularly(self) -> None:
        while True:
            await asyncio.sleep(PRUNE_SECONDS)
            with contextlib.suppress(DatabaseError):  # the next time will do
                while await self._store.prune():  # noqa: ASYNC110
                    await asyncio.sleep(PRUNE_PAUSE_SECONDS)


def _hour_of(moment: datetime) -> datetime:
    return moment.replace(minute=0, second=0, microsecond=0)
