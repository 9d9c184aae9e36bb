"""How many requests for pages, admin and REST API this process takes: of one address, and at once.

Each of them takes a thread while Django works on it, which is time that the sockets do not have.
"""

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from realtime.base.asgi import Receive, Send, answer
from realtime.conf import conf
from realtime.protocols.frames import compact_json
from realtime.server.addresses import address_limits, client_network

# How many requests wait until Django works on them.
MAX_WAITING = 500

TOO_MANY = "Too many requests came from your address; wait {} seconds."
BUSY = "The server has as many requests as it can work on; try again."


class DjangoLimits:
    """Passes requests on to another application, within limits."""

    def __init__(self, others: Callable[..., Awaitable[None]]) -> None:
        """
        Args:
            others: the ASGI application that answers.
        """
        self._others = others
        self._slots = asyncio.Semaphore(conf().max_requests_at_once)
        self._waiting = 0

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        network = client_network(scope, conf().num_proxies)
        wait = address_limits.request(network)
        if wait:
            await _refuse(send, 429, wait, TOO_MANY.format(wait))
        elif self._waiting >= MAX_WAITING:
            await _refuse(send, 503, 1, BUSY)
        else:
            self._waiting += 1
            try:
                await self._slots.acquire()
            finally:
                self._waiting -= 1
            try:
                await self._others(scope, receive, send)
            finally:
                self._slots.release()


async def _refuse(send: Send, status: int, wait: int, sentence: str) -> None:
    body = compact_json({"detail": sentence}).encode()  # as the REST API does
    await answer(send, status, body, (b"retry-after", b"%d" % wait))
