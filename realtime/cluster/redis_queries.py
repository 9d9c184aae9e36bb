"""What any process may ask Redis, also one without a node."""

import logging
from collections.abc import Sequence
from functools import cache
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError
from redis.retry import Retry

from realtime.cluster.redis_client import ANSWER_SECONDS, client_options
from realtime.cluster.redis_scripts import COUNT_USERS, LIVING_NODES, READ_OTHERS
from realtime.protocols.channels import counts_connections

logger = logging.getLogger(__name__)

# How many users one script counts: Lua limits the arguments of a call.
MAX_USERS = 1_000
# How long to wait for Redis, if the caller does not say.
SECONDS = 2 * ANSWER_SECONDS


def of_users_everywhere(url: str, prefix: str, users: Sequence[str]) -> list[int]:
    """Return the number of connections on all nodes of each of some users, or 0 if Redis is unreachable."""
    found = _ask(url, prefix, *_count_users(users))
    return [0] * len(users) if found is None else [count for counts in found for count in counts]


def of_clusters_everywhere(url: str, prefix: str, cluster_pks: Sequence[int]) -> list[int]:
    """Return the number of connections on all nodes to each of some clusters, or 0 if Redis is unreachable."""
    found = _ask(url, prefix, *_count_clusters(cluster_pks))
    return [_sum(fields) for fields in found or [[]] * len(cluster_pks)]


def of_all_known(
    url: str, prefix: str, users: Sequence[str], cluster_pks: Sequence[int], seconds: float
) -> list[int] | None:
    """Return the number of connections on all nodes of each of some users, then to each of some clusters.

    Returns None if Redis does not answer within some seconds.
    """
    found = _ask(url, prefix, *_count_users(users), *_count_clusters(cluster_pks), seconds=seconds)
    if found is None:
        return None
    of_users, of_clusters = found[: len(found) - len(cluster_pks)], found[len(found) - len(cluster_pks) :]
    return [*(count for counts in of_users for count in counts), *map(_sum, of_clusters)]


def _count_users(users: Sequence[str]) -> list[Sequence[str]]:
    batches = (users[start : start + MAX_USERS] for start in range(0, len(users), MAX_USERS))
    return [(COUNT_USERS, *batch) for batch in batches]


def _count_clusters(cluster_pks: Sequence[int]) -> list[Sequence[str]]:
    return [(READ_OTHERS, "", "channels:", f":{pk}") for pk in cluster_pks]


def _sum(fields: Sequence[str]) -> int:
    return sum(int(count) for path, count in zip(fields[::2], fields[1::2], strict=True) if counts_connections(path))


def of_all_everywhere(url: str, prefix: str, accounts: str) -> tuple[int, int] | None:
    """Return the number of nodes and of connections on all of them, or None if Redis is unreachable.

    Args:
        url, prefix: the URL of Redis, and what begins all names on it.
        accounts: what begins the names of users that are accounts.
    """
    found = _ask(url, prefix, (LIVING_NODES,), (READ_OTHERS, "", "users:", ""))
    if found is None:
        return None
    nodes, fields = found
    users = zip(fields[::2], fields[1::2], strict=True)
    return len(nodes), sum(int(count) for user, count in users if user.startswith(accounts))


def _ask(url: str, prefix: str, *scripts: Sequence[str], seconds: float = SECONDS) -> list[Any] | None:
    """Return what these scripts return, each with its arguments, or None if Redis does not answer in time."""
    pipeline = _client(url, seconds).pipeline(transaction=False)
    for script, *arguments in scripts:
        pipeline.eval(script, 1, prefix, *arguments)
    try:
        found: list[Any] = pipeline.execute()
    except RedisError as error:
        logger.error("Redis is unreachable (%s); connections cannot be counted.", error)
        return None
    return found


@cache
def _client(url: str, seconds: float) -> Any:
    """Return a client that waits half of some seconds for a connection, and half for an answer."""
    # Redis may have closed an idle connection, which is not an outage. A late answer must not be asked for again.
    retry = Retry(NoBackoff(), 1, supported_errors=(RedisConnectionError,))
    waits = {"socket_timeout": seconds / 2, "socket_connect_timeout": seconds / 2}
    return redis.Redis.from_url(url, retry=retry, **{**client_options(url), **waits})
