"""Counts: the subscribers of each channel, and the connections of each account and API key for their quotas."""

import asyncio
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping

from realtime.protocols.channels import Channel, counts_connections


class Place:
    """One connection, as it is counted."""

    __slots__ = ("channel", "decision", "has_joined", "is_waiting", "quotas")

    def __init__(self, channel: Channel, quotas: Mapping[str, int]) -> None:
        self.channel = channel
        self.quotas = quotas
        self.has_joined = False
        self.is_waiting = False  # until the quotas have been checked for all nodes
        self.decision: asyncio.Future[bool] | None = None


class ConnectionCounts:
    """The counts of a single node. Loop thread only.

    A *user* is an account or an API key: `account:ID` or `key:PUBLIC_KEY`.
    """

    def __init__(self) -> None:
        self._channels: defaultdict[int, Counter[str]] = defaultdict(Counter)
        self._users: Counter[str] = Counter()
        self._peaks: dict[str, int] = {}

    @property
    def is_reachable(self) -> bool:
        """Whether the connections on other nodes are counted."""
        return True

    def start(self) -> None:
        """Start to share the counts with other nodes."""

    async def stop(self) -> None:
        """Stop sharing the counts, and remove those of this node."""

    def enter(self, channel: Channel, quotas: Mapping[str, int]) -> Place | None:
        """Start counting a connection against its quotas.

        Args:
            channel: the channel in which the connection is counted.
            quotas: the users of the connection, with the number of connections that each may have.

        Returns:
            The place of the connection, which `leave` takes; None if a quota is used up on this node alone.
        """
        if any(self._users.get(user, 0) >= quota for user, quota in quotas.items()):
            return None
        place = Place(channel, quotas)
        self._add_to_users(place, 1)
        return place

    async def join(self, place: Place) -> bool:
        """Count a connection in its channel, whose messages it receives already, unless a quota is used up elsewhere.

        Returns:
            Whether the connection is within the quotas on all nodes together. If so, all nodes count it by now; while
            Redis is unreachable, only this one does.
        """
        place.has_joined = True
        self._add_to_channel(place.channel, 1)
        self._note_here(place.quotas)
        return True

    def leave(self, place: Place) -> None:
        """Stop counting a connection. Call it once per place."""
        self._add_to_users(place, -1)
        if place.has_joined:
            self._add_to_channel(place.channel, -1)

    def subscribe(self, channel: Channel) -> None:
        """Count a subscription that an open connection has made, besides the place of the connection."""
        self._add_to_channel(channel, 1)

    def unsubscribe(self, channel: Channel) -> None:
        """Undo one `subscribe`."""
        self._add_to_channel(channel, -1)

    def after_write(self, channel: Channel, then: Callable[[], None]) -> None:
        """Call a function once other nodes can see the current count of a channel; on a single node, immediately.

        While Redis is unreachable, the function does not wait for it.
        """
        then()

    def take_peaks(self) -> Mapping[str, int]:
        """Return the most connections that each user had since the last call, and begin anew.

        They are the highest sums that Redis saw. Without Redis, they are those of this node. Users that had no new
        connection are left out.
        """
        peaks, self._peaks = self._peaks, {}
        return peaks

    async def note_all(self) -> None:
        """Let the current connections of all users count for the peaks, although they are not new."""
        self._note_here(self._users)

    def _note_here(self, users: Iterable[str]) -> None:
        for user in users:
            self._note(user, self._users.get(user, 0))

    def _note(self, user: str, connections: int) -> None:
        if connections > self._peaks.get(user, 0):
            self._peaks[user] = connections

    def of_user(self, user: str) -> int:
        """Return the number of connections of a user on this node."""
        return self._users.get(user, 0)

    def of_cluster_here(self, cluster_pk: int) -> int:
        """Return the number of connections to a cluster on this node. Other threads may call it."""
        paths = list(self._channels.get(cluster_pk, {}).items())
        return sum(connections for path, connections in paths if counts_connections(path))

    def count(self, channel: Channel, then: Callable[[int], None]) -> None:
        """Count the connections to a channel on all nodes, or on this node only while Redis is unreachable.

        Args:
            channel: the channel.
            then: called with the number; on a single node, immediately.
        """
        then(self.count_here(channel))

    async def living_nodes(self) -> list[str] | None:
        """Return the nodes that hold a lease; None if Redis does not answer."""
        return []

    async def of_cluster(self, cluster_pk: int) -> Mapping[str, int]:
        """Return the number of subscribers of each channel of a cluster on all nodes, by the channel's path.

        The connections of protocols with any number of subscriptions are counted too, see `counts_connections`.
        """
        return self._channels.get(cluster_pk, {})

    def _add_to_channel(self, channel: Channel, subscribers: int) -> None:
        cluster_pk, path = channel
        paths = self._channels[cluster_pk]
        add(paths, path, subscribers)
        if not paths:
            del self._channels[cluster_pk]

    def _add_to_users(self, place: Place, connections: int) -> None:
        for user in place.quotas:
            add(self._users, user, connections)

    def count_here(self, channel: Channel) -> int:
        """Return the number of connections to a channel on this node."""
        return self._channels[channel[0]][channel[1]] if channel[0] in self._channels else 0


def add(counter: Counter[str], name: str, number: int) -> None:
    """Add to a number in a counter, and remove it when it becomes 0."""
    counter[name] += number
    if not counter[name]:
        del counter[name]
