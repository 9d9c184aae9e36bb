"""What happens in the channels of this node, for webhooks. Loop thread only.

While no webhook exists, `endpoints` is empty, and looking at it is all that a message or a connection costs.
"""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable

from django.db import Error as DatabaseError

from accounts.models import WebhookKind
from accounts.webhooks.states import MEMBER_KINDS, Endpoint, Endpoints
from realtime.base.errors import first_line
from realtime.base.tasks import KeptTask
from realtime.webhooks.messages import Messages
from realtime.webhooks.occupancy import Occupancy

logger = logging.getLogger(__name__)

WRITE_SECONDS = 0.25
RETRY_SECONDS = 1.0
# How long it takes at most until a changed webhook is noticed if nobody announces the change, in seconds.
REFRESH_SECONDS = 5.0
STOP_SECONDS = 3.0


class Reporter:
    """Keeps the webhooks of all clusters, and writes what they get."""

    def __init__(self, find_endpoints: Callable[[], Awaitable[Endpoints]]) -> None:
        """
        Args:
            find_endpoints: returns the webhooks that are on.
        """
        self._find_endpoints = find_endpoints
        self.endpoints: dict[int, tuple[Endpoint, ...]] = {}
        """The webhooks that are on, by the primary key of their cluster."""
        self.clusters_with_messages: set[int] = set()
        """The clusters whose webhooks get the messages of clients."""
        self.clusters_with_members: set[int] = set()
        """The clusters whose webhooks get the members that join and leave."""
        self.clusters_with_misses: set[int] = set()
        """The clusters whose webhooks get the cache channels without a last event."""
        self.clusters_with_counts: set[int] = set()
        """The clusters whose webhooks get the numbers of subscribers."""
        self.messages: Messages
        self.occupancy: Occupancy
        self._refresh_at = 0.0
        self._is_failing = False
        self._wakes = asyncio.Event()
        self._reporting = KeptTask("reporting to webhooks", self._run)

    def start(self) -> None:
        """Start to write."""
        self._reporting.start()

    async def stop(self) -> None:
        """Write what is left; give up after `STOP_SECONDS`."""
        await self._reporting.stop()
        with contextlib.suppress(TimeoutError, DatabaseError):
            async with asyncio.timeout(STOP_SECONDS):
                await self.messages.write()
                while self.messages.has_pending:
                    await self.messages.write()

    def refresh(self) -> None:
        """Ask for the webhooks soon, because they may have changed."""
        self._refresh_at = 0.0
        self._wakes.set()

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            is_behind = False
            try:
                if loop.time() >= self._refresh_at:
                    self._refresh_at = loop.time() + REFRESH_SECONDS
                    await self._refresh()
                if self.endpoints:
                    await self.occupancy.write()
                if self.endpoints or self.messages.has_pending:
                    is_behind = await self.messages.write()
                self._is_failing = False
            except DatabaseError as error:
                if not self._is_failing:
                    logger.error("Events wait for webhooks because of a database error: %s", first_line(error))
                self._is_failing = True
                await asyncio.sleep(RETRY_SECONDS)
            self._wakes.clear()
            if is_behind:
                continue
            wait = WRITE_SECONDS if self.endpoints else max(self._refresh_at - loop.time(), 0)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await self._wakes.wait()

    async def _refresh(self) -> None:
        found = dict(await self._find_endpoints())
        if found != self.endpoints:
            self.endpoints.clear()
            self.endpoints.update(found)
            for clusters, kinds in (
                (self.clusters_with_messages, (WebhookKind.CLIENT,)),
                (self.clusters_with_members, MEMBER_KINDS),
                (self.clusters_with_misses, (WebhookKind.MISSED,)),
                (self.clusters_with_counts, (WebhookKind.COUNTED,)),
            ):
                clusters.clear()
                clusters.update(pk for pk, each in found.items() if any(not of.kinds.isdisjoint(kinds) for of in each))
            self.occupancy.change_endpoints()
