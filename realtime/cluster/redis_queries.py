"""What any process may ask Redis, also one without a node."""

import logging
from functools import cache
from typing import Any

import redis
from redis.exceptions import RedisError

from realtime.cluster.redis_client import client_options
from realtime.cluster.redis_scripts import LIVING_NODES, READ_OTHERS

logger = logging.getLogger(__name__)


def of_user_everywhere(url: str, prefix: str, user: str) -> int:
    """Return a user's number of connections on all nodes, or 0 if Redis is unreachable. Any process may call it."""
    found = _eval(url, READ_OTHERS, prefix, "", "users:", "", user) or []
    return sum(map(int, found[1::2]))


def of_cluster_everywhere(url: str, prefix: str, cluster_pk: int) -> int:
    """Return the number of connections to a cluster on all nodes, or 0 if Redis is unreachable."""
    found = _eval(url, READ_OTHERS, prefix, "", "channels:", f":{cluster_pk}") or []
    return sum(map(int, found[1::2]))


def of_all_everywhere(url: str, prefix: str, accounts: str) -> tuple[int, int] | None:
    """Return the number of nodes and of connections on all of them, or None if Redis is unreachable.

    Args:
        url, prefix: the URL of Redis, and what begins all names on it.
        accounts: what begins the names of users that are accounts.
    """
    nodes, found = _eval(url, LIVING_NODES, prefix), _eval(url, READ_OTHERS, prefix, "", "users:", "")
    if nodes is None or found is None:
        return None
    users = zip(found[::2], found[1::2], strict=True)
    return len(nodes), sum(int(count) for user, count in users if user.startswith(accounts))


def _eval(url: str, script: str, prefix: str, *arguments: str) -> list[str] | None:
    try:
        found: list[str] = _client(url).eval(script, 1, prefix, *arguments)
    except RedisError as error:
        logger.error("Redis is unreachable (%s); connections cannot be counted.", error)
        return None
    return found


@cache
def _client(url: str) -> Any:
    return redis.Redis.from_url(url, **client_options(url))
