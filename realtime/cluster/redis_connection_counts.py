"""Counts of connections on nodes that share a Redis, and the lease of each node.

Only the node itself writes its counts. It writes numbers and not changes, so writing them twice is harmless. Each node
also holds a lease. When the lease expires, the counts of the node are ignored, and the other nodes delete them.

    nodes                   the IDs of all nodes that have counts
    lease:NODE              exists while the node is alive
    channels:NODE:CLUSTER   hash: the connections to each channel of a cluster, by the channel's path
    clusters:NODE           the clusters that have such a hash
    users:NODE              hash: the connections of each account and API key

The names of the keys begin with the prefix of the service. A node that loses its lease loses its seats in presence too;
`redis_seats` describes their keys.
"""

import asyncio
import contextlib
import json
import logging
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Collection, Mapping, Sequence
from itertools import chain
from typing import Any, TypeVar

from redis.exceptions import RedisError

from realtime.base import tasks
from realtime.base.portions import Portions
from realtime.cluster.connection_counts import ConnectionCounts, Place, add
from realtime.cluster.redis_client import ANSWER_SECONDS, RedisClient
from realtime.cluster.redis_scripts import CLEAN_UP, COUNT_USERS, LIVING_NODES, WRITE_USERS, read_others
from realtime.cluster.redis_seats import RedisSeats
from realtime.protocols.channels import Channel

logger = logging.getLogger(__name__)

T = TypeVar("T")

LEASE_SECONDS = 10
# The interval at which the lease is renewed, and at which this is retried while Redis is unreachable, in seconds.
RENEW_SECONDS = 1.0
RETRY_SECONDS = 0.5
# How many renewals it takes until everything is written again, in case Redis has evicted some of it.
REWRITE_RENEWALS = 15
# How many counts or quota checks one request to Redis contains. Redis takes at most a tenth of a second for them.
_MAX_BATCH = 1_000


