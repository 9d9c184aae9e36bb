"""The numbers that pages show beside their quotas, and what stands in their place if they are not known."""

import threading
from collections import OrderedDict
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import NamedTuple

from django.utils import timezone

from accounts.models import Account, ApiKey, Cluster
from accounts.usage import WithConnections, known_connections_of

from .numbers import whole

# How long a page waits for the counts of the nodes, in seconds.
WAIT_SECONDS = 0.3
# From which share of a quota on the meter warns.
NEAR = 0.8
# How many accounts, clusters and keys this process remembers the last count of.
_MAX_REMEMBERED = 10_000


class Figure(NamedTuple):
    """A number and its quota."""

    number: int | None
    """None if it is not known."""
    quota: int | None
    """None if there is none."""

    @property
    def percent(self) -> float | None:
        """How much of the quota is used, at most 100; None if that is not known."""
        if self.number is None or self.quota is None:
            return None
        return min(100 * self.number / self.quota, 100) if self.quota else 100

    @property
    def state(self) -> str:
        """ "full", "near" or "" for a quota that is reached, nearly reached, or neither."""
        if self.percent is None:
            return ""
        return "full" if self.percent >= 100 else "near" if self.percent >= 100 * NEAR else ""

    @property
    def description(self) -> str:
        """A sentence for people who do not see the meter."""
        return "The quota is reached" if self.state == "full" else f"{self.percent or 0:.0f} % of the quota"


class Connections:
    """The open connections of what a page shows, all counted together."""

    def __init__(self, resources: Iterable[WithConnections]) -> None:
        """Count the connections of some accounts, clusters and keys, and wait at most `WAIT_SECONDS` for it."""
        self._counts = known_connections_of(resources, WAIT_SECONDS)
        if self._counts is not None:
            _remember(self._counts)

    @property
    def are_known(self) -> bool:
        return self._counts is not None

    def of(self, resource: WithConnections) -> int | None:
        """Return the number of open connections, or None if it is not known."""
        return None if self._counts is None else self._counts[resource]

    def missing(self, resource: WithConnections) -> str:
        """Return a sentence if the connections are not known, with the last count of a resource; else nothing."""
        if self._counts is not None:
            return ""
        sentence = "The connections cannot be counted now."
        with _lock:
            last = _last.get(_name(resource))
        return f"{sentence} Last count: {whole(last[0])}, at {last[1]:%H:%M} UTC." if last else sentence


_last: OrderedDict[tuple[type, int], tuple[int, datetime]] = OrderedDict()
_lock = threading.Lock()


def _remember(counts: dict[WithConnections, int]) -> None:
    now = timezone.now().astimezone(UTC)
    with _lock:
        for resource, count in counts.items():
            _last[_name(resource)] = (count, now)
            _last.move_to_end(_name(resource))
        while len(_last) > _MAX_REMEMBERED:
            _last.popitem(last=False)


def _name(resource: Account | Cluster | ApiKey) -> tuple[type, int]:
    return type(resource), resource.pk
