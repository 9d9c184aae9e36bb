"""Which web sites a browser lets call the Cluster API (the Fetch standard, *CORS protocol*)."""

import asyncio
import logging

from channels.db import database_sync_to_async
from django.db import Error as DatabaseError

from accounts.access import any_allowed_origins
from realtime.base.asgi import Header
from realtime.conf import conf
from realtime.node.node import current_node
from realtime.protocols.handshake import origin_matches

logger = logging.getLogger(__name__)


class Preflights:
    """What browsers are told who ask before they send (the Fetch standard, *CORS-preflight request*).

    They do not say for which key, so that an origin may send if any key allows it; whether this one does, decides
    about the answer.
    """

    def __init__(self) -> None:
        self._origins: frozenset[str] = frozenset()
        self._known_until = 0.0
        self._version = -1
        self._reading = asyncio.Lock()

    async def headers(self, origin: bytes | None) -> tuple[Header, ...]:
        """The headers that allow an origin to send; none if it may not."""
        async with self._reading:
            await self._read()
        if origin is None or not origin_matches(origin.decode("latin-1"), self._origins):
            return ()
        return (
            *allow(origin),
            (b"access-control-allow-methods", b"GET, POST"),
            (b"access-control-allow-headers", b"content-type, key, secret"),
            (b"access-control-max-age", b"600"),
        )

    async def _read(self) -> None:
        node = current_node()
        version = node.keys.version
        if version == self._version and node.loop.time() < self._known_until:
            return
        try:
            self._origins = await database_sync_to_async(any_allowed_origins)()
        except DatabaseError as error:
            logger.error("The allowed origins cannot be read: %s", error)
        else:
            self._version, self._known_until = version, node.loop.time() + conf().key_cache_seconds


def allow(origin: bytes) -> tuple[Header, ...]:
    """Return the headers with which a browser lets pages of an origin read the answer."""
    return ((b"access-control-allow-origin", origin), (b"vary", b"origin"))
