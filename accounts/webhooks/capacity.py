"""How many deliveries one sender takes: what it has taken and not finished, and the room that is left.

The limits keep slow webhooks, and accounts with many events, from using up the sender.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

MAX_OF_ACCOUNT = 32
"""How many deliveries of the webhooks of an account one process has taken."""
MAX_BYTES_OF_ACCOUNT = 8 * 1024 * 1024
"""How large their events are together, unless a single one is larger."""
SLOW_SECONDS = 2.0
"""After which time a request no longer counts among the quick ones, and its webhook neither."""
MAX_QUICK = 128
MAX_SLOW = 32
"""How many quick and slow deliveries one process has taken. So slow receivers keep no others waiting."""
MAX_REQUESTS = 256
"""How many deliveries one process has taken, with those that turn out to be slow."""


@dataclass(frozen=True, slots=True)
class Task:
    """A delivery that a sender has taken, with everything that it needs to send it."""

    delivery_pk: int
    webhook_pk: int
    account_pk: int
    lease: str
    message_id: str
    url: str
    is_slow: bool
    """Whether it is one of those that share some requests."""
    events: str = field(repr=False)
    secrets: tuple[str, ...] = field(repr=False)
    api_key: tuple[str, str] | None = field(repr=False)
    headers: tuple[tuple[str, str], ...] = field(repr=False)


class Flight(NamedTuple):
    """A delivery that a sender has taken and not finished."""

    task: Task
    seconds: float
    """For how long its request has lasted; 0 if it waits for others."""

    @property
    def is_slow(self) -> bool:
        """Whether it counts among the slow ones."""
        return self.task.is_slow or self.seconds >= SLOW_SECONDS


class Room:
    """How much a sender can take besides what it has taken."""

    def __init__(self, flights: Sequence[Flight]) -> None:
        self.leases = {flight.task.lease for flight in flights}
        """Those of this sender."""
        self.is_too_small = False
        """Whether something that is due may have been left because of the limits."""
        slow = sum(flight.is_slow for flight in flights)
        all_requests = MAX_REQUESTS - len(flights)
        self._requests = {
            False: min(MAX_QUICK - (len(flights) - slow), all_requests),
            True: min(MAX_SLOW - slow, all_requests),
        }
        self._of_account = Counter[int]()
        self._bytes_of_account = Counter[int]()
        for flight in flights:
            self._add(flight.task)

    def _add(self, task: Task) -> None:
        self._of_account[task.account_pk] += 1
        self._bytes_of_account[task.account_pk] += len(task.events)

    def take(self, task: Task) -> None:
        """Use some of the room."""
        self._requests[task.is_slow] -= 1
        self._add(task)

    def full_accounts(self) -> list[int]:
        """Return the accounts for which nothing more is sent now."""
        return [account for account in self._of_account if min(self._of(account)) <= 0]

    def requests(self, account: int, *, is_slow: bool) -> int:
        """Return how many deliveries of an account can be taken."""
        requests, size = self._of(account)
        return min(requests, self._requests[is_slow]) if size > 0 else 0

    def bytes(self, account: int) -> int:
        """Return how large these can be, except for the last one."""
        return self._of(account)[1]

    def has_requests(self, *, is_slow: bool) -> bool:
        """Return whether any can be taken."""
        return self._requests[is_slow] > 0

    def _of(self, account: int) -> tuple[int, int]:
        return (MAX_OF_ACCOUNT - self._of_account[account], MAX_BYTES_OF_ACCOUNT - self._bytes_of_account[account])
