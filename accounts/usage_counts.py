"""Plain values that say how much was used, and by whom. They need no Django, so the data plane can count with them."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple


class UsedBy(NamedTuple):
    """What is counted: an API key of an account, an account itself, or a cluster that a client asked for."""

    account_id: int = 0
    """0 if only the cluster is known."""
    public_key: str = ""
    """Empty for what belongs to no key."""
    cluster_id: str = ""
    """The cluster's DNS label, which may not exist. Only if the account is not known."""


@dataclass(slots=True)
class Counts:
    """What was used in some time. Two of them for the same hour can be added."""

    messages: int = 0
    """Messages that clients and servers have sent."""
    message_bytes: int = 0
    """The size of their frames."""
    deliveries: int = 0
    """Messages delivered, counted once for each receiver."""
    delivered_bytes: int = 0
    """The size of the frames of these deliveries."""
    api_calls: int = 0
    """Successful requests to the Cluster API."""
    peak_connections: int = 0
    """The most connections at the same time, on all nodes."""
    refusals: Counter[str] = field(default_factory=Counter)
    """Refusals, by reason: see `refusal_reasons`."""

    @property
    def refused(self) -> int:
        """Refusals for all reasons."""
        return self.refusals.total()

    def add(self, other: "Counts") -> None:
        """Add what was used in another part of the same hour."""
        self.messages += other.messages
        self.message_bytes += other.message_bytes
        self.deliveries += other.deliveries
        self.delivered_bytes += other.delivered_bytes
        self.api_calls += other.api_calls
        self.peak_connections = max(self.peak_connections, other.peak_connections)
        self.refusals.update(other.refusals)


UsageByHour = Mapping[tuple[datetime, UsedBy], Counts]
"""What was used, by the hour's beginning and who used it."""
