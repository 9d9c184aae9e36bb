"""Sending of messages to one connection, with a limit for the backlog of clients that read slowly."""

import asyncio
import logging
from collections import Counter, deque
from typing import Protocol

from realtime.base.asgi import Send
from realtime.fanout.backlogs import Backlogs
from realtime.protocols.closes import TOO_SLOW, Close, Tell, tell_piesocket
from realtime.protocols.frames import Message, Sendable

logger = logging.getLogger(__name__)


class Outlet(Protocol):
    """Sends messages to one accepted connection. Loop thread only; no method blocks, raises or calls the hub."""

    tell: Tell
    """Returns how the client learns of a close."""

    def deliver(self, batch: Sendable) -> None:
        """Send messages, in order. If the backlog is above its limit, close the connection (4100) instead."""

    def waiting_bytes(self) -> int:
        """Return the size of the backlog: bytes that were delivered and are not sent yet."""

    def close(self, close: Close) -> None:
        """Close the connection as its protocol demands, after an error frame if it has one. Ignore later deliveries."""

    def open(self, *, discard: bool = False) -> None:
        """Start sending, since the handshake is complete.

        Args:
            discard: drop what was delivered before; otherwise it is sent now.
        """

    def limit_messages(self, max_message_bytes: int) -> None:
        """Reject larger messages from the client, if possible before they have arrived completely."""

    def stop(self) -> None:
        """Release the connection, which has ended or is no longer needed."""

    @property
    def client_code(self) -> int | None:
        """The close code that the client has sent; None if it is unknown, or the connection was lost."""

    @property
    def is_gone(self) -> bool:
        """Whether everything has been sent, or can no longer be sent."""


class AsgiOutlet:
    """An outlet for any ASGI server: a queue, and a task that awaits the server's `send`.

    Args:
        send: the `send` callable of the ASGI application.
        backlogs: limits the backlog.
        closes: counts closes by their code.
        tell: returns how the client learns of a close.
    """

    def __init__(self, send: Send, backlogs: Backlogs, closes: Counter[int], tell: Tell = tell_piesocket) -> None:
        self._closes = closes
        self.tell = tell
        self._send = send
        self._backlogs = backlogs
        self._queue: deque[Message] = deque()
        self._queued_bytes = 0
        self._close_code: int | None = None
        self._work = asyncio.Event()
        self._writer: asyncio.Task[None] | None = None

    def open(self, *, discard: bool = False) -> None:
        if discard:
            self._queue.clear()
            self._queued_bytes = 0
        self._writer = asyncio.create_task(self._write())

    def deliver(self, batch: Sendable) -> None:
        if self._close_code is not None:
            return
        if self._queued_bytes > self._backlogs.max_bytes:
            self.give_up()
            return
        self._queue.extend(batch.messages)
        self._queued_bytes += len(batch.wire)
        self._work.set()
        self._backlogs.grow(self, len(batch.wire))

    def give_up(self) -> None:
        self._queue.clear()  # frees the memory of the backlog immediately
        self._queued_bytes = 0
        self.close(TOO_SLOW)

    def abort(self) -> None:
        self.stop()

    def waiting_bytes(self) -> int:
        return self._queued_bytes

    def close(self, close: Close) -> None:
        if self._close_code is not None:
            return
        self._close_code, message = self.tell(close)
        if message is not None:
            self._queue.append(message)
        self._closes[self._close_code] += 1
        self._work.set()

    async def _write(self) -> None:
        try:
            while True:
                while self._queue:
                    message = self._queue.popleft()
                    self._queued_bytes -= len(message.wire)
                    kind = "text" if isinstance(message.data, str) else "bytes"
                    await self._send({"type": "websocket.send", kind: message.data})
                if self._close_code is not None:
                    await self._end(self._close_code)
                    return
                self._work.clear()
                await self._work.wait()
        except Exception as error:
            # Each server raises exceptions of its own when the client has gone. The consumer learns it from receive().
            logger.debug("A connection ended during a write: %r", error)

    async def _end(self, code: int) -> None:
        try:
            await self._send({"type": "websocket.close", "code": code})
        except Exception:
            # Autobahn, and therefore plain Daphne, sends no code below 3000 except 1000.
            await self._send({"type": "websocket.close"})

    def limit_messages(self, max_message_bytes: int) -> None:
        """Do nothing: ASGI passes on only complete messages, and the consumer rejects the large ones."""

    def stop(self) -> None:
        self._backlogs.forget(self)
        if self._writer is not None:
            self._writer.cancel()

    @property
    def client_code(self) -> int | None:
        return None  # ASGI tells it to the consumer alone, and not whether it was lost

    @property
    def is_gone(self) -> bool:
        return self._writer is not None and self._writer.done()
