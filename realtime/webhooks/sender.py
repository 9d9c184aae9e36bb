"""Sends the deliveries of webhooks that wait in the database. Loop thread only.

All nodes do this, each with some requests at the same time. What an attempt has come to is written together with the
question for more, so the database is asked a few times a second at most. While this node sends nothing, it sleeps until
something is due: it knows when that is of what waits, and nodes tell each other when somebody asks for a delivery. For
everything else, such as what a node that died has left behind, it asks every few seconds.
"""

import asyncio
import contextlib
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import ParamSpec, TypeVar, cast
from weakref import WeakValueDictionary

import anyio
from django.db import Error as DatabaseError

from accounts.webhooks.capacity import MAX_REQUESTS, SLOW_SECONDS, Flight, Task
from accounts.webhooks.client import Answer, WebhookClient
from accounts.webhooks.exchange import MAX_IN_FLIGHT, Result, Turn
from accounts.webhooks.signing import body_of, headers_of
from realtime.base.errors import first_line
from realtime.base.tasks import KeptTask, end

logger = logging.getLogger(__name__)

DUE = "webhooks.due"
"""The type of the event that nodes send to each other when deliveries are to be sent now."""
# How often the database is asked: while requests are in flight, and otherwise.
BUSY_SECONDS = 1.0
IDLE_SECONDS = 5.0
RETRY_SECONDS = 1.0
# Larger events are signed by a thread.
MAX_SIGNED_BYTES = 64 * 1024
# How long a wish for deliveries waits for others, and a finished attempt for those that are written with it: not so
# long if there are more deliveries, and it was one of the last that this sender has for its webhook.
GATHER_SECONDS = 0.02
GATHER_LAST_RESULTS_SECONDS = 0.08
GATHER_RESULTS_SECONDS = 0.3
PRUNE_SECONDS = 60.0
# Others write meanwhile: on SQLite, only one transaction does at a time.
PRUNE_PAUSE_SECONDS = 0.05
STOP_SECONDS = 3.0

Exchange = Callable[[Sequence[Result], Sequence[Flight] | None], Awaitable[Turn]]
Prune = Callable[[], Awaitable[bool]]
P = ParamSpec("P")
T = TypeVar("T")

_threads = ThreadPoolExecutor(1, thread_name_prefix="webhook-requests")


class _Lane:
    """The requests to one webhook: some are in flight, and others wait for them."""

    def __init__(self) -> None:
        self.room = asyncio.Semaphore(MAX_IN_FLIGHT)
        self.waiting = 0
        """How many wait, with one that has just got room."""
        self.failed_at = 0.0
        """When a request last failed."""


