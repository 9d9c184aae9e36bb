"""What was done in the last minutes and must not be done again, such as a request that a client repeats.

Loop thread only.
"""

import hashlib
import time
from collections import OrderedDict

from realtime.cluster.redis_client import RedisClient

KEPT_SECONDS = 300
MAX_ACTIONS = 100_000
"""How many actions one node remembers. Beyond that it forgets the oldest ones."""
REQUEST = "request"
"""A request, which the client identifies with an idempotency key."""
CACHE_MISS = "cache_miss"
"""The report that a channel has no last event. The path of the channel identifies it."""


class RecentActions:
    """What a single node has done. Each kind of action has identifiers of its own."""

    def __init__(self) -> None:
        self._until: OrderedDict[str, float] = OrderedDict()

    async def claim(self, kind: str, cluster_pk: int, identifier: str) -> bool:
        """Return whether an action is new, and remember it.

        Args:
            kind: the kind of action.
            cluster_pk: the primary key of the cluster.
            identifier: identifies the action among those of its kind in the cluster.
        """
        return self._claim_here(_name(kind, cluster_pk, identifier))

    async def release(self, kind: str, cluster_pk: int, identifier: str) -> None:
        """Forget an action that has failed, so that it can be claimed again."""
        self._until.pop(_name(kind, cluster_pk, identifier), None)

    def _claim_here(self, name: str) -> bool:
        now = time.monotonic()
        while self._until and (len(self._until) > MAX_ACTIONS or next(iter(self._until.values())) <= now):
            self._until.popitem(last=False)
        if name in self._until:
            return False
        self._until[name] = now + KEPT_SECONDS
        return True


class SharedRecentActions(RecentActions):
    """What nodes that share a Redis have done. While it is unreachable, each node remembers only its own ones.

    Args:
        client: the node's client of Redis.
    """

    def __init__(self, client: RedisClient) -> None:
        super().__init__()
        self._client = client

    async def claim(self, kind: str, cluster_pk: int, identifier: str) -> bool:
        name = _name(kind, cluster_pk, identifier)
        if not self._claim_here(name):
            return False
        claimed = await self._client.ask(("SET", self._key(name), "1", "NX", "EX", str(KEPT_SECONDS)))
        return claimed is None or claimed[0] is not None

    async def release(self, kind: str, cluster_pk: int, identifier: str) -> None:
        await super().release(kind, cluster_pk, identifier)
        await self._client.ask(("DEL", self._key(_name(kind, cluster_pk, identifier))))

    def _key(self, name: str) -> str:
        return f"{self._client.prefix}{name}"


def _name(kind: str, cluster_pk: int, identifier: str) -> str:
    """Return a short name of an action, which no other action has."""
    return f"{kind}:{cluster_pk}:{hashlib.sha256(identifier.encode(errors='surrogatepass')).hexdigest()}"
