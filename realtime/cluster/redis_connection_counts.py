"""Connections counted among nodes that share a Redis.

Each node owns its share: it alone writes it, as numbers and not as changes, so that writing twice does no harm. Besides
it holds a lease: the share of a node whose lease has run out counts no longer, and the others clean it up.

    piesocket:nodes                   the IDs of all nodes that have a share
    piesocket:lease:NODE              exists while the node lives
    piesocket:channels:NODE:CLUSTER   the connections to each channel of a cluster on this node, by the channel's path
    piesocket:clusters:NODE           the clusters for which there is such a hash
    piesocket:users:NODE              the connections of each account and key on this node
    piesocket:seats:NODE:GROUP        who takes part in the presence of a channel on this node, by the seat's number
    piesocket:groups:NODE             the groups for which there is such a hash
"""

import asyncio
import contextlib
import json
import logging
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from typing import Any

import redis
from redis import asyncio as redis_asyncio
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError

from realtime.base import tasks
from realtime.cluster.connection_counts import ConnectionCounts, Place, add
from realtime.cluster.redis_scripts import CLEAN, LIVING, OTHERS, WRITE_USERS
from realtime.protocols.channels import Channel

logger = logging.getLogger(__name__)

PREFIX = "piesocket:"
LEASE_SECONDS = 10
# How often the lease is renewed, in seconds.
RENEW_SECONDS = 1.0
# How many questions, of clients or of quotas, go to Redis together: they take it a tenth of a second at most.
_QUESTIONS_AT_ONCE = 1_000
# How many of what is asked besides wait for Redis at once: each takes a connection to it, which is kept.
_ASKING_AT_ONCE = 8
# How long an answer of Redis is waited for, and how long a connection waits for being counted everywhere before it is
# accepted all the same, in seconds.
ANSWER_SECONDS = 2.0


