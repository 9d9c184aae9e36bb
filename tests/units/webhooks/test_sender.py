"""When a sender asks the database for deliveries: rarely while nothing is due, and in time."""

import asyncio
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from ipaddress import ip_network

import pytest
from django.db import DatabaseError, OperationalError, ProgrammingError
from pytest_django import Settings

from accounts.webhooks.exchange import Flight, Result, Task, Turn
from realtime.webhooks.sender import IDLE_SECONDS, Sender
from tests.receivers import Receiver


class Queue:
    """A queue that notes when a sender asks it."""

    def __init__(self) -> None:
        self.asked: list[float] = []
        self.results: list[Result] = []
        self.tasks: list[Task] = []
        self.next_in: float | None = None
        self.error: DatabaseError | None = None

    async def exchange(self, results: Sequence[Result], flights: Sequence[Flight] | None) -> Turn:
        self.asked.append(time.monotonic())
        if self.error is not None:
            raise self.error
        self.results += results
        tasks, self.tasks = self.tasks, []
        next_at = None if self.next_in is None else datetime.now(UTC) + timedelta(seconds=self.next_in)
        return Turn(tasks, next_at)


async def prune() -> bool:
    return False


async def until(is_done: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not is_done():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def test_an_idle_sender_asks_rarely_and_when_it_is_woken() -> None:
    queue = Queue()
    sending = Sender(queue.exchange, prune)
    sending.start()
    await until(lambda: len(queue.asked) == 2)
    assert queue.asked[1] - queue.asked[0] >= IDLE_SECONDS
    sending.wake()
    await until(lambda: len(queue.asked) == 3)
    assert queue.asked[2] - queue.asked[1] < IDLE_SECONDS
    await sending.stop()


async def test_a_sender_asks_when_something_is_due_again() -> None:
    queue = Queue()
    queue.next_in = 0.2
    sending = Sender(queue.exchange, prune)
    sending.start()
    await until(lambda: len(queue.asked) == 5)
    assert 4 * 0.2 <= queue.asked[4] - queue.asked[0] < 4 * IDLE_SECONDS
    await sending.stop()


async def test_a_sender_asks_often_while_the_database_is_away() -> None:
    queue = Queue()
    queue.error = OperationalError("away")
    sending = Sender(queue.exchange, prune)
    sending.start()
    await until(lambda: len(queue.asked) == 3)
    assert queue.asked[2] - queue.asked[0] < 2 * IDLE_SECONDS
    await sending.stop()


async def test_an_error_of_the_database_is_logged_once_and_not_called_an_outage(
    caplog: pytest.LogCaptureFixture,
) -> None:
    queue = Queue()
    queue.error = ProgrammingError('relation "accounts_webhook" does not exist\nLINE 1: SELECT')
    sending = Sender(queue.exchange, prune)
    sending.start()
    await until(lambda: len(queue.asked) == 3)
    await sending.stop()
    sentence = 'Webhooks wait because of a database error: relation "accounts_webhook" does not exist'
    assert caplog.messages == [sentence]


async def test_a_client_that_cannot_be_made_does_not_stop_the_sender(
    settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    settings.WEBHOOK_PROXY = "gopher://127.0.0.1"
    queue = Queue()
    task = Task(1, 1, 1, "lease", "msg_1", "https://example.com/", False, "[]", (), None, ())
    queue.tasks = [task]
    sending = Sender(queue.exchange, prune)
    sending.start()
    await until(lambda: bool(queue.results))
    assert queue.results[0].answer.error == "The request could not be sent."
    await sending.stop()


async def test_a_sender_that_is_stopped_sends_everything_that_it_has_taken(settings: Settings) -> None:
    settings.WEBHOOK_ALLOWED_NETWORKS = [ip_network("127.0.0.0/8")]
    queue = Queue()
    sending = Sender(queue.exchange, prune)
    with Receiver() as receiver:
        url = f"{receiver.url}/"
        queue.tasks = [Task(pk, 1, 1, "lease", f"msg_{pk}", url, False, "[]", (), None, ()) for pk in range(5)]
        sending.start()
        while not queue.asked:  # noqa: ASYNC110
            await asyncio.sleep(0)  # it has not begun all requests
        await sending.stop()
    assert sorted(result.task.delivery_pk for result in queue.results) == [0, 1, 2, 3, 4]
