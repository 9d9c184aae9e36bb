"""Message quotas: token buckets for each connection and daily counters for each account. Loop thread only.

A message costs two subtractions; the clock and the database are read only when a counter reaches its limit.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from datetime import date

from django.db import Error as DatabaseError

from accounts.key_access import KeyAccess
from accounts.usage import seconds_to_midnight, today
from realtime.base.errors import first_line

logger = logging.getLogger(__name__)

# The capacity of a bucket, in seconds of the quota. A bucket is refilled when it is found empty, not before: after a
# pause a connection may send twice as much in one burst.
BURST_SECONDS = 1.0
# How far above its quota a connection may try to send before it is closed, in seconds of the quota. A client that
# sends at twice the quota or less never reaches this.
PATIENCE_SECONDS = 5.0
# The same in messages, as a minimum, so that clients with a small quota have time to read a notice.
PATIENCE_MESSAGES = 50
# How often message counts are written to the database, in seconds.
SYNC_SECONDS = 5.0
STOP_SECONDS = 3.0
# Begins the sentence for a sender whose message exceeds the daily quota.
DAY_USED_UP = "The account has used up its quota of messages per day (UTC)"

Record = Callable[[Mapping[int, int], date], Awaitable[Mapping[int, int]]]


class Bucket:
    """The token bucket of one connection.

    For each message, the caller subtracts 1 from `tokens`; if that leaves less than 0, it calls `refill`. `take` does
    both, but a call costs more.
    """

    __slots__ = ("_exceeded_at", "_excess", "_rate", "_refilled_at", "tokens")

    def __init__(self, per_second: int) -> None:
        """
        Args:
            per_second: the quota, in messages.
        """
        self._excess = 0.0
        self._exceeded_at = self._refilled_at = time.monotonic()
        self._rate = per_second
        self.tokens = per_second * BURST_SECONDS

    def set_rate(self, per_second: int) -> None:
        """Change the quota. Tokens above the new capacity are lost."""
        self._rate = per_second
        self.tokens = min(self.tokens, per_second * BURST_SECONDS)

    def take(self) -> bool:
        """Count a message; return whether the quota covers it."""
        self.tokens -= 1
        return self.tokens >= 0 or self.refill()

    def refill(self) -> bool:
        """Add the tokens gained since the last refill; return whether they cover the message that was just counted."""
        now = time.monotonic()
        gained = (now - self._refilled_at) * self._rate
        self._refilled_at = now
        self.tokens = min(self.tokens + gained, self._rate * BURST_SECONDS - 1)
        self._excess = max(self._excess - gained, 0)
        if self.tokens >= 0:
            return True
        self.tokens += 1
        if not self._excess:
            self._exceeded_at = now
        self._excess += 1
        return False

    @property
    def is_flooded(self) -> bool:
        """Whether the connection has stayed far above its quota."""
        return self._excess > max(self._rate * PATIENCE_SECONDS, PATIENCE_MESSAGES)

    @property
    def sent_per_second(self) -> int:
        """How many messages a second the connection has tried to send since it began to exceed its quota."""
        # As many messages as tokens were gained have passed, and as many others have not increased the excess.
        seconds = max(self._refilled_at - self._exceeded_at, 1.0)
        return round(self._excess / seconds + 2 * self._rate)


class AccountUse:
    """Counts the messages that one account sends on this node, up to its daily quota."""

    __slots__ = ("_left", "_left_at_sync", "_limit", "senders")

    def __init__(self, messages_per_day: int) -> None:
        self.senders = 0
        """Open connections, which may count messages at any time."""
        self._limit = self._left = self._left_at_sync = messages_per_day

    def take(self, messages: int = 1) -> bool:
        """Count messages if the account may still send all of them today; return whether it may."""
        self._left -= messages
        if self._left >= 0:
            return True
        self._left += messages
        return False

    @property
    def sent(self) -> int:
        """Messages that are not yet recorded in the database."""
        return self._left_at_sync - self._left

    @property
    def is_used_up(self) -> bool:
        """Whether the account may not send any more messages today."""
        return self._left <= 0

    def set_recorded(self, sent: int, total: int) -> None:
        """Adopt the total that all nodes have recorded.

        Args:
            sent: how many of this node's messages were recorded.
            total: how many messages the account has sent today, including those.
        """
        unrecorded = self.sent - sent
        self._left_at_sync = self._limit - total
        self._left = self._left_at_sync - unrecorded

    def start_new_day(self) -> None:
        """Forget what was sent: the whole quota is left."""
        self._left = self._left_at_sync = self._limit

    def set_limit(self, messages_per_day: int) -> None:
        """Change the quota."""
        more = messages_per_day - self._limit
        self._limit += more
        self._left += more
        self._left_at_sync += more


def connection_quotas(access: KeyAccess) -> dict[str, int]:
    """Return the connection quotas of the account and the key, by the names under which connections are counted."""
    quotas = access.quotas
    return {
        account_user(access.account_id): quotas.account_connections,
        key_user(access.public_key): quotas.key_connections,
    }


ACCOUNTS = "account:"
"""What begins the name of every account."""


def account_user(account_id: int) -> str:
    """Return the name under which the connections of an account are counted."""
    return f"{ACCOUNTS}{account_id}"


def key_user(public_key: str) -> str:
    """Return the name under which the connections of a key are counted."""
    return f"key:{public_key}"


class MessageQuotas:
    """The daily message quotas of the accounts that send on this node."""

    def __init__(self, record: Record, today: Callable[[], date] = today) -> None:
        """
        Args:
            record: adds message counts to the totals of a day, by primary key of the account; returns the new totals.
            today: returns the current day.
        """
        self._record = record
        self._accounts: dict[int, AccountUse] = {}
        self._recorded_messages = 0
        self._today = today
        self._day = today()
        self._past: dict[date, dict[int, int]] = {}  # messages of earlier days that are not recorded yet
        self._sync_now = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._can_record = True
        self._midnight: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Start to record message counts in the database."""
        self._task = asyncio.create_task(self._run())
        self._wait_for_midnight()

    async def stop(self) -> None:
        """Record the remaining counts; give up after `STOP_SECONDS`."""
        if self._midnight is not None:
            self._midnight.cancel()
        if self._task is not None:
            task, self._task = self._task, None
            self._sync_now.set()
            await asyncio.wait([task], timeout=STOP_SECONDS)

    def account(self, access: KeyAccess) -> AccountUse:
        """Return the counter of a key's account, set to the account's current quota."""
        use = self._accounts.get(access.account_id)
        if use is None:
            use = self._accounts[access.account_id] = AccountUse(access.quotas.messages_per_day)
            self._sync_now.set()
        use.set_limit(access.quotas.messages_per_day)
        return use

    def open(self, access: KeyAccess) -> AccountUse:
        """Return the counter of a key's account for a connection, which may count messages until `close`."""
        use = self.account(access)
        use.senders += 1
        return use

    def close(self, access: KeyAccess) -> None:
        """Release the counter of a key's account: the connection counts no more messages."""
        self._accounts[access.account_id].senders -= 1

    @property
    def messages(self) -> int:
        """Messages that clients and servers of all accounts have sent on this node since it started."""
        past = sum(sum(counts.values()) for counts in self._past.values())
        return self._recorded_messages + past + sum(use.sent for use in self._accounts.values())

    async def _run(self) -> None:
        """Record counts every few seconds, after midnight, and immediately when an account is new on this node."""
        while self._task is not None:
            self._sync_now.clear()
            try:
                await self.sync()
            except Exception:
                logger.exception("Cannot record message counts.")
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(SYNC_SECONDS):
                    await self._sync_now.wait()
        await self.sync()

    async def sync(self) -> None:
        """Record what this node's accounts have sent, and read what other nodes have recorded for them."""
        self._start_new_day()
        day = self._day
        sent = {pk: use.sent for pk, use in self._accounts.items()}
        try:
            for past_day in list(self._past):
                await self._record(self._past[past_day], past_day)
                self._recorded_messages += sum(self._past.pop(past_day).values())
            totals = await self._record(sent, day) if sent else {}
        except DatabaseError as error:
            if self._can_record:
                reason = first_line(error)
                logger.error("Cannot record message counts yet; this node keeps them in memory: %s", reason)
            self._can_record = False
            return
        if not self._can_record:
            logger.warning("Message counts are recorded again.")
            self._can_record = True
        self._recorded_messages += sum(sent.values())
        self._start_new_day()
        if self._day != day:  # it ended while the counts were recorded
            past = self._past.pop(day, {})
            remaining = {pk: count - sent.get(pk, 0) for pk, count in past.items()}
            if any(remaining.values()):
                self._past[day] = remaining
            return
        for pk, count in sent.items():
            use = self._accounts[pk]
            use.set_recorded(count, totals.get(pk, 0))
            if not (use.senders or use.sent or count or use.is_used_up):
                del self._accounts[pk]

    def _wait_for_midnight(self) -> None:
        # By a timer, since the task may be waiting for a database that does not answer.
        self._midnight = asyncio.get_running_loop().call_later(seconds_to_midnight(), self._pass_midnight)

    def _pass_midnight(self) -> None:
        self._start_new_day()
        self._wait_for_midnight()

    def _start_new_day(self) -> None:
        """After midnight, keep the old day's counts for recording and give every account its whole quota."""
        today = self._today()
        if today == self._day:
            return
        if counts := {pk: use.sent for pk, use in self._accounts.items() if use.sent}:
            self._past[self._day] = counts
        for use in self._accounts.values():
            use.start_new_day()
        self._day = today
        self._sync_now.set()
