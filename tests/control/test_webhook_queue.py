"""The queue of deliveries, with a clock that tests set: schedule, order, leases, health and limits."""

import asyncio
import json
from datetime import UTC, datetime, timedelta
from ipaddress import ip_network
from typing import Any

import pytest
from django.core import mail
from pytest_django import Settings

from accounts import services
from accounts.models import (
    Account,
    ApiKey,
    AuditEntry,
    DeliveryState,
    Webhook,
    WebhookDelivery,
)
from accounts.webhooks import capacity, exchange, queue
from accounts.webhooks.capacity import Flight, Task
from accounts.webhooks.client import Answer, WebhookClient
from accounts.webhooks.exchange import Result
from accounts.webhooks.schedule import DELAYS
from tests.control.webhook_clock import ERROR, GONE, MESSAGE, OK, START, STATE, Clock, states
from tests.receivers import Receiver, Reply

pytestmark = pytest.mark.django_db


def fail(*deliveries: int) -> None:
    WebhookDelivery.objects.filter(pk__in=deliveries).update(state=DeliveryState.FAILED, lease="")


def test_a_delivery_is_sent_once_and_logged(webhook: Webhook, key: ApiKey, clock: Clock) -> None:
    clock.add(webhook, MESSAGE)
    [task] = clock.take()
    assert (task.url, task.events) == (webhook.url, '[{"name":"client_event","channel":"a"}]')
    assert task.api_key is not None
    assert task.api_key[0] == key.public_key
    assert clock.take() == []
    clock.finish(Answer(200, 84, "thanks"), task)
    delivery = webhook.deliveries.get()
    assert (delivery.state, delivery.tries) == (DeliveryState.DELIVERED, 1)
    assert delivery.attempts == [
        {
            "at": "2026-11-01T12:00:00.000+00:00",
            "status": 200,
            "milliseconds": 84,
            "error": "",
            "answer": "thanks",
        }
    ]
    webhook.refresh_from_db()
    assert webhook.due_at is None


