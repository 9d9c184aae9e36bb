"""CORS for the Cluster API: which web sites may call it from a browser (the Fetch standard, *CORS protocol*)."""

import asyncio
import logging

from django.db import Error as DatabaseError

from accounts.access import any_allowed_origins
from realtime.base.asgi import Header
from realtime.conf import conf
from realtime.node.database import lookups
from realtime.node.node import current_node
from realtime.protocols.handshake import origin_matches

logger = logging.getLogger(__name__)

_any_allowed_origins = lookups.wrap(any_allowed_origins)


class Preflights:
    """Answers browsers' preflight requests (the Fetch standard, *CORS-preflight request*).

    A preflight request does not contain the key. An origin may therefore send requests if any key allows it, and may
    read the response only if the key of the request allows it.
    """

    def __init__(self) -> None:
        self._origins: frozenset[str] = frozenset()
        self._expires_at = 0.0
        self._version = -1
        self._lock = asyncio.Lock()

    async def headers(self, origin: bytes | None) -> tuple[Header, ...]:
        """Return the headers that allow an origin to send requests; empty if it may not."""
        async with self._lock:
            await self._refresh()
        if origin is None or not origin_matches(origin.decode("latin-1"), self._origins):
            return ()
        return (
            *allow(origin),
            (b"access-control-allow-methods", b"GET, POST"),
            (b"access-control-allow-headers", b"content-type, key, secret"),
            (b"access-control-max-age", b"600"),
        )

    async def _refresh(self) -> None:
        node = current_node()
        version = node.keys.version
        if version == self._version and node.loop.time() < self._expires_at:
            return
        try:
            self._origins = await _any_allowed_origins()
        except DatabaseError as error:
            logger.error("Cannot read the allowed origins: %s", error)
        else:
            self._version, self._expires_at = version, node.loop.time() + conf().key_cache_seconds


def allow(origin: bytes) -> tuple[Header, ...]:
    """Return the headers that let pages of an origin read a response."""
    return ((b"access-control-allow-origin", origin), (b"vary", b"origin"))
