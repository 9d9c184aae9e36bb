"""When the answers to publish requests are written. Loop thread only.

An answer wakes up its client, and waking up another process costs as much as half of a publish. If the answers of all
connections that are readable now are written one after another, most of them find their client awake.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Protocol

logger = logging.getLogger(__name__)


class Answering(Protocol):
    """A connection with answers."""

    def send_answers(self) -> None:
        """Write them."""


class Answers:
    """The connections that have answers to write."""

    def __init__(self) -> None:
        self._waiting: list[Answering] = []
        self._latest: Answering | None = None
        self.is_delivering: Callable[[], bool] = lambda: False
        """Returns whether messages wait for delivery, which takes longer than writing answers."""

    def write(self, connection: Answering) -> None:
        """Have a connection write its answers, soon or now.

        Now, if it was the last one to answer too, since it is probably the only one; and while messages wait for
        delivery, so that its client sends the next one meanwhile.
        """
        if connection is self._latest or self.is_delivering():
            connection.send_answers()
            return
        self._latest = connection
        if not self._waiting:
            asyncio.get_running_loop().call_soon(self._write_all)
        self._waiting.append(connection)

    def forget(self, connection: Answering) -> None:
        """Forget a connection that has ended."""
        if connection is self._latest:
            self._latest = None

    def _write_all(self) -> None:
        waiting, self._waiting = self._waiting, []
        for connection in waiting:
            try:
                connection.send_answers()
            except Exception:  # the others have answers too
                logger.exception("The answers of a connection could not be written.")


answers = Answers()
