"""What any process may ask Redis, also one without a node."""

import logging
from collections.abc import Sequence
from functools import cache
from typing import Any

import redis
from redis.exceptions import RedisError

from realtime.cluster.redis_client import client_options
from realtime.cluster.redis_scripts import COUNT_USERS

logger = logging.getLogger(__name__)


def of_users_everywhere(url: str, prefix: str, users: Sequence[str]) -> list[int]:
    """Return the number of connections on all nodes of each of up to 1,000 users, or 0 if Redis is unreachable."""
    if not users:
        return []
    try:
        counts: list[int] = _client(url).eval(COUNT_USERS, 1, prefix, *users)
    except RedisError as error:
        logger.error("Redis is unreachable (%s); connections cannot be counted.", error)
        return [0] * len(users)
    return counts


@cache
def _client(url: str) -> Any:
    return redis.Redis.from_url(url, **client_options(url))
