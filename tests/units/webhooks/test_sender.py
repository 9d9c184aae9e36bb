"""When a sender asks the database for deliveries: rarely while nothing is due, and in time."""

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from ipaddress import ip_network

import pytest
from django.db import DatabaseError, OperationalError, ProgrammingError
from pytest_django import Settings

from accounts.webhooks.capacity import Flight, Task
from accounts.webhooks.client import Answer
from accounts.webhooks.exchange import MAX_IN_FLIGHT, MAX_TAKEN, Result, Turn
from realtime.webhooks import sender
from realtime.webhooks.sender import IDLE_SECONDS, Sender
from tests.receivers import Receiver


class Queue:
    """A queue that notes when a sender asks it."""

    def __init__(self) -> None:
        self.asked: list[float] = []
        self.results: list[Result] = []
        self.tasks: list[Task] = []
        self.next_in: float | None = None
        self.is_behind = False
        self.error: DatabaseError | None = None

    async def exchange(self, results: Sequence[Result], flights: Sequence[Flight] | None) -> Turn:
        self.asked.append(time.monotonic())
        if self.error is not None:
            raise self.error
        self.results += results
        tasks, self.tasks = self.tasks, []
        next_at = None if self.next_in is None else datetime.now(UTC) + timedelta(seconds=self.next_in)
        return Turn(tasks, next_at, self.is_behind)


def make_task(pk: int, url: str = "https://example.com/") -> Task:
    return Task(pk, 1, 1, "lease", f"msg_{pk}", url, False, "[]", (), None, ())


class Client:
    """A client of webhooks whose requests end when the test says so."""

    def __init__(self) -> None:
        self.requests: list[asyncio.Future[Answer]] = []
        self.made_in: set[str] = set()

    def __call__(self, max_connections: int) -> "Client":
        self.made_in.add(threading.current_thread().name)
        return self

    async def post(self, url: str, headers: Sequence[tuple[str, str]], body: bytes) -> Answer:
        self.requests.append(asyncio.get_running_loop().create_future())
        return await self.requests[-1]

    async def close(self) -> None: ...


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
    queue.tasks = [make_task(1)]
    sending = Sender(queue.exchange, prune)
    sending.start()
    await until(lambda: bool(queue.results))
    answer = queue.results[0].answer
    assert answer is not None
    assert answer.error == "This service could not send it."
    await sending.stop()


async def test_a_sender_that_is_stopped_sends_everything_that_it_has_taken(settings: Settings) -> None:
    settings.WEBHOOK_ALLOWED_NETWORKS = [ip_network("127.0.0.0/8")]
    queue = Queue()
    sending = Sender(queue.exchange, prune)
    with Receiver() as receiver:
        queue.tasks = [make_task(pk, f"{receiver.url}/") for pk in range(5)]
        sending.start()
        while not queue.asked:  # noqa: ASYNC110
            await asyncio.sleep(0)  # it has not begun all requests
        await sending.stop()
    assert sorted(result.task.delivery_pk for result in queue.results) == [0, 1, 2, 3, 4]


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> Client:
    client = Client()
    monkeypatch.setattr(sender, "WebhookClient", client)
    return client


async def test_a_webhook_gets_a_few_requests_at_the_same_time_and_the_others_follow(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sender, "SLOW_SECONDS", 60.0)
    queue = Queue()
    queue.tasks = [make_task(pk) for pk in range(MAX_TAKEN)]
    sending = Sender(queue.exchange, prune)
    sending.start()
    await until(lambda: len(client.requests) == MAX_IN_FLIGHT)
    await asyncio.sleep(0.1)
    assert len(client.requests) == MAX_IN_FLIGHT
    for number in range(MAX_TAKEN):
        await until(lambda: len(client.requests) > number)  # noqa: B023
        client.requests[number].set_result(Answer(200, 5))
    await until(lambda: len(queue.results) == MAX_TAKEN)
    assert sorted(result.task.delivery_pk for result in queue.results) == list(range(MAX_TAKEN))
    await sending.stop()


async def test_results_are_written_together_but_in_time_to_take_more(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("GATHER_RESULTS_SECONDS", "BUSY_SECONDS", "SLOW_SECONDS"):
        monkeypatch.setattr(sender, name, 60.0)
    queue = Queue()
    queue.is_behind = True
    queue.tasks = tasks = [make_task(pk) for pk in range(2 * MAX_IN_FLIGHT + 2)]
    sending = Sender(queue.exchange, prune)
    sending.start()
    await until(lambda: len(client.requests) == MAX_IN_FLIGHT)
    for _ in tasks:  # one begins in each turn of the loop
        await asyncio.sleep(0)
    for number in (0, 1):  # as many still wait as can be in flight
        client.requests[number].set_result(Answer(200, 5))
    await until(lambda: len(client.requests) == MAX_IN_FLIGHT + 2)
    await asyncio.sleep(2 * sender.GATHER_LAST_RESULTS_SECONDS)
    assert len(queue.asked) == 1
    client.requests[2].set_result(Answer(200, 5))
    await until(lambda: len(queue.asked) == 2)
    assert [result.answer for result in queue.results] == [Answer(200, 5)] * 3
    assert len({result.task.delivery_pk for result in queue.results}) == 3
    await sending.stop()


async def test_deliveries_that_wait_go_back_to_the_queue_when_a_request_fails(client: Client) -> None:
    queue = Queue()
    queue.tasks = [make_task(pk) for pk in range(6)]
    sending = Sender(queue.exchange, prune)
    sending.start()
    await until(lambda: len(client.requests) == MAX_IN_FLIGHT)
    for request in client.requests:
        request.set_result(Answer(500, 5))
    await until(lambda: len(queue.results) == 6)
    assert [result.task.delivery_pk for result in queue.results if result.answer is None] == [4, 5]
    # What is taken after the failure is sent.
    queue.tasks = [make_task(7)]
    sending.wake()
    await until(lambda: len(client.requests) == MAX_IN_FLIGHT + 1)
    client.requests[-1].set_result(Answer(200, 5))
    await sending.stop()
    assert queue.results[-1].answer == Answer(200, 5)


async def test_deliveries_that_wait_go_back_to_the_queue_when_the_receiver_is_slow(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sender, "SLOW_SECONDS", 0.2)
    queue = Queue()
    queue.tasks = [make_task(pk) for pk in range(6)]
    sending = Sender(queue.exchange, prune)
    sending.start()
    await until(lambda: len(queue.results) == 2)
    assert [(result.task.delivery_pk, result.answer) for result in queue.results] == [(4, None), (5, None)]
    for request in client.requests:
        request.set_result(Answer(200, 5))
    await sending.stop()
    assert len(client.requests) == MAX_IN_FLIGHT


async def test_the_client_which_loads_many_certificates_is_made_in_a_thread(client: Client) -> None:
    queue = Queue()
    queue.tasks = [make_task(pk) for pk in range(3)]
    sending = Sender(queue.exchange, prune)
    sending.start()
    await until(lambda: len(client.requests) == 3)
    assert client.made_in == {"webhook-requests_0"}
    for request in client.requests:
        request.set_result(Answer(200, 5))
    await sending.stop()