def test_many_deliveries_are_written_in_statements_of_limited_size(
    webhook: Webhook, clock: Clock, django_assert_max_num_queries: Any
) -> None:
    sizes = [queue.BYTES_AT_ONCE // 4] * 4 + [queue.BYTES_AT_ONCE * 2, 1]
    events = [json.dumps([{"data": "a" * size}]) for size in sizes]
    with django_assert_max_num_queries(100) as queries:
        queue.add([queue.NewDelivery(webhook.pk, event, 1, False) for event in events], clock.now)
    inserts = [query["sql"] for query in queries if query["sql"].startswith("INSERT")]
    assert [sql.count('"data":') for sql in inserts] == [3, 1, 1, 1]
    assert webhook.deliveries.count() == len(events)


def test_no_secret_is_shown_with_a_task(webhook: Webhook, clock: Clock) -> None:
    services.update_webhook(webhook, headers={"X-Key": "hidden-value"})
    clock.add(webhook, MESSAGE)
    [task] = clock.take()
    assert task.headers == (("X-Key", "hidden-value"),)
    assert task.api_key is not None
    for secret in (*task.secrets, *task.api_key, "hidden-value"):
        assert secret not in repr(task)


def test_a_failing_delivery_is_retried_over_a_day_and_then_fails(webhook: Webhook, clock: Clock) -> None:
    clock.add(webhook, MESSAGE)
    attempts = clock.run(timedelta(days=3), lambda _: ERROR)
    times = [at for at, _ in attempts]
    assert len(times) == len(DELAYS) + 1
    for earlier, later, pause in zip(times[:-1], times[1:], DELAYS, strict=True):
        assert 0.8 * pause <= later - earlier <= max(1.2 * pause, timedelta(minutes=1))
    assert states(webhook) == ["failed"]
    assert len({task.message_id for _, task in attempts}) == 1


def test_pauses_differ_so_that_many_deliveries_do_not_return_together(webhook: Webhook, clock: Clock) -> None:
    clock.add(webhook, MESSAGE, MESSAGE, MESSAGE, MESSAGE)
    clock.finish(ERROR, *clock.take())
    assert len(set(webhook.deliveries.values_list("next_at", flat=True))) == 4


@pytest.mark.parametrize(("asked", "waits"), [(3600, 3600), (10**8, 36_000)])
def test_a_receiver_can_ask_for_a_longer_pause(webhook: Webhook, clock: Clock, asked: float, waits: int) -> None:
    clock.add(webhook, MESSAGE)
    clock.finish(Answer(429, 5, retry_after=asked), *clock.take())
    assert webhook.deliveries.get().next_at == START + timedelta(seconds=waits)


def test_states_are_sent_in_order_one_after_the_other(webhook: Webhook, clock: Clock) -> None:
    numbers = clock.add(webhook, STATE, STATE, STATE)
    sent = []
    while tasks := clock.take():
        [task] = tasks
        sent.append(task.delivery_pk)
        clock.finish(OK, task)
    assert sent == numbers


def test_messages_do_not_wait_for_states(webhook: Webhook, clock: Clock) -> None:
    clock.add(webhook, STATE, STATE, *[MESSAGE] * exchange.MAX_TAKEN)
    tasks = clock.take()
    assert len(tasks) == exchange.MAX_TAKEN
    assert [task.events for task in tasks].count('[{"name":"channel_occupied","channel":"a"}]') == 1


def test_a_dead_sender_loses_its_lease_and_another_sends_the_same_again(webhook: Webhook, clock: Clock) -> None:
    clock.add(webhook, STATE, STATE)
    [lost] = clock.take()
    clock.now += exchange.LEASE - timedelta(seconds=1)
    assert clock.take() == []
    clock.now += timedelta(seconds=2)
    [again] = clock.take()
    assert (again.message_id, again.events) == (lost.message_id, lost.events)
    # The first sender was only slow. Its failure does not end the lease of the second; its success counts.
    clock.finish(ERROR, lost)
    assert clock.take() == []
    clock.finish(OK, lost)
    assert states(webhook) == ["delivered", "waiting"]
    clock.finish(ERROR, again)
    assert states(webhook) == ["delivered", "waiting"]


def test_an_endpoint_that_fails_gets_one_request_a_minute_and_everything_when_it_recovers(
    webhook: Webhook, clock: Clock
) -> None:
    clock.add(webhook, *[MESSAGE] * 20)
    attempts = clock.run(timedelta(hours=1), lambda _: ERROR)
    minutes = [at // timedelta(minutes=1) for at, _ in attempts if at > timedelta(minutes=3)]
    assert len(minutes) == len(set(minutes))
    assert 50 <= len(minutes) <= 60
    attempts = clock.run(timedelta(minutes=3), lambda _: OK)
    assert set(states(webhook)) == {"delivered"}
    assert len({task.message_id for _, task in attempts}) == 20


def test_an_endpoint_that_fails_for_five_days_is_switched_off_and_the_owners_are_told(
    webhook: Webhook, clock: Clock, django_capture_on_commit_callbacks: Any
) -> None:
    with django_capture_on_commit_callbacks(execute=True):
        for _ in range(11):
            clock.add(webhook, STATE)
            clock.run(timedelta(hours=12), lambda _: ERROR)
    webhook.refresh_from_db()
    assert (webhook.enabled, webhook.disabled_because) == (False, "It has failed for 5 days. Your server answered 500.")
    [sent] = mail.outbox
    assert sent.to == ["owner@example.com"]
    assert "It has failed for 5 days. Your server answered 500." in sent.body
    entry = AuditEntry.objects.first()
    assert entry is not None
    assert entry.changes["enabled"] == [True, False]
    assert (entry.source, entry.author) == ("automatic", "Automatic")


def test_a_long_error_is_cut_to_what_the_database_takes(webhook: Webhook, clock: Clock) -> None:
    clock.now = START
    clock.add(webhook, MESSAGE)
    clock.run(timedelta(days=6), lambda _: Answer(None, 5, error="x" * 300))
    webhook.refresh_from_db()
    assert webhook.last_error == "x" * 199 + "…"
    clock.add(webhook, MESSAGE)
    Webhook.objects.update(failing_since=clock.now - timedelta(days=6), probe_at=None)
    clock.finish(Answer(None, 5, error="x" * 300), *clock.take())
    webhook.refresh_from_db()
    assert (webhook.enabled, len(webhook.disabled_because)) == (False, 200)


def test_410_switches_off_immediately_and_switching_on_sends_what_waits(
    webhook: Webhook, clock: Clock, django_capture_on_commit_callbacks: Any
) -> None:
    clock.add(webhook, STATE, STATE)
    with django_capture_on_commit_callbacks(execute=True):
        clock.finish(GONE, *clock.take())
    webhook.refresh_from_db()
    assert not webhook.enabled
    assert states(webhook) == ["failed", "waiting"]
    assert len(mail.outbox) == 1
    assert clock.take() == []
    assert clock.add(webhook, STATE) == []
    services.update_webhook(webhook, enabled=True)
    clock.now = datetime.now(UTC) + timedelta(seconds=1)
    clock.finish(OK, *clock.take())
    assert states(webhook) == ["failed", "delivered"]
    webhook.refresh_from_db()
    assert webhook.disabled_because == ""


def test_a_dead_endpoint_and_a_busy_account_leave_room_for_others(
    webhook: Webhook, account: Account, foreign_key: ApiKey, clock: Clock
) -> None:
    for _ in range(9):
        extra = services.create_webhook(webhook.cluster, webhook.url, kinds=["client_event"]).webhook
        clock.add(extra, *[MESSAGE] * 10)
    theirs = services.create_webhook(foreign_key.cluster, webhook.url, kinds=["client_event"]).webhook
    clock.add(theirs, MESSAGE)
    tasks = clock.take()
    assert sum(task.account_pk == account.pk for task in tasks) == capacity.MAX_OF_ACCOUNT
    assert [task.webhook_pk for task in tasks].count(theirs.pk) == 1
    assert clock.take(*[Flight(task, 0.1) for task in tasks if task.account_pk == account.pk]) == []


def test_a_webhook_that_waits_alone_gives_many_deliveries_at_a_time(
    webhook: Webhook, foreign_key: ApiKey, clock: Clock
) -> None:
    clock.add(webhook, *[MESSAGE] * 40)
    assert len(clock.take()) == exchange.MAX_TAKEN
    theirs = [
        services.create_webhook(foreign_key.cluster, webhook.url, kinds=["client_event"]).webhook
        for _ in range(exchange.MAX_TAKEN // exchange.MAX_IN_FLIGHT - 1)
    ]
    clock.now += exchange.LEASE + timedelta(seconds=1)
    for each in theirs:
        clock.add(each, *[MESSAGE] * 40)
    taken = [task.webhook_pk for task in clock.take()]
    assert [taken.count(each.pk) for each in (webhook, *theirs)] == [exchange.MAX_IN_FLIGHT] * len([webhook, *theirs])


@pytest.mark.parametrize(
    ("events", "is_behind"),
    [
        ([MESSAGE], False),
        ([MESSAGE] * exchange.MAX_TAKEN, True),
        ([STATE], True),
        ([STATE, MESSAGE], True),
    ],
)
def test_a_sender_learns_whether_more_may_wait_for_what_it_has_taken(
    webhook: Webhook, clock: Clock, events: list[dict[str, Any]], is_behind: bool
) -> None:
    clock.add(webhook, *events)
    turn = exchange.exchange([], [], clock.now)
    assert (len(turn.tasks), turn.is_behind) == (len(events), is_behind)
    flights = [Flight(task, 0.1) for task in turn.tasks]
    clock.add(webhook, *events)
    assert exchange.exchange([], flights, clock.now).is_behind is is_behind
    results = [Result(task, clock.now, OK) for task in turn.tasks]
    assert exchange.exchange(results, [], clock.now).is_behind is is_behind


def test_two_senders_together_take_no_more_than_can_be_in_flight_besides(webhook: Webhook, clock: Clock) -> None:
    clock.add(webhook, *[MESSAGE] * 6)
    first = clock.take()
    clock.add(webhook, *[MESSAGE] * 40)
    assert (len(first), clock.take()) == (6, [])
    clock.finish(OK, *first[:3])
    assert len(clock.take()) == exchange.MAX_IN_FLIGHT - 3


def test_a_sender_adds_to_its_own_deliveries(webhook: Webhook, clock: Clock) -> None:
    clock.add(webhook, *[MESSAGE] * 6)
    first = clock.take()
    clock.add(webhook, *[MESSAGE] * 40)
    assert len(clock.take(*[Flight(task, 0.1) for task in first])) == exchange.MAX_TAKEN - 6


@pytest.mark.parametrize(("answer", "taken"), [(ERROR, 1), (Answer(200, 5_000), exchange.MAX_IN_FLIGHT)])
def test_a_webhook_that_fails_or_is_slow_gives_only_what_can_be_in_flight(
    webhook: Webhook, clock: Clock, answer: Answer, taken: int
) -> None:
    clock.add(webhook, MESSAGE)
    clock.finish(answer, *clock.take())
    clock.now += timedelta(seconds=10)
    clock.add(webhook, *[MESSAGE] * 40)
    assert len(clock.take()) == taken


def test_a_delivery_that_goes_back_was_not_attempted_and_is_sent_again(webhook: Webhook, clock: Clock) -> None:
    clock.add(webhook, MESSAGE)
    [task] = clock.take()
    clock.finish(None, task)
    delivery = webhook.deliveries.get()
    assert (delivery.state, delivery.tries, delivery.attempts, delivery.lease) == ("waiting", 0, [], "")
    [again] = clock.take()
    assert again.message_id == task.message_id
    # The first sender has lost its lease. What it gives back is not its own.
    clock.finish(None, task)
    assert webhook.deliveries.get().lease == again.lease
    webhook.refresh_from_db()
    assert webhook.failures == 0


def test_a_suspended_account_gets_nothing_until_it_is_resumed(webhook: Webhook, account: Account, clock: Clock) -> None:
    clock.add(webhook, MESSAGE)
    services.suspend_account(account)
    assert clock.take() == []
    services.resume_account(account)
    assert len(clock.take()) == 1


def test_the_oldest_deliveries_are_dropped_and_counted_when_too_many_wait(
    webhook: Webhook, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queue, "MAX_WAITING", 3)
    clock.add(webhook, *[STATE] * 5)
    assert states(webhook) == ["dropped", "dropped", "waiting", "waiting", "waiting"]
    monkeypatch.setattr(queue, "MAX_WAITING_BYTES", 100)
    clock.add(webhook, STATE)
    assert states(webhook).count("waiting") == 2
    webhook.refresh_from_db()
    assert (webhook.dropped, webhook.dropped_at) == (4, START)


def test_deliveries_are_sent_again_with_the_same_id(webhook: Webhook, clock: Clock) -> None:
    clock.add(webhook, MESSAGE, MESSAGE)
    first, second = clock.take()
    clock.finish(OK, first)
    fail(second.delivery_pk)
    assert services.redeliver_failed(webhook, START + timedelta(seconds=1)) == 0
    assert services.redeliver_failed(webhook) == 1
    services.redeliver(WebhookDelivery.objects.get(pk=first.delivery_pk))
    clock.now = datetime.now(UTC) + timedelta(seconds=1)
    assert {task.message_id for task in clock.take()} == {first.message_id, second.message_id}


def test_what_waits_is_not_sent_again(webhook: Webhook, clock: Clock) -> None:
    (number,) = clock.add(webhook, MESSAGE)
    with pytest.raises(services.DeliveryWaits):
        services.redeliver(WebhookDelivery.objects.get(pk=number))


def test_what_a_person_asks_for_is_sent_at_once_and_first_while_a_webhook_fails(webhook: Webhook, clock: Clock) -> None:
    clock.now = datetime.now(UTC) - timedelta(hours=1)
    numbers = clock.add(webhook, *[MESSAGE] * 3)
    clock.run(timedelta(hours=1, seconds=2), lambda task: ERROR)
    clock.finish(ERROR, *clock.take())
    assert clock.take() == []
    tested = services.send_test_event(webhook)
    [task] = clock.take()
    assert task.delivery_pk == tested.pk
    clock.finish(ERROR, task)
    assert clock.take() == []
    services.redeliver(WebhookDelivery.objects.get(pk=numbers[2]))
    [task] = clock.take()
    assert task.delivery_pk == numbers[2]
    clock.finish(OK, task)
    assert {task.delivery_pk for task in clock.take()} == {tested.pk, *numbers[:2]}


def test_a_test_event_goes_before_what_waits(webhook: Webhook, clock: Clock) -> None:
    clock.now = datetime.now(UTC)
    clock.add(webhook, *[MESSAGE] * 50)
    tested = services.send_test_event(webhook)
    clock.now += timedelta(seconds=1)
    assert clock.take()[0].delivery_pk == tested.pk


def test_no_more_is_sent_again_than_can_wait_and_the_oldest_first(
    webhook: Webhook, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    numbers = clock.add(webhook, *[MESSAGE] * 5)
    fail(*numbers[:4])
    monkeypatch.setattr(queue, "MAX_WAITING", 3)
    assert services.redeliver_failed(webhook) == 2
    assert states(webhook) == ["waiting", "waiting", "failed", "failed", "waiting"]
    with pytest.raises(services.DeliveryWaits, match="Too many"):
        services.redeliver(WebhookDelivery.objects.get(pk=numbers[3]))


def test_a_delivery_that_is_no_longer_kept_is_gone(webhook: Webhook, clock: Clock) -> None:
    delivery = WebhookDelivery.objects.get(pk=clock.add(webhook, MESSAGE)[0])
    WebhookDelivery.objects.all().delete()
    with pytest.raises(services.Gone):
        services.redeliver(delivery)


def test_a_revoked_key_is_replaced_by_the_oldest_active_one(webhook: Webhook, key: ApiKey, clock: Clock) -> None:
    second, third = (services.issue_key(key.cluster, name) for name in ("second", "third"))
    services.update_webhook(webhook, signing_key=third.key.public_key)

    def signs() -> tuple[str, str] | None:
        clock.add(webhook, MESSAGE)
        [task] = clock.take()
        clock.finish(OK, task)
        return task.api_key

    assert signs() == (third.key.public_key, third.secret)
    services.revoke_key(third.key)
    assert (signs() or [""])[0] == key.public_key
    services.revoke_key(key)
    assert signs() == (second.key.public_key, second.secret)
    services.revoke_key(second.key)
    assert signs() is None


def test_the_old_secret_signs_until_it_ends(webhook: Webhook, clock: Clock) -> None:
    new = services.rotate_webhook_secret(webhook, timedelta(days=1))
    clock.now = datetime.now(UTC)
    clock.add(webhook, MESSAGE, MESSAGE)
    first, _ = clock.take()
    assert len(first.secrets) == 2
    assert first.secrets[0] == new
    clock.now += timedelta(days=1, seconds=1)
    again, _ = clock.take()
    assert again.secrets == (new,)


def test_nothing_waits_costs_one_query(webhook: Webhook, clock: Clock, django_assert_num_queries: Any) -> None:
    with django_assert_num_queries(1):
        assert clock.take() == []


def test_a_sender_goes_on_with_a_webhook_in_few_statements(
    webhook: Webhook, clock: Clock, django_assert_num_queries: Any
) -> None:
    """Each takes half a millisecond of the process, during which its sockets may have to wait."""
    clock.add(webhook, *[MESSAGE] * 2 * exchange.MAX_TAKEN)
    tasks = clock.take()
    assert len(tasks) == exchange.MAX_TAKEN
    with django_assert_num_queries(16):  # with the savepoint of this test
        tasks = exchange.exchange([Result(task, clock.now, OK) for task in tasks], [], clock.now).tasks
    assert len(tasks) == exchange.MAX_TAKEN


def test_deliveries_are_added_in_few_statements(webhook: Webhook, clock: Clock, django_assert_num_queries: Any) -> None:
    with django_assert_num_queries(7):  # with the savepoint of this test
        clock.add(webhook, *[MESSAGE] * 40)


def replies(reply: Reply, clock: Clock, key: ApiKey, settings: Settings) -> list[Answer]:
    """Return what a sender hears within eight seconds from a receiver that always answers like this."""
    with Receiver(lambda _: reply) as receiver:
        settings.WEBHOOK_ALLOWS_HTTP, settings.WEBHOOK_ALLOWED_NETWORKS = True, [ip_network("127.0.0.1/32")]
        webhook = services.create_webhook(key.cluster, receiver.url, kinds=["client_event"]).webhook
        clock.add(webhook, MESSAGE)
        heard = []

        def send(task: Task) -> Answer:
            async def post() -> Answer:
                client = WebhookClient(1)
                try:
                    return await client.post(task.url, [], b"{}")
                finally:
                    await client.close()

            heard.append(asyncio.run(post()))
            return heard[-1]

        clock.run(timedelta(seconds=8), send)
    return heard


@pytest.mark.parametrize("status", [301, 302, 307, 308, 400, 404, 500, 502, 503, 504])
def test_every_status_but_2xx_is_a_failure(status: int, clock: Clock, key: ApiKey, settings: Settings) -> None:
    heard = replies(Reply(status, b"no"), clock, key, settings)
    assert [answer.status for answer in heard] == [status] * 3
    assert heard[0].text == "no"


@pytest.mark.parametrize("status", [200, 201, 202, 204])
def test_every_2xx_is_a_success(status: int, clock: Clock, key: ApiKey, settings: Settings) -> None:
    assert [answer.status for answer in replies(Reply(status, b""), clock, key, settings)] == [status]


def test_a_slow_receiver_is_waited_for(clock: Clock, key: ApiKey, settings: Settings) -> None:
    [answer] = replies(Reply(seconds=0.5), clock, key, settings)
    assert answer.status == 200
    assert answer.milliseconds >= 500


def test_a_receiver_that_never_answers_is_given_up_after_ten_seconds(
    clock: Clock, key: ApiKey, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("accounts.webhooks.client.MAX_SECONDS", 0.5)
    heard = replies(Reply(seconds=20), clock, key, settings)
    assert len(heard) == 3
    assert {answer.status for answer in heard} == {None}
    assert heard[0].error.startswith("No answer within")


def test_a_pause_that_the_receiver_asks_for_arrives(clock: Clock, key: ApiKey, settings: Settings) -> None:
    [answer] = replies(Reply(503, headers=(("Retry-After", "120"),)), clock, key, settings)
    assert answer.retry_after == 120
