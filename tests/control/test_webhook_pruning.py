"""What is deleted of the log of webhooks and of the states of channels, and what is kept meanwhile."""

import contextlib
import re
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection

from accounts import services
from accounts.models import DeliveryState, Webhook, WebhookDelivery, WebhookState
from accounts.webhooks import pruning, queue
from accounts.webhooks.client import Answer
from accounts.webhooks.queue import FINISHED
from accounts.webhooks.states import Subject, record_states
from tests.control.webhook_clock import MESSAGE, OK, START, Clock, states

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize("state", FINISHED)
def test_the_log_ends_after_a_week(webhook: Webhook, clock: Clock, state: DeliveryState) -> None:
    numbers = clock.add(webhook, MESSAGE)
    WebhookDelivery.objects.filter(pk__in=numbers).update(state=state)
    pruning.prune(START + timedelta(days=6))
    assert states(webhook) == [state]
    pruning.prune(START + timedelta(days=8))
    assert states(webhook) == []


def test_what_waits_too_long_is_dropped_however_much_is_in_the_log(
    webhook: Webhook, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pruning, "ROWS_AT_ONCE", 1)
    clock.add(webhook, MESSAGE)
    clock.finish(OK, *clock.take())
    clock.now += timedelta(seconds=1)
    clock.add(webhook, MESSAGE)
    pruning.prune(START + timedelta(hours=29))
    assert states(webhook) == ["delivered", "waiting"]
    pruning.prune(START + timedelta(hours=31))
    assert states(webhook) == ["delivered", "dropped"]
    webhook.refresh_from_db()
    assert webhook.dropped == 1


@contextlib.contextmanager
def before_rows_are_chosen_by_key(act: Callable[[], object]) -> Iterator[None]:
    """Act as another node does after pruning has found old rows, and before it drops or deletes them."""
    pending = [act]

    def wrapper(execute: Callable[..., Any], sql: str, *arguments: Any) -> Any:
        if pending and re.search(r'"accounts_webhook(delivery|state)"\."id" IN', sql):
            pending.pop()()
        return execute(sql, *arguments)

    with connection.execute_wrapper(wrapper):
        yield
    assert not pending


def test_what_is_delivered_meanwhile_is_not_dropped(webhook: Webhook, clock: Clock) -> None:
    clock.add(webhook, MESSAGE)
    tasks = clock.take()
    with before_rows_are_chosen_by_key(lambda: clock.finish(OK, *tasks)):
        pruning.prune(START + timedelta(hours=31))
    assert states(webhook) == ["delivered"]
    webhook.refresh_from_db()
    assert webhook.dropped == 0


def test_what_is_sent_again_meanwhile_is_not_deleted(webhook: Webhook, clock: Clock) -> None:
    clock.add(webhook, MESSAGE)
    clock.finish(OK, *clock.take())
    with before_rows_are_chosen_by_key(lambda: queue.send_again(webhook.deliveries.all())):
        pruning.prune(START + timedelta(days=8))
    assert states(webhook) == ["waiting"]


@pytest.mark.parametrize(("later", "most"), [(timedelta(days=2), 10), (timedelta(hours=1), 0)], ids=["old", "too many"])
def test_the_state_of_a_channel_that_is_occupied_again_meanwhile_is_kept(
    webhook: Webhook, monkeypatch: pytest.MonkeyPatch, later: timedelta, most: int
) -> None:
    monkeypatch.setattr(pruning, "MAX_GONE_STATES", most)

    def record(*, is_present: bool) -> None:
        record_states(webhook.cluster_id, [Subject("room")], is_present=is_present, now=START)

    record(is_present=True)
    record(is_present=False)
    with before_rows_are_chosen_by_key(lambda: record(is_present=True)):
        pruning.prune(START + later)
    assert webhook.states.get().is_present


@pytest.mark.parametrize("state", FINISHED)
def test_the_log_keeps_the_newest_and_everything_that_waits(
    webhook: Webhook, clock: Clock, monkeypatch: pytest.MonkeyPatch, state: DeliveryState
) -> None:
    monkeypatch.setattr(pruning, "MAX_KEPT", 2)
    first, *numbers, last = clock.add(webhook, *[MESSAGE] * 6)
    WebhookDelivery.objects.filter(pk__in=numbers).update(state=state)
    pruning.prune(START)
    assert sorted(webhook.deliveries.values_list("pk", flat=True)) == [first, *numbers[2:], last]


def test_the_log_is_limited_in_bytes_with_events_and_answers(
    webhook: Webhook, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pruning, "MAX_KEPT_BYTES", 10_000)
    monkeypatch.setattr(pruning, "MIN_BYTES", 10_000)
    numbers = clock.add(webhook, *[{**MESSAGE, "data": "x" * 1_500}] * 4)
    clock.finish(Answer(200, 5, "y" * 1_000), *clock.take())
    pruning.prune(START)
    assert list(webhook.deliveries.order_by("pk").values_list("pk", flat=True)) == numbers[1:]


def test_a_deleted_webhook_leaves_nothing_behind(webhook: Webhook, clock: Clock) -> None:
    """Its log and its states are pruned in small steps, also what arrives meanwhile."""
    other = services.create_webhook(webhook.cluster, webhook.url, kinds=["client_event"]).webhook
    clock.add(webhook, *[MESSAGE] * 600)
    kept = clock.add(other, MESSAGE)
    subjects = [Subject(f"channel-{number}") for number in range(600)]
    record_states(webhook.cluster_id, subjects, is_present=True, now=START)
    services.delete_webhook(webhook)
    assert WebhookDelivery.objects.filter(webhook__cluster=other.cluster).count() == 1
    rounds = 0
    while pruning.prune(START):
        rounds += 1
    assert rounds >= 3
    assert list(WebhookDelivery.objects.values_list("pk", flat=True)) == kept
    assert not WebhookState.objects.exists()


def test_large_deliveries_of_a_deleted_webhook_are_pruned_a_few_at_a_time(webhook: Webhook, clock: Clock) -> None:
    clock.add(webhook, *[{**MESSAGE, "data": "x" * 900_000}] * 5)
    services.delete_webhook(webhook)
    assert pruning.prune(START)
    assert WebhookDelivery.objects.count() == 3
    while pruning.prune(START):
        pass
    assert not WebhookDelivery.objects.exists()
