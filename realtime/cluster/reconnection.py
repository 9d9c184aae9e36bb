"""A connection to Redis that is kept: watched by a heartbeat, and opened again when it is lost."""

import asyncio
import logging
import random
import time
from abc import abstractmethod
from collections.abc import Callable
from typing import Any

from redis.asyncio.connection import ConnectionPool

from realtime.cluster.redis_connection import Connection, ReplyHandler, open_connection

logger = logging.getLogger(__name__)

# How often Redis is asked for a sign of life, and how long it may owe one, in seconds.
BEAT_SECONDS = 0.5
SILENCE_SECONDS = 3.0
# How long it may owe one, in seconds, when another connection to the same Redis was lost.
DOUBTFUL_SILENCE_SECONDS = 1.0
# How long to wait before connecting again: the first time, and at most, in seconds. It doubles with each attempt, and
# each wait is cut at random by up to a half, so that not all nodes come at the same moment.
FIRST_PAUSE_SECONDS = 0.05
MAX_PAUSE_SECONDS = 1.0
PING = b"*1\r\n$4\r\nPING\r\n"


class KeptConnection(ReplyHandler):
    """What publishing and subscribing have in common. Loop thread only."""

    def __init__(self, pool: ConnectionPool, on_change: Callable[[str], None]) -> None:
        """
        Args:
            pool: where to connect to.
            on_change: called when the connection was lost, with the reason, and with "" when it is in use again.
        """
        self._pool = pool
        self._on_change = on_change
        self._loop = asyncio.get_running_loop()
        self._connection: Connection | None = None
        self._connecting: asyncio.Task[None] | None = None
        self._pause = FIRST_PAUSE_SECONDS
        self._beat: asyncio.TimerHandle | None = None
        self._asked_at: float | None = None  # when Redis was asked for a sign of life that it still owes
        self._flush_is_due = self._is_closed = False
        self.is_lost = False
        """Whether Redis is out of reach: from the first failure until the connection is in use again."""
        self.connects = 0
        """How often a connection was opened."""

    def open(self) -> None:
        """Connect in the background, if that has not begun yet."""
        if self._connection is None and self._connecting is None and not self._is_closed:
            self._connecting = self._loop.create_task(self._connect())
            self._connecting.add_done_callback(self._note_end_of_connecting)

    async def close(self) -> None:
        """End the connection for good; what is not sent is lost."""
        self._is_closed = self.is_lost = True
        self._interrupt()
        if self._connecting is not None:
            self._connecting.cancel()
            await asyncio.wait([self._connecting], timeout=1)
        connection, self._connection = self._connection, None
        self._stop_beating()
        if connection is not None:
            connection.abort()
            await asyncio.wait([connection.ended], timeout=1)

    @abstractmethod
    def _begin(self) -> None:
        """Use a connection that was just opened."""

    @abstractmethod
    def _interrupt(self) -> None:
        """Prepare for the next connection, since this one is lost."""

    @abstractmethod
    def _flush(self) -> None:
        """Send what waits, at the end of a turn of the loop."""

    def _ask_for_life(self) -> None:
        self._write(PING)

    def _note_life(self) -> float:
        """Note that Redis has answered the heartbeat; return how long that took, in seconds."""
        now = time.monotonic()
        asked_at, self._asked_at = self._asked_at, None
        self._pause = FIRST_PAUSE_SECONDS
        return now - (asked_at or now)

    def _note_use(self) -> None:
        """Tell that the connection is in use again."""
        if self.is_lost:
            self.is_lost = False
            self._on_change("")

    def _write(self, data: bytes) -> None:
        if self._connection is not None:
            self._connection.write(data)

    def _schedule_flush(self) -> None:
        if not self._flush_is_due:
            self._flush_is_due = True
            self._loop.call_soon(self._run_flush)

    def _run_flush(self) -> None:
        self._flush_is_due = False
        self._flush()

    def lose(self, reason: str) -> None:
        """Give up the connection, if there is one, and connect again."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.abort()
        self._stop_beating()
        self.is_lost = True
        self._interrupt()
        self._on_change(reason)
        self.open()

    def doubt(self) -> None:
        """Give up the connection if Redis owes a sign of life on it, since another connection to it was lost."""
        if self._connection is not None and self._seconds_owed() > DOUBTFUL_SILENCE_SECONDS:
            self.lose("no answer on another connection either")

    def handle_loss(self, connection: Connection, reason: str) -> None:
        """See `ReplyHandler`."""
        if connection is self._connection:
            self.lose(reason)

    def handle_end_of_replies(self) -> None:
        """See `ReplyHandler`."""

    async def _connect(self) -> None:
        while True:
            if self.connects or self.is_lost:
                await asyncio.sleep(self._pause * random.uniform(0.5, 1))  # noqa: S311
                self._pause = min(self._pause * 2, MAX_PAUSE_SECONDS)
            try:
                connection = await open_connection(self._pool, self)
            except Exception as error:
                if not self.is_lost:
                    self.is_lost = True
                    self._interrupt()
                self._on_change(str(error) or type(error).__name__)
                continue
            break
        self.connects += 1
        self._connection = connection
        self._asked_at = None
        self._beat = self._loop.call_later(BEAT_SECONDS, self._check, time.monotonic() + BEAT_SECONDS)
        self._begin()

    def _note_end_of_connecting(self, task: "asyncio.Task[None]") -> None:
        self._connecting = None
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("Connecting to Redis failed unexpectedly; retrying.", exc_info=error)
            self.lose("it could not be used")
        elif task.cancelled():
            self._loop.call_later(MAX_PAUSE_SECONDS, self.open)
        else:
            self.open()  # does nothing, unless the new connection is lost already

    def _check(self, due: float) -> None:
        """Give the connection up if Redis owes a sign of life for too long, and ask for the next one."""
        connection = self._connection
        if connection is None:
            return
        now = time.monotonic()
        self._beat = self._loop.call_later(BEAT_SECONDS, self._check, now + BEAT_SECONDS)
        if self._asked_at is None:
            self._asked_at = now
            self._ask_for_life()
        elif now - due > SILENCE_SECONDS / 2:
            self._asked_at = now  # this process stood still, and has not read what arrived meanwhile
        elif self._seconds_owed() > SILENCE_SECONDS:
            self.lose(f"no answer for {SILENCE_SECONDS:g} s")

    def _seconds_owed(self) -> float:
        """Return for how long Redis has owed a sign of life, in seconds."""
        if self._connection is None or self._asked_at is None:
            return 0
        return time.monotonic() - max(self._asked_at, self._connection.heard_at)

    def _stop_beating(self) -> None:
        if self._beat is not None:
            self._beat.cancel()
            self._beat = None


def encode_command(*arguments: Any) -> bytes:
    """Return a command as Redis reads it; each argument is bytes."""
    parts = [b"*%d\r\n" % len(arguments)]
    for argument in arguments:
        parts += (b"$%d\r\n" % len(argument), argument, b"\r\n")
    return b"".join(parts)


def call_safely(function: Callable[..., object], *arguments: Any) -> None:
    """Call a callback; if it fails, log that and go on."""
    try:
        function(*arguments)
    except Exception:
        logger.exception("A callback of the channel layer has failed.")
