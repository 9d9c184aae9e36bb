"""How many connections there are, of each channel and of those who have quotas."""

import asyncio
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping

from realtime.protocols.channels import Channel


class Place:
    """What one connection takes up in the count."""

    __slots__ = ("channel", "decided", "is_waiting", "quotas")

    def __init__(self, channel: Channel, quotas: Mapping[str, int]) -> None:
        self.channel = channel
        self.quotas = quotas
        self.is_waiting = False  # for the others' word that the quotas have room for it
        self.decided: asyncio.Future[bool] | None = None


class ConnectionCounts:
    """What the only node has, and what there is to know of others. Loop thread only."""

    is_reachable = True
    """Whether what the others have is known."""

    def __init__(self) -> None:
        self._channels: defaultdict[int, Counter[str]] = defaultdict(Counter)
        self._users: Counter[str] = Counter()

    def start(self) -> None:
        """Begin to share."""

    async def stop(self) -> None:
        """Give the share up."""

    def enter(self, channel: Channel, quotas: Mapping[str, int]) -> Place | None:
        """Count a connection from now on.

        Args:
            channel: what it is connected to.
            quotas: whose it is, and how many connections each of them may have.

        Returns:
            Its place, to be given back; None if there are as many on this node alone as there may be.
        """
        if any(self._users.get(user, 0) >= quota for user, quota in quotas.items()):
            return None
        place = Place(channel, quotas)
        self._add(place, 1)
        return place

    def leave(self, place: Place) -> None:
        """Count a connection no longer. Once a place."""
        self._add(place, -1)

    async def may_stay(self, place: Place) -> bool:
        """Wait until all nodes can know of a connection, or a little if they are out of reach.

        Returns:
            Whether the quotas have room for it on all nodes together.
        """
        return True

    def of_user(self, user: str) -> int:
        """How many connections an account or a key has on this node."""
        return self._users.get(user, 0)

    def count(self, channel: Channel, then: Callable[[int], None]) -> None:
        """Count the connections to a channel on all nodes; if the others are out of reach, those that are here.

        Args:
            channel: what they are connected to.
            then: called with the number, at once if this node is alone.
        """
        then(self._here(channel))

    async def of_cluster(self, cluster_pk: int) -> Mapping[str, int]:
        """How many connections each channel of a cluster has on all nodes, by the channel's path."""
        return self._channels.get(cluster_pk, {})

    def _add(self, place: Place, connections: int) -> None:
        cluster_pk, path = place.channel
        paths = self._channels[cluster_pk]
        add(paths, path, connections)
        if not paths:
            del self._channels[cluster_pk]
        for user in place.quotas:
            add(self._users, user, connections)

    def _here(self, channel: Channel) -> int:
        return self._channels[channel[0]][channel[1]] if channel[0] in self._channels else 0


def add(counter: Counter[str], name: str, number: int) -> None:
    """Change a number in a counter that keeps none that are 0."""
    counter[name] += number
    if not counter[name]:
        del counter[name]