class Sender:
    """The deliveries that this node is sending."""

    def __init__(self, exchange: Exchange, prune: Prune) -> None:
        """
        Args:
            exchange: writes results and takes deliveries, as `accounts.webhooks.exchange` does.
            prune: deletes some old deliveries; returns whether there may be more of them.
        """
        self._exchange = exchange
        self._prune = prune
        self._client: asyncio.Future[WebhookClient] | None = None
        self._taken: dict[asyncio.Task[None], tuple[Task, float | None]] = {}  # and since when it is in flight
        self._lanes: WeakValueDictionary[int, _Lane] = WeakValueDictionary()
        self._results: list[Result] = []
        self._next_at: datetime | None = None
        self._wakes = asyncio.Event()
        self._writing: asyncio.TimerHandle | None = None
        self._is_failing = False
        self._is_behind = False
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
        if self._taken:
            await asyncio.wait(list(self._taken), timeout=STOP_SECONDS)
            await end(list(self._taken))
        self._end_writing()
        with contextlib.suppress(DatabaseError, TimeoutError):
            async with asyncio.timeout(STOP_SECONDS):
                await self._exchange(self._results, None)
        if self._client is not None:
            with contextlib.suppress(Exception):  # it could not be made
                await (await self._client).close()

    def wake(self) -> None:
        """Ask for deliveries soon, because some may be due."""
        self._wakes.set()

    def waking(self, function: Callable[P, Awaitable[T]]) -> Callable[P, Awaitable[T]]:
        """Return a function that adds deliveries with another one, and then wakes this sender."""

        async def call(*args: P.args, **kwargs: P.kwargs) -> T:
            value = await function(*args, **kwargs)
            self.wake()
            return value

        return call

    async def _run(self) -> None:
        while True:
            await self._take_turn()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._pause()):
                    await self._wakes.wait()
                    await asyncio.sleep(GATHER_SECONDS)

    def _pause(self) -> float:
        if self._is_failing:
            return 0.0  # it has waited already
        most = BUSY_SECONDS if self._taken else IDLE_SECONDS
        if self._next_at is None:
            return most
        seconds = (self._next_at - datetime.now(UTC)).total_seconds()
        # What is already due waits for other requests to the same webhook or account, on this node or another one.
        return min(seconds, most) if seconds > 0 else BUSY_SECONDS

    async def _take_turn(self) -> None:
        """Write what has finished, and send what is due."""
        self._wakes.clear()
        self._end_writing()
        results, self._results = self._results, []
        now = time.monotonic()
        flights = [Flight(task, 0.0 if since is None else now - since) for task, since in self._taken.values()]
        try:
            tasks, self._next_at, self._is_behind = await self._exchange(results, flights)
        except DatabaseError as error:
            self._results = [*results, *self._results]
            if not self._is_failing:
                logger.error("Webhooks wait because of a database error: %s", first_line(error))
            self._is_failing = True
            await asyncio.sleep(RETRY_SECONDS)
            return
        except asyncio.CancelledError:
            self._results = [*results, *self._results]
            raise
        self._is_failing = False
        left = deque(tasks)
        try:
            while left:
                self._start(left.popleft())
                await asyncio.sleep(0)  # others have their turn between the requests
        finally:
            for task in left:  # this was cancelled; otherwise they would wait until their leases end
                self._start(task)

    def _start(self, task: Task) -> None:
        taken = asyncio.create_task(self._wait_and_send(task, time.monotonic()))
        self._taken[taken] = task, None
        taken.add_done_callback(self._taken.pop)

    async def _wait_and_send(self, task: Task, taken_at: float) -> None:
        """Send a delivery when it has its turn. If another one fails or is slow meanwhile, give it back instead."""
        lane = self._lanes.get(task.webhook_pk)
        if lane is None:
            lane = self._lanes[task.webhook_pk] = _Lane()
        lane.waiting += 1
        try:
            async with asyncio.timeout(SLOW_SECONDS):
                await lane.room.acquire()
        except TimeoutError:
            self._note(Result(task, datetime.now(UTC), None), lane)
            return
        finally:
            lane.waiting -= 1
        try:
            now, answer = datetime.now(UTC), None
            if lane.failed_at <= taken_at:
                self._taken[cast("asyncio.Task[None]", asyncio.current_task())] = task, time.monotonic()
                answer = await self._send(task, now.timestamp())
                if not answer.is_success:
                    lane.failed_at = time.monotonic()
        finally:
            lane.room.release()
        self._note(Result(task, now, answer), lane)

    def _note(self, result: Result, lane: _Lane) -> None:
        self._results.append(result)
        is_last = self._is_behind and lane.waiting <= MAX_IN_FLIGHT
        loop = asyncio.get_running_loop()
        at = loop.time() + (GATHER_LAST_RESULTS_SECONDS if is_last else GATHER_RESULTS_SECONDS)
        if self._writing is None or at < self._writing.when():
            self._end_writing()
            self._writing = loop.call_at(at, self.wake)

    def _end_writing(self) -> None:
        """Let the next result decide when results are written."""
        if self._writing is not None:
            self._writing.cancel()
            self._writing = None

    async def _send(self, task: Task, now: float) -> Answer:
        try:
            return await self._post(task, now)
        except Exception:
            logger.exception("The delivery %s cannot be sent.", task.message_id)
            return Answer(None, 0, error="This service could not send it.")

    async def _post(self, task: Task, now: float) -> Answer:
        client = await self._find_client()
        if len(task.events) > MAX_SIGNED_BYTES:
            headers, body = await asyncio.get_running_loop().run_in_executor(_threads, _signed, task, now)
        else:
            headers, body = _signed(task, now)
        return await client.post(task.url, headers, body)

    async def _find_client(self) -> WebhookClient:
        if self._client is None:
            self._client = asyncio.get_running_loop().run_in_executor(_threads, _new_client)
        try:
            return await asyncio.shield(self._client)
        except Exception:
            self._client = None
            raise

    async def _keep_pruning(self) -> None:
        while True:
            with contextlib.suppress(DatabaseError):  # an outage is reported where deliveries wait for the database
                if await self._prune():  # there may be more
                    await asyncio.sleep(PRUNE_PAUSE_SECONDS)
                    continue
            await asyncio.sleep(PRUNE_SECONDS)


def _new_client() -> WebhookClient:
    """Return a client. This takes some 60 ms, so a thread does it."""
    anyio.run(anyio.sleep, 0)  # loads what the first request would load otherwise
    return WebhookClient(MAX_REQUESTS)  # loads the certificates of all authorities


def _signed(task: Task, now: float) -> tuple[list[tuple[str, str]], bytes]:
    """Return the headers and the body of a request."""
    body = body_of(task.events, int(now * 1000))
    headers = [
        ("Content-Type", "application/json"),
        ("User-Agent", "webhooks/1"),
        *headers_of(body, task.message_id, int(now), task.secrets, task.api_key),
        *task.headers,
    ]
    return headers, body
