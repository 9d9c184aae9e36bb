"""The counters of this process: plain numbers, so counting costs the data plane next to nothing."""

from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence


class Histogram:
    """Counts durations in buckets."""

    __slots__ = ("bounds", "counts", "seconds")

    def __init__(self, bounds: Sequence[float]) -> None:
        """
        Args:
            bounds: the upper bounds of the buckets in seconds, ascending. An additional bucket counts longer durations.
        """
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.seconds = 0.0
        """The sum of all durations."""

    def observe(self, seconds: float) -> None:
        """Count a duration."""
        self.counts[bisect_left(self.bounds, seconds)] += 1
        self.seconds += seconds


class Deliveries:
    """Messages delivered to connections, counted once for each receiver."""

    __slots__ = ("bytes", "count")

    def __init__(self) -> None:
        self.count = 0
        self.bytes = 0
        """The size of their frames."""


class Counters:
    """The counters of one node. Loop thread only."""

    __slots__ = (
        "api_answers",
        "closes",
        "opened",
        "publish_seconds",
        "published",
        "refusals",
        "refused_messages",
        "round_trip_seconds",
    )

    def __init__(self) -> None:
        self.opened = 0
        """Admitted connections."""
        self.refusals: Counter[str] = Counter()
        """Rejected connections, by the reason of the close."""
        self.closes: Counter[int] = Counter()
        """Closes that the server started, including rejections, by code."""
        self.refused_messages: Counter[str] = Counter()
        """Messages of clients that were not published, by reason."""
        self.published = 0
        """Messages published through the Cluster API."""
        self.api_answers: Counter[int] = Counter()
        """Responses of the Cluster API, by HTTP status."""
        self.publish_seconds = Histogram((0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0))
        """Durations of publish requests, from their last byte to the response."""
        self.round_trip_seconds = Histogram((0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 3.0))
        """Durations of round trips from this node through the channel layer back to itself."""
