"""A node's client of Redis: its requests, and whether Redis answers them."""

import asyncio
import logging
import socket
from collections.abc import Callable, Sequence
from typing import Any

from redis import asyncio as redis_asyncio
from redis.asyncio.client import Pipeline
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError

logger = logging.getLogger(__name__)

# How long to wait for an answer from Redis, in seconds. A connection that has not been counted on all nodes after this
# time is accepted anyway.
ANSWER_SECONDS = 2.0
# How many requests may wait for Redis at the same time. Each takes a connection to Redis, which stays open.
_MAX_REQUESTS = 8


class RedisClient:
    """What one node uses to read and write in Redis. Loop thread only.

    Once a request has failed, Redis counts as unreachable, and requests do not wait for it until `report_success`.

    Args:
        url: the URL of Redis.
        prefix: begins the names of all keys.
        node_id: the ID of the node.
    """

    def __init__(self, url: str, prefix: str, node_id: str) -> None:
        self.prefix = prefix
        self.node_id = node_id
        # Retry once, since Redis may have closed an idle connection, which is not an outage.
        retry = Retry(NoBackoff(), 1, supported_errors=(RedisConnectionError,))
        self.redis = redis_asyncio.from_url(url, retry=retry, **client_options(url))
        self.is_reachable = True
        self.recoveries = 0
        """How often Redis became reachable again."""
        self.on_failure: list[Callable[[], None]] = []
        """Called after each request that has failed."""
        self._request_slots = asyncio.Semaphore(_MAX_REQUESTS)

    async def run(self, scripts: Sequence[tuple[str, ...]]) -> list[list[str]] | None:
        """Run scripts with their arguments.

        Returns:
            The answer to each script; None if Redis is unreachable.
        """
        return await self._request(
            [("EVAL", script, "1", self.prefix, self.node_id, *arguments) for script, *arguments in scripts]
        )

    async def ask(self, *commands: tuple[str, ...]) -> list[Any] | None:
        """Return the answer to each of some commands; None if Redis is unreachable."""
        if not self.is_reachable:
            return None
        # Callers at the front door may still run without a task, which redis-py needs for its timeouts.
        await asyncio.sleep(0)
        return await self._request(commands)

    async def _request(self, commands: Sequence[tuple[str, ...]]) -> list[Any] | None:
        """Send commands when few others are under way; return their answers, or None if Redis is unreachable."""
        async with self._request_slots:
            if not self.is_reachable:
                return None
            pipeline = self.redis.pipeline(transaction=False)
            for command in commands:
                pipeline.execute_command(*command)
            return await self.execute(pipeline)

    async def execute(self, pipeline: Pipeline) -> list[Any] | None:
        """Execute the commands of a pipeline.

        Returns:
            The answer to each command; None if Redis does not answer.
        """
        recoveries = self.recoveries
        try:
            answers: list[Any] = await pipeline.execute()
        except (RedisError, OSError) as error:
            self.report_failure(error, recoveries)
            return None
        return answers

    def report_failure(self, error: Exception, recoveries: int) -> None:
        """Remember that Redis is unreachable, unless the request was sent before Redis was last reachable again.

        Args:
            error: why the request has failed.
            recoveries: the value of `recoveries` when the request was sent. On connections that died in an outage,
                requests may fail after its end.
        """
        if self.is_reachable and recoveries == self.recoveries:
            logger.error("Redis is unreachable (%s); connections on other nodes are not counted.", error)
            self.is_reachable = False
        for function in self.on_failure:
            function()

    def report_success(self) -> None:
        """Remember that Redis is reachable."""
        if not self.is_reachable:
            logger.warning("Redis is reachable again; the connections on all nodes are counted.")
            self.is_reachable = True
            self.recoveries += 1


def client_options(url: str) -> dict[str, Any]:
    """Return the options of a client of Redis.

    Args:
        url: the URL of Redis.
    """
    # Explicit timeouts, since the defaults of redis-py have changed.
    options: dict[str, Any] = {"decode_responses": True}
    options |= {"socket_timeout": ANSWER_SECONDS, "socket_connect_timeout": ANSWER_SECONDS}
    if hasattr(socket, "TCP_USER_TIMEOUT") and not url.startswith("unix:"):
        # Otherwise the kernel would go on sending what nobody waits for any more, even after the process has ended. An
        # old lease or count could so reach Redis long after an outage.
        options["socket_keepalive"] = True
        options["socket_keepalive_options"] = {socket.TCP_USER_TIMEOUT: int(ANSWER_SECONDS * 1000)}
    return options
