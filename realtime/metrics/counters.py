"""What this process counts: plain numbers that only grow, so that counting costs the data plane nothing to speak of."""

from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence


class Histogram:
    """How often something took how long."""

    __slots__ = ("bounds", "counts", "seconds")

    def __init__(self, bounds: Sequence[float]) -> None:
        """
        Args:
            bounds: up to how long what falls into each bucket takes, in seconds, rising; one more takes the rest.
        """
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.seconds = 0.0
        """All together."""

    def observe(self, seconds: float) -> None:
        """Count one."""
        self.counts[bisect_left(self.bounds, seconds)] += 1
        self.seconds += seconds


class Counters:
    """The numbers of one node. Loop thread only."""

    __slots__ = (
        "api_answers",
        "closes",
        "delivered_bytes",
        "deliveries",
        "opened",
        "publish_seconds",
        "published",
        "refusals",
        "refused_messages",
        "round_trip_seconds",
    )

    def __init__(self) -> None:
        self.opened = 0
        """Connections that were admitted."""
        self.refusals: Counter[str] = Counter()
        """Connections that were not, by the reason of the close."""
        self.closes: Counter[int] = Counter()
        """Closes that this side has begun, refusals too, by code."""
        self.refused_messages: Counter[str] = Counter()
        """Messages that were not distributed, by the reason."""
        self.published = 0
        """Messages that the Cluster API has published."""
        self.deliveries = self.delivered_bytes = 0
        """Messages handed to connections, one for each receiver, and their frames."""
        self.api_answers: Counter[int] = Counter()
        """Answers of the Cluster API, by status."""
        self.publish_seconds = Histogram((0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0))
        """How long requests to publish took, from their last byte to the answer."""
        self.round_trip_seconds = Histogram((0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 3.0))
        """How long events took by the channel layer from this node to itself."""