class RedisConnectionCounts(ConnectionCounts):
    """What this node has, and what the others that share its Redis have."""

    def __init__(self, url: str, node_id: str) -> None:
        """
        Args:
            url: of Redis.
            node_id: names the share.
        """
        super().__init__()
        self._node_id = node_id
        # Tried twice: a connection that Redis has closed meanwhile is no outage.
        retry = Retry(NoBackoff(), 1, supported_errors=(RedisConnectionError,))
        self._redis = redis_asyncio.from_url(url, retry=retry, **_options())
        self._waiting: deque[Place] = deque()
        self._unsettled: Counter[str] = Counter()  # connections that have no room yet by the quotas, of each user
        self._changed_channels: set[Channel] = set()
        self._changed_users: set[str] = set()
        self._changed = asyncio.Event()
        self._leased = asyncio.Event()  # before that, what is written counts for nobody
        self._asked: defaultdict[Channel, list[Callable[[int], None]]] = defaultdict(list)
        self._asking: asyncio.Task[None] | None = None
        self._slots = asyncio.Semaphore(_ASKING_AT_ONCE)
        self._tasks: list[asyncio.Task[None]] = []
        self.times_told = 0
        """How often this node had to say again all that it has."""

    def start(self) -> None:
        self._tasks = [asyncio.create_task(self._write_changes()), asyncio.create_task(self._live())]

    async def stop(self) -> None:
        await tasks.end(self._tasks)
        with contextlib.suppress(RedisError, OSError):
            await self._redis.delete(f"{PREFIX}lease:{self._node_id}")
            await self._redis.eval(CLEAN, 1, PREFIX)
        await self._redis.aclose()

    def enter(self, channel: Channel, quotas: Mapping[str, int]) -> Place | None:
        place = super().enter(channel, quotas)
        if place is not None and self.is_reachable:
            place.is_waiting = True
            place.decided = asyncio.get_running_loop().create_future()
            self._unsettled.update(place.quotas.keys())
            self._waiting.append(place)
        return place

    def leave(self, place: Place) -> None:
        super().leave(place)
        self._settle(place)

    async def may_stay(self, place: Place) -> bool:
        if place.decided is None:
            return True
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                return await place.decided
        except TimeoutError:
            self._settle(place)
            self._note(place)
            return True
        finally:
            place.decided = None

    def _settle(self, place: Place) -> None:
        """Count a connection as one that has room, or has left."""
        if place.is_waiting:
            place.is_waiting = False
            for user in place.quotas:
                add(self._unsettled, user, -1)

    def _decide(self, place: Place, has_room: bool) -> None:
        if has_room:
            self._settle(place)
        if place.decided is not None and not place.decided.done():
            place.decided.set_result(has_room)

    def _add(self, place: Place, connections: int) -> None:
        super()._add(place, connections)
        self._note(place)

    def _note(self, place: Place) -> None:
        self._changed_channels.add(place.channel)
        self._changed_users.update(place.quotas)
        self._changed.set()

    def count(self, channel: Channel, then: Callable[[int], None]) -> None:
        self._asked[channel].append(then)
        if self._asking is None:
            self._asking = asyncio.create_task(self._ask())

    async def of_cluster(self, cluster_pk: int) -> Mapping[str, int]:
        total = Counter(self._channels.get(cluster_pk, {}))
        found = await self._run([_others("channels:", f":{cluster_pk}")]) or [[]]
        for path, connections in zip(found[0][::2], found[0][1::2], strict=True):
            total[path] += int(connections)
        return total

    async def _ask(self) -> None:
        """Answer those who have asked, with one question for all of a channel, until nobody is left.

        By one task on one connection: clients of many channels may ask at once.
        """
        try:
            while self._asked:
                asked = [self._asked.popitem() for _ in range(min(len(self._asked), _QUESTIONS_AT_ONCE))]
                found = await self._run([_others("channels:", f":{pk}", path) for (pk, path), _ in asked])
                for number, (channel, waiting) in enumerate(asked):
                    elsewhere = sum(map(int, found[number][1::2])) if found else 0
                    for then in waiting:
                        then(self._here(channel) + elsewhere)
        finally:
            self._asking = None

    async def living(self) -> list[str] | None:
        """The nodes that hold a lease; None if Redis does not answer."""
        found = await self._run([(LIVING,)])
        return found[0] if found else None

    async def seats(self, group: str) -> list[list[Any]] | None:
        """The seats that the other living nodes have noted of a group; None if Redis does not answer."""
        found = await self._run([_others("seats:", f":{group}")])
        return [json.loads(fields) for fields in found[0][1::2]] if found else None

    async def _run(self, scripts: Sequence[tuple[str, ...]]) -> list[list[str]] | None:
        """The answers to scripts with their arguments; None if Redis is out of reach, which is not waited for again."""
        async with self._slots:
            if not self.is_reachable:
                return None
            pipeline = self._redis.pipeline(transaction=False)
            for script, *arguments in scripts:
                pipeline.eval(script, 1, PREFIX, self._node_id, *arguments)
            try:
                answers: list[list[str]] = await pipeline.execute()
            except (RedisError, OSError) as error:
                self._lost(error)
                return None
        return answers

    async def note_seats(
        self, changes: Sequence[tuple[str, int, Sequence[Any] | None]], left_groups: Iterable[str]
    ) -> bool:
        """Note which seats this node has.

        Args:
            changes: group, number and fields of a seat; None for the fields of one that was given up.
            left_groups: in which it has none now.

        Returns:
            Whether Redis has taken it.
        """
        if not self.is_reachable:
            return False
        pipeline = self._redis.pipeline(transaction=False)
        for group, number, fields in changes:
            key = f"{PREFIX}seats:{self._node_id}:{group}"
            if fields is None:
                pipeline.hdel(key, str(number))
            else:
                pipeline.hset(key, str(number), json.dumps(fields))
        for group in {group for group, _, _ in changes}:
            pipeline.sadd(f"{PREFIX}groups:{self._node_id}", group)
        for group in left_groups:
            pipeline.srem(f"{PREFIX}groups:{self._node_id}", group)
        try:
            await pipeline.execute()
        except (RedisError, OSError) as error:
            self._lost(error)
            return False
        return True

    async def _write_changes(self) -> None:
        """Write what has changed as soon as it has; what changes meanwhile goes together with the next."""
        await self._leased.wait()
        while True:
            await self._changed.wait()
            self._changed.clear()
            channels, self._changed_channels = self._changed_channels, set()
            users, self._changed_users = self._changed_users, set()
            waiting = self._next_waiting()
            try:
                has_room = await self._write(channels, users, waiting)
            except Exception as error:
                self._changed_channels |= channels
                self._changed_users |= users
                self._changed.set()
                self._waiting.extendleft(waiting)
                self._lost(error)
                await asyncio.sleep(RENEW_SECONDS)
            else:
                for place, answer in zip(waiting, has_room, strict=True):
                    self._decide(place, bool(answer))

    def _next_waiting(self) -> list[Place]:
        """Those whose turn it is to be asked for; the others' is the next."""
        waiting = [self._waiting.popleft() for _ in range(min(len(self._waiting), _QUESTIONS_AT_ONCE))]
        if self._waiting:
            self._changed.set()
        return [place for place in waiting if place.is_waiting]

    async def _write(self, channels: set[Channel], users: set[str], waiting: Sequence[Place]) -> Sequence[int]:
        """Write what there is of these, and ask for those that wait; return for each of them whether there is room."""
        pipeline = self._redis.pipeline(transaction=True)
        for cluster_pk, path in channels:
            key = f"{PREFIX}channels:{self._node_id}:{cluster_pk}"
            connections = self._here((cluster_pk, path))
            if connections:
                pipeline.hset(key, path, connections)
            else:
                pipeline.hdel(key, path)
        for cluster_pk in {cluster_pk for cluster_pk, _ in channels}:
            pipeline.sadd(f"{PREFIX}clusters:{self._node_id}", cluster_pk)
        quotas = [place.quotas for place in waiting]
        here = {user: self._users.get(user, 0) - self._unsettled.get(user, 0) for user in users.union(*quotas)}
        asked = json.dumps({"here": here, "waiting": quotas})
        pipeline.eval(WRITE_USERS, 1, PREFIX, self._node_id, asked)
        answers: list[Any] = await pipeline.execute()
        has_room: list[int] = answers[-1]
        return has_room

    async def _live(self) -> None:
        """Hold the lease, and clean up after nodes that hold none."""
        while True:
            if not self.is_reachable:
                # What is open since before may be dead without a sign, and would be found to be so one by one.
                await self._redis.connection_pool.disconnect(inuse_connections=False)
            try:
                held = await self._renew()
            except Exception as error:
                self._lost(error)
            else:
                if not self.is_reachable:
                    logger.warning("Redis is back; what this node has is shared again.")
                if not (held and self.is_reachable):
                    # Others took this node for dead, or may have, or Redis has forgotten all.
                    self._say_all()
                self.is_reachable = True
            await asyncio.sleep(RENEW_SECONDS)

    async def _renew(self) -> bool:
        """Renew the lease, and clean up; return whether the lease was held still."""
        pipeline = self._redis.pipeline(transaction=True)
        pipeline.set(f"{PREFIX}lease:{self._node_id}", 1, px=int(LEASE_SECONDS * 1000), get=True)
        pipeline.sadd(f"{PREFIX}nodes", self._node_id)
        pipeline.eval(CLEAN, 1, PREFIX)
        held, *_ = await pipeline.execute()
        self._leased.set()
        return held is not None

    def _say_all(self) -> None:
        self.times_told += 1
        self._changed_channels |= {(pk, path) for pk, paths in self._channels.items() for path in paths}
        self._changed_users |= set(self._users)
        self._changed.set()

    def _lost(self, error: Exception) -> None:
        if self.is_reachable:
            logger.error("Redis is out of reach (%s); connections on other nodes are not counted.", error)
            self.is_reachable = False
        while self._waiting:
            self._decide(self._waiting.popleft(), has_room=True)


def of_user_everywhere(url: str, user: str) -> int:
    """How many connections an account or a key has on all nodes, asked from outside of any; 0 if nobody answers."""
    try:
        found: Any = _client(url).eval(OTHERS, 1, PREFIX, "", "users:", "", user)
    except RedisError as error:
        logger.error("Connections cannot be counted, since Redis is out of reach: %s", error)
        return 0
    return sum(map(int, found[1::2]))


@cache
def _client(url: str) -> Any:
    return redis.Redis.from_url(url, **_options())


def _options() -> dict[str, Any]:
    # Said explicitly, since redis-py's defaults have changed.
    return {"decode_responses": True, "socket_timeout": ANSWER_SECONDS, "socket_connect_timeout": ANSWER_SECONDS}


def _others(before: str, behind: str, *field: str) -> tuple[str, ...]:
    return OTHERS, before, behind, *field
