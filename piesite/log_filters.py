"""Filters for log lines that any client can cause."""

import asyncio
import logging
import threading
import time
from collections import Counter

SECONDS = 1.0
MAX_CHARACTERS = 300


class LogLimit(logging.Filter):
    """Lets each logger write one short line a second, without a traceback, and says how many lines it has left out."""

    def __init__(self) -> None:
        super().__init__()
        self._lock = threading.Lock()
        self._written_at: dict[str, float] = {}
        self._left_out: Counter[str] = Counter()

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether to write a line."""
        with self._lock:
            now = time.monotonic()
            if now - self._written_at.get(record.name, -SECONDS) < SECONDS:
                self._left_out[record.name] += 1
                return False
            self._written_at[record.name] = now
            left_out = self._left_out.pop(record.name, 0)
        message = record.getMessage()
        if len(message) > MAX_CHARACTERS:
            message = f"{message[:MAX_CHARACTERS]}…"
        record.msg = f"{message} ({left_out} similar lines were left out.)" if left_out else message
        record.args, record.exc_info = None, None
        return True


class CancelledRequests(logging.Filter):
    """Leaves out that nothing has read the result of a cancelled future.

    asgiref logs this with a traceback if a client leaves while a middleware waits for the view.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether to write a line."""
        return not (record.exc_info and isinstance(record.exc_info[1], asyncio.CancelledError))
