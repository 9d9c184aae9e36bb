"""What any process may ask Redis, also one without a node."""

import logging
from functools import cache
from typing import Any

import redis
from redis.exceptions import RedisError

from realtime.cluster.redis_scripts import READ_OTHERS

logger = logging.getLogger(__name__)

# How long to wait for an answer from Redis, in seconds. A connection that has not been counted on all nodes after this
# time is accepted anyway.
ANSWER_SECONDS = 2.0


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
    return redis.Redis.from_url(url, **client_options())


def client_options() -> dict[str, Any]:
    """Return the options of a client of Redis."""
    # Explicit timeouts, since the defaults of redis-py have changed.
    return {"decode_responses": True, "socket_timeout": ANSWER_SECONDS, "socket_connect_timeout": ANSWER_SECONDS}
