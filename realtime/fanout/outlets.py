"""How messages reach one connection, how many bytes may wait for it, and when it is given up."""

import asyncio
import logging
from collections import Counter, deque
from typing import Protocol

from realtime.base.asgi import Send
from realtime.protocols.closes import TOO_SLOW, Close
from realtime.protocols.frames import Message, Sendable, error_message

logger = logging.getLogger(__name__)


class Outlet(Protocol):
    """The way out to one accepted connection. Loop thread only; no method waits, raises, or calls back into the hub."""

    def deliver(self, batch: Sendable) -> None:
        """Send messages, in order. Above the limit of what may wait, the connection is closed (4100) instead."""

    def waiting_bytes(self) -> int:
        """How much has been delivered and is not sent yet."""

    def close(self, close: Close) -> None:
        """End the connection, with an error frame first if the close is final. Later deliveries are ignored."""

    def limit_messages(self, max_message_bytes: int) -> None:
        """Refuse what the client sends if it is larger, before it has all arrived, where that is possible."""

    def stop(self) -> None:
        """Forget the connection: it is gone, or nobody needs it."""

    @property
    def is_gone(self) -> bool:
        """Whether all that was to be sent has been, or never can be."""


class AsgiOutlet:
    """The ordinary way, for any ASGI server: a queue, and a task that awaits the server's `send`."""

    def __init__(self, send: Send, max_backlog_bytes: int, closes: Counter[int]) -> None:
        """
        Args:
            send: of the ASGI application.
            max_backlog_bytes: how much may wait.
            closes: where the close is counted, by its code.
        """
        self._closes = closes
        self._send = send
        self._max_backlog_bytes = max_backlog_bytes
        self._queue: deque[Message] = deque()
        self._queued_bytes = 0
        self._close: Close | None = None
        self._work = asyncio.Event()
        self._writer = asyncio.create_task(self._write())

    def deliver(self, batch: Sendable) -> None:
        if self._close is not None:
            return
        if self._queued_bytes > self._max_backlog_bytes:
            # What waits is given up with the connection, so that it frees its memory now.
            self._queue.clear()
            self.close(TOO_SLOW)
            return
        self._queue.extend(batch.messages)
        self._queued_bytes += len(batch.wire)
        self._work.set()

    def waiting_bytes(self) -> int:
        return self._queued_bytes

    def close(self, close: Close) -> None:
        if self._close is not None:
            return
        if close.sentence is not None:
            self._queue.append(error_message(close.sentence))
        self._close = close
        self._closes[close.code] += 1
        self._work.set()

    async def _write(self) -> None:
        try:
            while True:
                while self._queue:
                    message = self._queue.popleft()
                    self._queued_bytes -= len(message.wire)
                    kind = "text" if isinstance(message.data, str) else "bytes"
                    await self._send({"type": "websocket.send", kind: message.data})
                if self._close is not None:
                    await self._end(self._close.code)
                    return
                self._work.clear()
                await self._work.wait()
        except Exception as error:
            # Servers raise each their own when the client is gone; the consumer hears of it from receive().
            logger.debug("A connection ended while it was written to: %r", error)

    async def _end(self, code: int) -> None:
        try:
            await self._send({"type": "websocket.close", "code": code})
        except Exception:
            # Autobahn, and so plain Daphne, sends no code below 3000 but 1000.
            await self._send({"type": "websocket.close"})

    def limit_messages(self, max_message_bytes: int) -> None:
        """ASGI tells of whole messages; the consumer refuses them."""

    def stop(self) -> None:
        self._writer.cancel()

    @property
    def is_gone(self) -> bool:
        return self._writer.done()
