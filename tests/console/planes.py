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
        self.open: int | None = 0
        """The number of connections of everything; None if the nodes do not answer."""
        self.refuses = ""
        """Why it sends no message."""
        self.sent: list[tuple[str, str, str]] = []
        """The Cluster ID, the channel and the message of each message that was sent."""

    def count_connections(self, **names: Any) -> list[int]:
        return [self.open or 0 for resources in names.values() for _ in resources]

    def known_connections(self, *, seconds: float, **names: Any) -> list[int] | None:
        return None if self.open is None else self.count_connections(**names)

    def publish(self, cluster: Cluster, channel: str, message: str) -> int:
        if self.refuses:
            raise NotPublished(self.refuses)
        self.sent.append((cluster.cluster_id, channel, message))
        return self.open or 0

    def connections(self, cluster_id: str, channel: str) -> list[dict[str, Any]]:
        """Return one of the connections, from an address for documentation."""
        client = {"id": "1", "user": "", "public_key": "", "address": "203.0.113.24", "since": 0.0}
        return [client] if self.open else []

    def nodes_state(self) -> NodesState:
        return NodesState(1, self.open or 0, None, 0.0)

    def __enter__(self) -> Self:
        self._before = usage._data_plane
        usage.use_data_plane(self)
        return self

    def __exit__(self, *_: object) -> None:
        usage._data_plane = self._before
