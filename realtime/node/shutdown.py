"""What a node does from SIGTERM or SIGINT until its process ends.

`server.signals` calls `drain` at the first signal and stops Daphne when it returns; a further signal calls `hurry`.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence

from realtime.conf import conf
from realtime.node.connections import Connection
from realtime.server import signals

logger = logging.getLogger(__name__)

# How many connections a stopping node closes in a second at least, so that few connections are closed quickly.
DRAIN_RATE = 100
# How long it then waits for clients to answer the close frame, in seconds.
GOODBYE_SECONDS = 3.0


class Shutdown:
    """Stops accepting connections, closes the open ones gradually, and leaves the other nodes. Loop thread only."""

    def __init__(
        self,
        connections: Iterable[Connection],
        dismiss: Callable[[Connection], None],
        stops: Sequence[Callable[[], Awaitable[None]]],
    ) -> None:
        """
        Args:
            connections: the node's, which change while it runs.
            dismiss: closes a connection with 1012.
            stops: the parts of the node to stop afterwards, in order.
        """
        self._connections = connections
        self._dismiss = dismiss
        self._stops = stops
        self.has_begun = False
        """Whether the node accepts no further connections."""
        self._is_hurried = False

    async def drain(self) -> None:
        """Stop listening, close all connections one after the other, and stop the parts of the node."""
        loop = asyncio.get_running_loop()
        self.has_begun = True
        signals.stop_listening()
        connections = list(self._connections)
        seconds = min(conf().drain_seconds, len(connections) / DRAIN_RATE)
        if connections:
            logger.info("Closing %d connections within %.1f s.", len(connections), seconds)
        begun = loop.time()
        for number, connection in enumerate(connections):
            due = begun + seconds * number / len(connections)
            while loop.time() < due and not self._is_hurried:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
            self._dismiss(connection)
        deadline = loop.time() + GOODBYE_SECONDS
        outlets = [connection.outlet for connection in connections]
        while loop.time() < deadline and not all(outlet.is_gone for outlet in outlets):  # noqa: ASYNC110
            await asyncio.sleep(0.02)
        for stop in self._stops:
            await stop()

    def hurry(self) -> None:
        """Close immediately what is still to be drained."""
        self._is_hurried = True
