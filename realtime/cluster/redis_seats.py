"""The seats of presence in Redis, where nodes read those of other nodes.

Only the node itself writes its seats. They count as long as the node holds its lease; when it expires, the other nodes
delete them. `redis_connection_counts` keeps the lease.

    seats:NODE:GROUP   hash: the seats in the presence of a channel, by their numbers
    groups:NODE        the groups that have such a hash

The names of the keys begin with the prefix of the service.
"""

import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

from realtime.cluster.redis_client import RedisClient
from realtime.cluster.redis_scripts import COMPLETE_NODES, FORGET_SEATS, read_others


class RedisSeats:
    """The seats of this node in Redis, and those of the other nodes. Loop thread only."""

    def __init__(self, client: RedisClient) -> None:
        self._client = client
        self.are_complete = True
        """Whether all seats of this node are in Redis. After a loss, its presence writes them again and says so."""

    def note_failure(self) -> None:
        """Note that a request to Redis has failed, so that seats may be missing there."""
        self.are_complete = False

    async def of_group(self, group: str) -> tuple[list[list[Any]], list[str]] | None:
        """Return the seats of a group on the other living nodes, and the nodes that have written all of their seats.

        None if Redis does not answer.
        """
        found = await self.of_groups([group])
        return (found[0][0], found[1]) if found else None

    async def of_groups(self, groups: Sequence[str]) -> tuple[list[list[list[Any]]], list[str]] | None:
        """Return the same as `of_group`, with the seats of each group."""
        found = await self._client.run([*(read_others("seats:", f":{group}") for group in groups), (COMPLETE_NODES,)])
        if found is None:
            return None
        *of_groups, complete_nodes = found
        return [[json.loads(fields) for fields in seats[1::2]] for seats in of_groups], complete_nodes

    async def write(self, changes: Sequence[tuple[str, int, Sequence[Any] | None]], left_groups: Iterable[str]) -> bool:
        """Write changes of the seats on this node.

        Args:
            changes: the group, number and fields of each changed seat. The fields are None if the seat was removed.
            left_groups: the groups in which this node has no seats any more.

        Returns:
            Whether Redis has stored the changes.
        """
        if not self._client.is_reachable:
            return False
        prefix, node_id = self._client.prefix, self._client.node_id
        pipeline = self._client.redis.pipeline(transaction=False)
        seats: defaultdict[str, dict[Any, Any]] = defaultdict(dict)
        for group, number, fields in changes:
            seats[group][str(number)] = None if fields is None else json.dumps(fields)
        for group, of_group in seats.items():
            key = f"{prefix}seats:{node_id}:{group}"
            if taken := {number: fields for number, fields in of_group.items() if fields is not None}:
                pipeline.hset(key, mapping=taken)
            if left := [number for number, fields in of_group.items() if fields is None]:
                pipeline.hdel(key, *left)
        if seats:
            pipeline.sadd(f"{prefix}groups:{node_id}", *seats)
        if gone := list(left_groups):
            pipeline.srem(f"{prefix}groups:{node_id}", *gone)
        return await self._client.execute(pipeline) is not None

    async def forget(self) -> None:
        """Delete the seats of this node.

        Raises:
            RedisError, OSError: Redis does not answer.
        """
        await self._client.redis.eval(FORGET_SEATS, 1, self._client.prefix, self._client.node_id)
