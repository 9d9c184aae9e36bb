"""Quotas as counters, and how often something may be tried. Loop thread only.

A message costs two subtractions; clock and database are asked only where a counter says that it may be too much.
"""

import asyncio
import contextlib
import logging
import math
import time
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, date, datetime, timedelta

from django.db import Error as DatabaseError

from accounts.key_access import KeyAccess
from accounts.usage import today

logger = logging.getLogger(__name__)

# How much a bucket holds, in seconds of the quota. It is filled up when it is found empty, not before, so that after a
# pause a connection may send twice as much at once.
BURST_SECONDS = 1.0
# How much more than its quota, in seconds of it, a connection may try to send before it is closed. What it sends at
# twice the quota or less does not add up to that.
PATIENCE_SECONDS = 5.0
# And how much more in messages, so that there is time to read a notice.
PATIENCE_MESSAGES = 50
# How often what accounts have sent is written down, in seconds.
SYNC_SECONDS = 5.0
STOP_SECONDS = 3.0
# How many of those who try something are remembered.
MAX_REMEMBERED = 10_000

Record = Callable[[Mapping[int, int], date], Awaitable[Mapping[int, int]]]


class Bucket:
    """How many messages one connection may send now: a token bucket.

    Who sends a message subtracts one from `tokens`, and if that leaves less than 0 it asks `refill`.
    """

    __slots__ = ("_excess", "_rate", "_refilled_at", "tokens")

    def __init__(self, per_second: int) -> None:
        """
        Args:
            per_second: the quota.
        """
        self._excess = 0.0
        self._refilled_at = time.monotonic()
        self._rate = per_second
        self.tokens = per_second * BURST_SECONDS

    def set_rate(self, per_second: int) -> None:
        """Change the quota; a bucket that holds more than that now loses the rest."""
        self._rate = per_second
        self.tokens = min(self.tokens, per_second * BURST_SECONDS)

    def refill(self) -> bool:
        """Add what time has brought; return whether the message may be sent now for which there was nothing left."""
        now = time.monotonic()
        gained = (now - self._refilled_at) * self._rate
        self._refilled_at = now
        self.tokens = min(self.tokens + gained, self._rate * BURST_SECONDS - 1)
        self._excess = max(self._excess - gained, 0)
        if self.tokens >= 0:
            return True
        self.tokens += 1
        self._excess += 1
        return False

    @property
    def is_flooded(self) -> bool:
        """Whether far too much has been tried."""
        return self._excess > max(self._rate * PATIENCE_SECONDS, PATIENCE_MESSAGES)


class AccountUse:
    """What one account sends on this node."""

    __slots__ = ("_left", "_left_at_sync", "_limit", "senders")

    def __init__(self, messages_per_day: int) -> None:
        self.senders = 0  # who may count at any time
        self._limit = self._left = self._left_at_sync = messages_per_day

    def take(self, messages: int = 1) -> bool:
        """Count messages; return whether the account may still send them today. If not, none is counted."""
        self._left -= messages
        if self._left >= 0:
            return True
        self._left += messages
        return False

    @property
    def sent(self) -> int:
        """Messages that are not written down yet."""
        return self._left_at_sync - self._left

    @property
    def is_used_up(self) -> bool:
        """Whether not one more may be sent today."""
        return self._left <= 0

    def written(self, sent: int, total: int) -> None:
        """Take note of what the whole service has written down.

        Args:
            sent: what was written down of this node's.
            total: what the account has sent today, that included.
        """
        meanwhile = self.sent - sent
        self._left_at_sync = self._limit - total
        self._left = self._left_at_sync - meanwhile

    def set_limit(self, messages_per_day: int) -> None:
        """Change the quota."""
        more = messages_per_day - self._limit
        self._limit += more
        self._left += more
        self._left_at_sync += more


def connection_quotas(access: KeyAccess) -> dict[str, int]:
    """How many connections there may be of the account and of the key, by the names by which they are counted."""
    quotas = access.quotas
    return {
        account_user(access.account_id): quotas.account_connections,
        key_user(access.public_key): quotas.key_connections,
    }


def account_user(account_id: int) -> str:
    """The name by which the connections of an account are counted."""
    return f"account:{account_id}"


def key_user(public_key: str) -> str:
    """The name by which the connections of a key are counted."""
    return f"key:{public_key}"


class MessageQuotas:
    """What accounts may send still."""

    def __init__(self, record: Record, today: Callable[[], date] = today) -> None:
        """
        Args:
            record: adds to what accounts have sent on a day, by primary key, and returns what each has sent then.
            today: tells the day that is counted for.
        """
        self._record = record
        self._accounts: dict[int, AccountUse] = {}
        self._written = 0
        self._today = today
        self._day = today()
        self._new = asyncio.Event()
        self._running: asyncio.Task[None] | None = None
        self._is_recorded = True

    def start(self) -> None:
        """Begin to write down what is sent."""
        self._running = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Write down what is left, within reason."""
        if self._running is not None:
            running, self._running = self._running, None
            self._new.set()
            await asyncio.wait([running], timeout=STOP_SECONDS)

    def account(self, access: KeyAccess) -> AccountUse:
        """What the account of a key uses, by the quota that it has now."""
        use = self._accounts.get(access.account_id)
        if use is None:
            use = self._accounts[access.account_id] = AccountUse(access.quotas.messages_per_day)
            self._new.set()
        use.set_limit(access.quotas.messages_per_day)
        return use

    def open(self, access: KeyAccess) -> AccountUse:
        """What the account of a key uses, for a connection that may count messages until `close`."""
        use = self.account(access)
        use.senders += 1
        return use

    def close(self, access: KeyAccess) -> None:
        """Say that a connection counts no more."""
        self._accounts[access.account_id].senders -= 1

    @property
    def messages(self) -> int:
        """How many messages all accounts have sent on this node since it began, clients and servers together."""
        return self._written + sum(use.sent for use in self._accounts.values())

    async def _run(self) -> None:
        """Write down what is sent: every few seconds, at midnight, at once for an account of which nothing is known."""
        while self._running is not None:
            self._new.clear()
            try:
                await self.sync()
            except Exception:
                logger.exception("What accounts send could not be written down.")
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(SYNC_SECONDS, seconds_to_midnight())):
                    await self._new.wait()
        await self.sync()

    async def sync(self) -> None:
        """Write down what is sent, and learn what other nodes have written."""
        day = self._day
        sent = {pk: use.sent for pk, use in self._accounts.items()}
        try:
            totals = await self._record(sent, day) if sent else {}
        except DatabaseError as error:
            if self._is_recorded:
                reason = str(error).partition("\n")[0]
                logger.error("What accounts send cannot be written down yet, and is counted here: %s", reason)
            self._is_recorded = False
            return
        if not self._is_recorded:
            logger.warning("What accounts send is written down again.")
            self._is_recorded = True
        self._day = self._today()
        if self._day != day:
            totals = {}  # a new day begins with nothing; what others have sent on it, the next time tells
            self._new.set()
        for pk, count in sent.items():
            use = self._accounts[pk]
            use.written(count, totals.get(pk, 0))
            self._written += count
            if not (use.senders or use.sent or count or use.is_used_up):
                del self._accounts[pk]


def seconds_to_midnight() -> int:
    """How long until a new day has begun (UTC), in whole seconds."""
    now = datetime.now(UTC)
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)
    return math.ceil((midnight - now).total_seconds())
