"""Limits for requests to pages, admin and REST API: how large, how many for each address, and how many at a time.

Django handles each request in a thread, and threads take time from the event loop that serves the sockets.
"""

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from asgiref.sync import ThreadSensitiveContext

from realtime.base.asgi import Receive, Send, answer
from realtime.conf import conf
from realtime.protocols.frames import compact_json
from realtime.server.addresses import address_limits, client_network
from realtime.server.bodies import body_limit

# How many requests may wait for Django.
MAX_WAITING = 500

TOO_MANY = "Too many requests came from your address; wait {} seconds."
BUSY = "The server is handling as many requests as it can; try again."


class _BodyTooLarge(Exception):
    """The client sends a larger body than it may."""


class DjangoLimits:
    """Passes requests to another application, within limits."""

    def __init__(self, application: Callable[..., Awaitable[None]]) -> None:
        """
        Args:
            application: the ASGI application that handles the requests.
        """
        self._application = application
        threads = conf().max_requests_at_once
        self._slots = asyncio.Semaphore(threads)
        # Each keeps its database connection for the next request. Django itself would start a thread for each request,
        # which would open a connection and leave it to the garbage collector.
        self._threads = [ThreadPoolExecutor(1, thread_name_prefix="django") for _ in range(threads)]
        self._waiting = 0

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        network = client_network(scope, conf().num_proxies)
        wait = address_limits.count_request(network)
        limit = body_limit(scope["path"])
        if wait:
            await _reject(send, 429, TOO_MANY.format(wait), wait)
        elif self._waiting >= MAX_WAITING:
            await _reject(send, 503, BUSY, 1)
        else:
            self._waiting += 1
            try:
                await self._slots.acquire()
            finally:
                self._waiting -= 1
            thread = self._threads.pop()
            try:
                async with ThreadSensitiveContext(executor=thread):
                    await self._application(scope, _bounded(receive, limit.max_bytes), send)
            except _BodyTooLarge:
                await _reject(send, 413, limit.sentence)
            finally:
                self._threads.append(thread)  # the next request takes the thread that was used last
                self._slots.release()


def _bounded(receive: Receive, max_bytes: int) -> Receive:
    """Return a function that receives events until their bodies are larger than allowed; then it raises an exception.

    Daphne has already limited the body; other servers have not.
    """
    size = 0

    async def receive_within_limit() -> dict[str, Any]:
        nonlocal size
        event = await receive()
        size += len(event.get("body", b""))
        if size > max_bytes:
            raise _BodyTooLarge
        return event

    return receive_within_limit


async def _reject(send: Send, status: int, sentence: str, wait: int | None = None) -> None:
    body = compact_json({"detail": sentence}).encode()  # the format of the REST API
    retry_after = () if wait is None else ((b"retry-after", b"%d" % wait),)
    await answer(send, status, body, *retry_after)
