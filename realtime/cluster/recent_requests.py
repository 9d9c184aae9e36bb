"""The requests of the last minutes that clients may repeat, so that a repetition is not performed again.

Loop thread only.
"""

import hashlib
import time
from collections import OrderedDict

from realtime.cluster.redis_client import RedisClient

KEPT_SECONDS = 300
# How many requests one node remembers. Beyond that it forgets the oldest ones.
MAX_REQUESTS = 100_000


class RecentRequests:
    """The requests that a single node has performed."""

    def __init__(self) -> None:
        self._until: OrderedDict[str, float] = OrderedDict()

    async def claim(self, cluster_pk: int, idempotency_key: str) -> bool:
        """Return whether a request is new, and remember it.

        Args:
            cluster_pk: the primary key of the cluster.
            idempotency_key: what the client has sent to identify the request.
        """
        return self._claim_here(_name(cluster_pk, idempotency_key))

    async def release(self, cluster_pk: int, idempotency_key: str) -> None:
        """Forget a request that could not be performed; the client may repeat it."""
        self._until.pop(_name(cluster_pk, idempotency_key), None)

    def _claim_here(self, name: str) -> bool:
        now = time.monotonic()
        while self._until and (len(self._until) > MAX_REQUESTS or next(iter(self._until.values())) <= now):
            self._until.popitem(last=False)
        if name in self._until:
            return False
        self._until[name] = now + KEPT_SECONDS
        return True


class SharedRecentRequests(RecentRequests):
    """The requests of nodes that share a Redis. While it is unreachable, each node remembers only its own ones.

    Args:
        client: the node's client of Redis.
    """

    def __init__(self, client: RedisClient) -> None:
        super().__init__()
        self._client = client

    async def claim(self, cluster_pk: int, idempotency_key: str) -> bool:
        name = _name(cluster_pk, idempotency_key)
        if not self._claim_here(name):
            return False
        claimed = await self._client.ask(("SET", self._key(name), "1", "NX", "EX", str(KEPT_SECONDS)))
        return claimed is None or claimed[0] is not None

    async def release(self, cluster_pk: int, idempotency_key: str) -> None:
        await super().release(cluster_pk, idempotency_key)
        await self._client.ask(("DEL", self._key(_name(cluster_pk, idempotency_key))))

    def _key(self, name: str) -> str:
        return f"{self._client.prefix}request:{name}"


def _name(cluster_pk: int, idempotency_key: str) -> str:
    """Return a short name of a request, which no other request has."""
    return f"{cluster_pk}:{hashlib.sha256(idempotency_key.encode(errors='surrogatepass')).hexdigest()}"
