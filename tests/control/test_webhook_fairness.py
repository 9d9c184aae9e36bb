"""Senders of webhooks are fair: nobody waits for the slow receivers, the backlogs or the large events of others."""

from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from accounts import services
from accounts.models import ApiKey, Webhook
from accounts.webhooks import capacity, exchange, pruning, queue
from accounts.webhooks.capacity import Flight
from accounts.webhooks.client import Answer
from accounts.webhooks.exchange import Result
from tests.control.webhook_clock import ERROR, MESSAGE, OK, Clock, states

pytestmark = pytest.mark.django_db


def make_webhooks(tenants: int, webhooks: int) -> list[Webhook]:
    """Make webhooks of several accounts, those of each account together."""
    made = []
    for number in range(tenants):
        cluster = services.create_cluster(services.create_account(f"Tenant {number}"), f"tenant-{number}")
        made += [
            services.create_webhook(cluster, "https://example.com/", kinds=["client_event"]).webhook
            for _ in range(webhooks)
        ]
    return made


def test_slow_receivers_of_many_tenants_keep_no_other_waiting(webhook: Webhook, clock: Clock) -> None:
    slow = make_webhooks(tenants=8, webhooks=4)
    for each in slow:
        clock.add(each, *[MESSAGE] * 20)
    # They are not known as slow yet, and take everything. But not for long.
    flights = [Flight(task, 0.1) for task in clock.take()]
    assert len(flights) == capacity.MAX_QUICK
    clock.add(webhook, MESSAGE)
    assert clock.take(*flights) == []
    flights = [Flight(task, capacity.SLOW_SECONDS) for task, _ in flights]
    more = clock.take(*flights)
    assert webhook.pk in [task.webhook_pk for task in more]
    flights += [Flight(task, capacity.SLOW_SECONDS) for task in more if task.webhook_pk != webhook.pk]
    # Now they are known, and share a part, whatever they have answered.
    for answer in (Answer(200, 9_000), Answer(None, 10_000, error="No answer within 10 s.")):
        clock.finish(answer, *[task for task, _ in flights])
        tasks = clock.take()
        assert 0 < len([task for task in tasks if task.webhook_pk != webhook.pk]) <= capacity.MAX_SLOW
        assert {task.is_slow for task in tasks if task.webhook_pk != webhook.pk} == {True}
        flights = [Flight(task, 5.0) for task in tasks]
        clock.add(webhook, MESSAGE)
        assert webhook.pk in [task.webhook_pk for task in clock.take(*flights)]


def test_a_webhook_whose_deliveries_have_ended_comes_after_those_that_wait(webhook: Webhook, clock: Clock) -> None:
    clock.add(webhook, *[MESSAGE] * 40)
    first = [Result(task, clock.now, OK) for task in clock.take()]
    for each in make_webhooks(tenants=capacity.MAX_QUICK // exchange.MAX_IN_FLIGHT, webhooks=1):
        clock.add(each, *[MESSAGE] * 40)
    others = exchange.exchange(first, [], clock.now).tasks
    assert len(others) == capacity.MAX_QUICK
    assert webhook.pk not in [task.webhook_pk for task in others]
    webhook.refresh_from_db()
    assert webhook.due_at == clock.now
    assert {task.webhook_pk for task in clock.take()} == {webhook.pk}


def test_a_receiver_that_is_quick_again_no_longer_counts_as_slow(webhook: Webhook, clock: Clock) -> None:
    for answer, is_slow in ((Answer(200, 3_000), True), (OK, False)):
        clock.add(webhook, MESSAGE)
        clock.finish(answer, *clock.take())
        webhook.refresh_from_db()
        assert webhook.is_slow is is_slow


def test_many_webhooks_of_one_account_take_turns_with_that_of_another(webhook: Webhook, clock: Clock) -> None:
    for each in make_webhooks(tenants=2, webhooks=18):
        clock.add(each, *[MESSAGE] * 10)
    clock.now += timedelta(seconds=1)
    clock.add(webhook, MESSAGE)
    assert webhook.pk in [task.webhook_pk for task in clock.take()]


def test_webhooks_with_a_backlog_come_again_after_all_others_that_are_due(clock: Clock) -> None:
    webhooks = make_webhooks(tenants=1, webhooks=8)
    for each in webhooks:
        clock.add(each, *[MESSAGE] * 10)
    served = []
    for _ in range(2):
        clock.now += timedelta(seconds=0.1)
        tasks = clock.take()
        served.append({task.webhook_pk for task in tasks})
        clock.finish(OK, *tasks)
    assert served[0] | served[1] == {each.pk for each in webhooks}


def test_an_account_has_a_limited_amount_of_events_in_flight(webhook: Webhook, clock: Clock) -> None:
    large = {**MESSAGE, "data": "x" * (capacity.MAX_BYTES_OF_ACCOUNT // 2)}
    clock.add(webhook, *[large] * 5)
    tasks = clock.take()
    assert len(tasks) == 2
    flights = [Flight(task, 0.1) for task in tasks]
    assert clock.take(*flights) == []
    assert len(clock.take(flights[0])) == 1


def test_results_are_written_without_reading_the_events(webhook: Webhook, clock: Clock) -> None:
    clock.add(webhook, MESSAGE)
    tasks = clock.take()
    with CaptureQueriesContext(connection) as queries:
        clock.finish(OK, *tasks)
    assert not any('"events"' in query["sql"] for query in queries)


def test_a_sender_learns_when_something_is_due_again(webhook: Webhook, clock: Clock) -> None:
    assert exchange.exchange([], [], clock.now).next_at is None
    clock.add(webhook, MESSAGE)
    turn = exchange.exchange([], [], clock.now)
    assert turn.next_at == clock.now + exchange.LEASE
    turn = exchange.exchange([Result(turn.tasks[0], clock.now, ERROR)], [], clock.now)
    assert turn.next_at is not None
    assert 0.8 <= (turn.next_at - clock.now).total_seconds() <= 1.2


def test_the_webhooks_of_an_account_share_the_room_for_what_waits_and_for_their_logs(
    webhook: Webhook, foreign_key: ApiKey, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module, name in ((queue, "MAX_BYTES_OF_ACCOUNT"), (pruning, "MAX_KEPT_BYTES_OF_ACCOUNT")):
        monkeypatch.setattr(module, name, 40_000)
    monkeypatch.setattr(queue, "MIN_BYTES", 1_000)
    monkeypatch.setattr(pruning, "MIN_BYTES", 1_000)
    own = [webhook]
    for key, number in ((webhook.cluster, 3), (foreign_key.cluster, 1)):
        made = [services.create_webhook(key, webhook.url, kinds=["client_event"]).webhook for _ in range(number)]
        own += made if key == webhook.cluster else []
    theirs = made[0]
    large = {**MESSAGE, "data": "x" * 2_000}
    for each in (*own, theirs):
        clock.add(each, *[large] * 10)
    assert [states(each).count("waiting") for each in (*own, theirs)] == [4, 4, 4, 4, 10]
    while tasks := clock.take():
        clock.finish(OK, *tasks)
    pruning.prune(clock.now)
    assert {each.deliveries.count() for each in own} == {4}
    assert theirs.deliveries.count() == 10
