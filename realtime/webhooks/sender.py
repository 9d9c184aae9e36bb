"""Sends the deliveries of webhooks that wait in the database. Loop thread only.

All nodes do this, each with some requests at the same time. What an attempt has come to is written together with the
question for more, so the database is asked a few times a second at most, and once a second while nothing waits.
"""

import asyncio
import contextlib
import logging
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime

from django.db import Error as DatabaseError

from accounts.webhooks.client import Answer, WebhookClient
from accounts.webhooks.queue import Result, Task
from accounts.webhooks.signing import body_of, headers_of
from realtime.base.errors import first_line
from realtime.base.tasks import KeptTask, end

logger = logging.getLogger(__name__)

MAX_IN_FLIGHT = 64
"""How many requests a node sends at the same time."""
POLL_SECONDS = 1.0
# How long finished attempts wait for others that are written with them.
GATHER_SECONDS = 0.02
PRUNE_SECONDS = 60.0
STOP_SECONDS = 3.0

Exchange = Callable[[Sequence[Result], int, Mapping[int, int]], Awaitable[list[Task]]]
Prune = Callable[[], Awaitable[bool]]


class Sender:
    """The deliveries that this node is sending."""

    def __init__(self, exchange: Exchange, prune: Prune) -> None:
        """
        Args:
            exchange: writes results and takes deliveries, as `accounts.webhooks.queue` does.
            prune: deletes some old deliveries; returns whether there may be more of them.
        """
        self._exchange = exchange
        self._prune = prune
        self._client: WebhookClient | None = None
        self._in_flight: dict[asyncio.Task[None], Task] = {}
        self._results: list[Result] = []
        self._finished = asyncio.Event()
        self._is_failing = False
        self._sending = KeptTask("sending webhooks", self._run)
        self._pruning = KeptTask("pruning webhooks", self._keep_pruning)

    def start(self) -> None:
        """Start to send."""
        self._sending.start()
        self._pruning.start()

    async def stop(self) -> None:
        """Wait a moment for the requests in flight, and write the results. Other nodes send the rest again."""
        await self._pruning.stop()
        await self._sending.stop()
        if self._in_flight:
            await asyncio.wait(list(self._in_flight), timeout=STOP_SECONDS)
            await end(list(self._in_flight))
        with contextlib.suppress(DatabaseError, TimeoutError):
            async with asyncio.timeout(STOP_SECONDS):
                await self._exchange(self._results, 0, {})
        if self._client is not None:
            await self._client.close()

    async def _run(self) -> None:
        while True:
            await self._take_turn()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(POLL_SECONDS):
                    await self._finished.wait()
                    await asyncio.sleep(GATHER_SECONDS)

    async def _take_turn(self) -> None:
        """Write what has finished, and send what is due."""
        self._finished.clear()
        results, self._results = self._results, []
        capacity = MAX_IN_FLIGHT - len(self._in_flight)
        busy = Counter(task.account_pk for task in self._in_flight.values())
        try:
            tasks = await self._exchange(results, capacity, busy)
        except DatabaseError as error:
            self._results = [*results, *self._results]
            if not self._is_failing:
                logger.error("Webhooks wait, because the database is unreachable: %s", first_line(error))
            self._is_failing = True
            await asyncio.sleep(POLL_SECONDS)
            return
        except asyncio.CancelledError:
            self._results = [*results, *self._results]
            raise
        self._is_failing = False
        for task in tasks:
            sending = asyncio.create_task(self._send(task))
            self._in_flight[sending] = task
            sending.add_done_callback(self._in_flight.pop)

    async def _send(self, task: Task) -> None:
        if self._client is None:
            self._client = WebhookClient(MAX_IN_FLIGHT)
        now = time.time()
        body = body_of(task.events, int(now * 1000))
        headers = [
            ("Content-Type", "application/json"),
            ("User-Agent", "webhooks/1"),
            *headers_of(body, task.message_id, int(now), task.secrets, task.api_key),
            *task.headers,
        ]
        try:
            answer = await self._client.post(task.url, headers, body)
        except Exception:
            logger.exception("The delivery %s cannot be sent.", task.message_id)
            answer = Answer(None, 0, error="The request could not be sent.")
        self._results.append(Result(task, datetime.fromtimestamp(now, UTC), answer))
        self._finished.set()

    async def _keep_pruning(self) -> None:
        while True:
            with contextlib.suppress(DatabaseError):  # an outage is reported where deliveries wait for the database
                if await self._prune():  # there may be more
                    continue
            await asyncio.sleep(PRUNE_SECONDS)
