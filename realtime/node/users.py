"""The users who have signed in on connections of this node, so that servers can close their connections."""

from collections.abc import Callable
from typing import Any

from realtime.cluster.bus import CONTROL_GROUP, Bus
from realtime.node.connections import Connection, SignedIn
from realtime.protocols.closes import TERMINATED, Close

TERMINATE = "user.terminate"
"""The type of the event that nodes send to each other to close the connections of a user."""


class Users:
    """The connections of each user on this node. Loop thread only.

    Args:
        bus: sends events to other nodes.
        end: closes a connection.
    """

    def __init__(self, bus: Bus, end: Callable[[Connection, Close], None]) -> None:
        self._bus = bus
        self._end = end
        self._connections: dict[SignedIn, set[Connection]] = {}

    def sign_in(self, connection: Connection, user_id: str) -> None:
        """Note the user of a connection, until it ends."""
        user = connection.signed_in = (connection.access.cluster_pk, user_id)
        self._connections.setdefault(user, set()).add(connection)

    def sign_out(self, connection: Connection) -> None:
        """Forget a connection that has ended."""
        user = connection.signed_in
        if user in self._connections:
            self._connections[user].discard(connection)
            if not self._connections[user]:
                del self._connections[user]

    def terminate(self, cluster_pk: int, user_id: str) -> None:
        """Close all connections of a user, on all nodes."""
        self._bus.send(CONTROL_GROUP, {"type": TERMINATE, "cluster_pk": cluster_pk, "user_id": user_id})

    def receive(self, event: dict[str, Any]) -> None:
        """Receive an event of this module, from any node."""
        for connection in list(self._connections.get((event["cluster_pk"], event["user_id"]), ())):
            self._end(connection, TERMINATED)