class RedisConnectionCounts(ConnectionCounts):
    """The counts of this node, and of the other nodes that share its Redis.

    Args:
        url: the URL of Redis.
        prefix: begins the names of all keys.
        node_id: the ID of this node.
    """

    def __init__(self, url: str, prefix: str, node_id: str) -> None:
        super().__init__()
        self._prefix = prefix
        self._node_id = node_id
        self.client = self._client = RedisClient(url, prefix, node_id)
        """The node's client of Redis."""
        self._redis = self._client.redis
        self.seats = RedisSeats(self._client)
        """The seats of presence in Redis, which the same lease keeps."""
        self._client.on_failure += [self.seats.note_failure, self._admit_queue, self._note_written]
        self._queue: deque[Place] = deque()  # connections whose quotas have to be checked
        self._waiting: Counter[str] = Counter()  # for each user, the connections that have not passed the check yet
        self._changed_channels: set[Channel] = set()
        self._changed_users: set[str] = set()
        self._writing_channels: set[Channel] = set()
        self._after_write: defaultdict[Channel, list[Callable[[], None]]] = defaultdict(list)
        self._changed = asyncio.Event()
        self._leased = asyncio.Event()  # until then, other nodes ignore what this node writes
        self._count_requests: defaultdict[Channel, list[Callable[[int], None]]] = defaultdict(list)
        self._counting: asyncio.Task[None] | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._channel_portions = Portions(self._all_channels, REWRITE_RENEWALS)
        self._user_portions = Portions(lambda: list(self._users), REWRITE_RENEWALS)
        self._has_warned = False
        self.rewrites = 0
        """How often this node had to write everything again, because Redis may have lost it."""

    @property
    def is_reachable(self) -> bool:
        return self._client.is_reachable

    def start(self) -> None:
        self._tasks = [
            tasks.keep("writing connection counts", self._write_changes),
            tasks.keep("keeping the lease", self._keep_lease),
        ]

    async def stop(self) -> None:
        await tasks.end(self._tasks)
        with contextlib.suppress(RedisError, OSError):
            await self._redis.delete(f"{self._prefix}lease:{self._node_id}")
            await self._redis.eval(CLEAN_UP, 1, self._prefix)
        await self._redis.aclose()

    def enter(self, channel: Channel, quotas: Mapping[str, int]) -> Place | None:
        place = super().enter(channel, quotas)
        if place is not None and self.is_reachable:
            place.is_waiting = True
            self._waiting.update(place.quotas.keys())
        return place

    async def join(self, place: Place) -> bool:
        if not (place.is_waiting and self.is_reachable):
            self._admit_unchecked(place)
            return True
        decision: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        place.decision = decision
        self._queue.append(place)
        self._changed.set()
        try:
            # Not asyncio.timeout, which needs a task; the front door starts to join without one.
            await asyncio.wait([decision], timeout=ANSWER_SECONDS)
        finally:
            place.decision = None
        if decision.done():
            return decision.result()
        if place.is_waiting:  # else it has left
            self._admit_unchecked(place)
        return True

    def leave(self, place: Place) -> None:
        super().leave(place)
        if place.is_waiting:
            self._stop_waiting(place)
            self._mark_changed(place)  # Redis may have counted it in the meantime

    def _stop_waiting(self, place: Place) -> None:
        """Stop waiting for the quota check of a connection, which has passed it or has left."""
        if place.is_waiting:
            place.is_waiting = False
            for user in place.quotas:
                add(self._waiting, user, -1)

    def _admit_unchecked(self, place: Place) -> None:
        """Count a connection that Redis could not check."""
        self._stop_waiting(place)
        place.has_joined = True
        self._add_to_channel(place.channel, 1)
        self._note_here(place.quotas)
        self._mark_changed(place)

    def _decide(self, place: Place, has_room: bool) -> None:
        """Apply the answer of Redis, which has counted the connection if there is room for it."""
        if place.decision is None or place.decision.done() or not place.is_waiting:
            return  # it has left, or was admitted unchecked
        if has_room:
            self._stop_waiting(place)
            place.has_joined = True
            super()._add_to_channel(place.channel, 1)
        place.decision.set_result(has_room)

    def _add_to_channel(self, channel: Channel, subscribers: int) -> None:
        super()._add_to_channel(channel, subscribers)
        self._changed_channels.add(channel)
        self._changed.set()

    def _add_to_users(self, place: Place, connections: int) -> None:
        super()._add_to_users(place, connections)
        self._changed_users.update(place.quotas)
        self._changed.set()

    def _mark_changed(self, place: Place) -> None:
        self._changed_channels.add(place.channel)
        self._changed_users.update(place.quotas)
        self._changed.set()

    def count(self, channel: Channel, then: Callable[[int], None]) -> None:
        self._count_requests[channel].append(then)
        if self._counting is None:
            self._counting = asyncio.create_task(self._answer_count_requests())

    def after_write(self, channel: Channel, then: Callable[[], None]) -> None:
        if self.is_reachable and (channel in self._changed_channels or channel in self._writing_channels):
            self._after_write[channel].append(then)
        else:
            then()

    def _note_written(self, channels: Collection[Channel] | None = None) -> None:
        """Call what waits for the counts of channels that are written now; of all channels if Redis is unreachable."""
        waiting = list(self._after_write) if channels is None else self._after_write.keys() & channels
        for channel in waiting:
            if channels is None or channel not in self._changed_channels:
                for then in self._after_write.pop(channel):
                    then()

    async def of_cluster(self, cluster_pk: int) -> Mapping[str, int]:
        total = Counter(self._channels.get(cluster_pk, {}))
        found = await self._client.run([read_others("channels:", f":{cluster_pk}")]) or [[]]
        for path, connections in zip(found[0][::2], found[0][1::2], strict=True):
            total[path] += int(connections)
        return total

    async def _answer_count_requests(self) -> None:
        """Answer all count requests. Those for the same channel share an answer.

        A single task with a single connection does this, since clients in many channels may ask at the same time.
        """
        requests = self._count_requests
        try:
            while requests:
                batch = [requests.popitem() for _ in range(min(len(requests), _MAX_BATCH))]
                found = await self._client.run([read_others("channels:", f":{pk}", path) for (pk, path), _ in batch])
                for number, (channel, callbacks) in enumerate(batch):
                    elsewhere = sum(map(int, found[number][1::2])) if found else 0
                    for then in callbacks:
                        then(self.count_here(channel) + elsewhere)
        finally:
            self._counting = None

    async def living_nodes(self) -> list[str] | None:
        """Return the nodes that hold a lease; None if Redis does not answer."""
        found = await self._client.run([(LIVING_NODES,)])
        return found[0] if found else None

    async def _write_changes(self) -> None:
        """Write changed counts immediately. Changes during a write go together into the next one."""
        await self._leased.wait()
        while True:
            await self._changed.wait()
            self._changed.clear()
            channels = _take_some(self._changed_channels)
            users = _take_some(self._changed_users)
            places = self._next_places()
            if self._changed_channels or self._changed_users:
                self._changed.set()
            recoveries = self._client.recoveries
            self._writing_channels = channels
            try:
                has_room = await self._write(channels, users, places)
            except Exception as error:
                self._writing_channels = set()
                self._changed_channels |= channels
                self._changed_users |= users
                self._changed.set()
                self._changed_channels.update(place.channel for place in places)
                self._queue.extendleft(places)
                self._client.report_failure(error, recoveries)
                await asyncio.sleep(RENEW_SECONDS)
            else:
                self._writing_channels = set()
                self._note_written(channels)
                for place, answer in zip(places, has_room, strict=True):
                    self._decide(place, bool(answer))

    def _next_places(self) -> list[Place]:
        """Remove the next batch from the queue, and return the places in it that are still waiting."""
        batch = [self._queue.popleft() for _ in range(min(len(self._queue), _MAX_BATCH))]
        if self._queue:
            self._changed.set()
        return [place for place in batch if place.is_waiting]

    async def _write(self, channels: set[Channel], users: set[str], places: Sequence[Place]) -> Sequence[int]:
        """Write the counts of channels and users, and check the quotas of places that wait.

        Returns:
            For each place, whether it is within its quotas: 1 or 0.
        """
        pipeline = self._redis.pipeline(transaction=True)
        # One command for all channels of a cluster: each command keeps this node from its messages for 20 µs.
        counts: defaultdict[int, dict[Any, Any]] = defaultdict(dict)
        for channel in channels:
            counts[channel[0]][channel[1]] = self.count_here(channel)
        for cluster_pk, of_cluster in counts.items():
            key = f"{self._prefix}channels:{self._node_id}:{cluster_pk}"
            if occupied := {path: connections for path, connections in of_cluster.items() if connections}:
                pipeline.hset(key, mapping=occupied)
            if vacated := [path for path, connections in of_cluster.items() if not connections]:
                pipeline.hdel(key, *vacated)
        if counts:
            pipeline.sadd(f"{self._prefix}clusters:{self._node_id}", *counts)
        quotas = [place.quotas for place in places]
        here = {user: self._users.get(user, 0) - self._waiting.get(user, 0) for user in users.union(*quotas)}
        joining = [(str(place.channel[0]), place.channel[1], self.count_here(place.channel)) for place in places]
        argument = json.dumps({"here": here, "waiting": quotas, "channels": joining})
        pipeline.eval(WRITE_USERS, 1, self._prefix, self._node_id, argument)
        answers: list[Any] = await pipeline.execute()
        has_room: list[int]
        has_room, sums = answers[-1]
        for user, connections in zip(sums[::2], sums[1::2], strict=True):
            self._note(user, connections)
        return has_room

    async def note_all(self) -> None:
        users = list(self._users)
        pipeline = self._redis.pipeline(transaction=False)
        for start in range(0, len(users), _MAX_BATCH):
            pipeline.eval(COUNT_USERS, 1, self._prefix, *users[start : start + _MAX_BATCH])
        sums = await self._client.execute(pipeline) if self.is_reachable else None
        if sums is None:
            self._note_here(users)
        else:
            for user, connections in zip(users, chain.from_iterable(sums), strict=True):
                self._note(user, connections)

    async def _keep_lease(self) -> None:
        """Keep the lease of this node, and delete what nodes without a lease have left."""
        while True:
            recoveries = self._client.recoveries
            try:
                if not self.is_reachable:
                    # Connections from before the outage may be dead. Otherwise each would first fail a request.
                    async with asyncio.timeout(ANSWER_SECONDS):
                        await self._redis.connection_pool.disconnect(inuse_connections=False)
                held = await self._renew()
                if not (held and self.is_reachable):
                    await self._start_over()
            except Exception as error:
                self._client.report_failure(error, recoveries)
            else:
                if held and self.is_reachable:
                    self._mark_some_changed()
                else:
                    # Other nodes may have deleted the counts of this node, or Redis may have lost them.
                    self._mark_all_changed()
                self._client.report_success()
            await asyncio.sleep(RENEW_SECONDS if self.is_reachable else RETRY_SECONDS)

    async def _start_over(self) -> None:
        """Prepare Redis for being told again what this node has."""
        self.seats.are_complete = False
        await self._renew()  # so that other nodes do not miss seats that are written again soon
        # Among them may be seats of members that have left during the outage.
        await self.seats.forget()
        await self._check_eviction()

    async def _check_eviction(self) -> None:
        """Warn if Redis may evict the counts when its memory is full."""
        policy = (await self._redis.info("memory")).get("maxmemory_policy", "noeviction")
        if policy != "noeviction" and not self._has_warned:
            self._has_warned = True
            logger.warning(
                "Redis has the maxmemory-policy %s, which may evict connection counts and presence at any time. "
                "Set it to noeviction.",
                policy,
            )

    async def _renew(self) -> bool:
        """Renew the lease and clean up. Return whether this node still held the lease."""
        pipeline = self._redis.pipeline(transaction=True)
        value = "complete" if self.seats.are_complete else "incomplete"
        pipeline.set(f"{self._prefix}lease:{self._node_id}", value, px=int(LEASE_SECONDS * 1000), get=True)
        pipeline.sadd(f"{self._prefix}nodes", self._node_id)
        pipeline.eval(CLEAN_UP, 1, self._prefix)
        held, *_ = await pipeline.execute()
        self._leased.set()
        return held is not None

    def _mark_all_changed(self) -> None:
        self.rewrites += 1
        self._changed_channels.update(self._all_channels())
        self._changed_users.update(self._users)
        self._changed.set()

    def _mark_some_changed(self) -> None:
        """Have a part of the counts written again; `REWRITE_RENEWALS` calls have written all of them."""
        channels, users = self._channel_portions.take(), self._user_portions.take()
        if channels or users:
            self._changed_channels.update(channels)
            self._changed_users.update(users)
            self._changed.set()

    def _all_channels(self) -> list[Channel]:
        return [(pk, path) for pk, paths in self._channels.items() for path in paths]

    def _admit_queue(self) -> None:
        """Accept the connections that wait for Redis, which does not answer."""
        while self._queue:
            place = self._queue.popleft()
            if place.decision is not None and not place.decision.done() and place.is_waiting:
                self._admit_unchecked(place)
                place.decision.set_result(True)


def _take_some(items: set[T]) -> set[T]:
    """Remove and return the items of one batch."""
    return {items.pop() for _ in range(min(len(items), _MAX_BATCH))}
