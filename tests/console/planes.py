"""A data plane of a test's own, where the nodes are out of reach of Django's test client."""

from typing import Any, Self

from accounts import usage
from accounts.models import Cluster
from accounts.usage import NodesState, NotPublished


class Plane:
    """Counts as many connections as the test says, and keeps the messages that people send.

    As a context manager, it takes the place of the data plane.
    """

    def __init__(self) -> None:
        self.connections: int | None = 0
        """The number of connections of everything; None if the nodes do not answer."""
        self.refuses = ""
        """Why it sends no message."""
        self.sent: list[tuple[str, str, str]] = []
        """The Cluster ID, the channel and the message of each message that was sent."""

    def count_connections(self, **names: Any) -> list[int]:
        return [self.connections or 0 for resources in names.values() for _ in resources]

    def known_connections(self, *, seconds: float, **names: Any) -> list[int] | None:
        return None if self.connections is None else self.count_connections(**names)

    def publish(self, cluster: Cluster, channel: str, message: str) -> int:
        if self.refuses:
            raise NotPublished(self.refuses)
        self.sent.append((cluster.cluster_id, channel, message))
        return self.connections or 0

    def nodes_state(self) -> NodesState:
        return NodesState(1, self.connections or 0, None, 0.0)

    def __enter__(self) -> Self:
        self._before = usage._data_plane
        usage.use_data_plane(self)
        return self

    def __exit__(self, *_: object) -> None:
        usage._data_plane = self._before
