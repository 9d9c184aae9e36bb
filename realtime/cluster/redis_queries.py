"""What any process may ask Redis, also one without a node."""

import logging
from functools import cache
from typing import Any

import redis
from redis.exceptions import RedisError

from realtime.cluster.redis_client import client_options
from realtime.cluster.redis_scripts import READ_OTHERS

logger = logging.getLogger(__name__)


def of_user_everywhere(url: str, prefix: str, user: str) -> int:
    """Return a user's number of connections on all nodes, or 0 if Redis is unreachable. Any process may call it."""
    try:
        found: Any = _client(url).eval(READ_OTHERS, 1, prefix, "", "users:", "", user)
    except RedisError as error:
        logger.error("Redis is unreachable (%s); connections cannot be counted.", error)
        return 0
    return sum(map(int, found[1::2]))


@cache
def _client(url: str) -> Any:
    return redis.Redis.from_url(url, **client_options(url))
