"""Graceful shutdown of a node, from SIGTERM or SIGINT until the process ends.

`server.signals` calls `drain` at the first signal and stops Daphne when it returns; further signals call `hurry`.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence

from realtime.conf import conf
from realtime.node.connections import Connection
from realtime.server import signals

logger = logging.getLogger(__name__)

# How many connections per second a stopping node closes at least, so that closing a few does not take long.
DRAIN_RATE = 100
# How long the node then waits for clients to answer the close frame, in seconds.
GOODBYE_SECONDS = 3.0


class Shutdown:
    """Stops accepting connections, closes the open ones gradually, and leaves the other nodes. Loop thread only."""

    def __init__(
        self,
        connections: Iterable[Connection],
        close_for_restart: Callable[[Connection], None],
        stop_parts: Sequence[Callable[[], Awaitable[None]]],
    ) -> None:
        """
        Args:
            connections: the node's open connections; the collection changes while the node runs.
            close_for_restart: closes a connection with 1012.
            stop_parts: functions that stop the parts of the node; called afterwards, in order.
        """
        self._connections = connections
        self._close_for_restart = close_for_restart
        self._stop_parts = stop_parts
        self.has_begun = False
        """Whether the shutdown has begun; the node then rejects new connections."""
        self._is_hurrying = False

    async def drain(self) -> None:
        """Stop listening, close all connections gradually, and stop the parts of the node."""
        loop = asyncio.get_running_loop()
        self.has_begun = True
        signals.stop_listening()
        connections = list(self._connections)
        seconds = min(conf().drain_seconds, len(connections) / DRAIN_RATE)
        if connections:
            logger.info("Closing all connections (%d) within %.1f s.", len(connections), seconds)
        begun = loop.time()
        for number, connection in enumerate(connections):
            due = begun + seconds * number / len(connections)
            while loop.time() < due and not self._is_hurrying:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
            self._close_for_restart(connection)
        deadline = loop.time() + GOODBYE_SECONDS
        outlets = [connection.outlet for connection in connections]
        while loop.time() < deadline and not all(outlet.is_gone for outlet in outlets):  # noqa: ASYNC110
            await asyncio.sleep(0.02)
        for stop in self._stop_parts:
            await stop()

    def hurry(self) -> None:
        """Close the remaining connections immediately."""
        self._is_hurrying = True
