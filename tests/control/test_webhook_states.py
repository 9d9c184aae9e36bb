"""Which states of channels webhooks are told: each only once, with a number by which stale ones can be recognized."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from accounts import services
from accounts.models import Cluster, Webhook, WebhookChannel
from accounts.webhooks.states import find_endpoints, occupied_channels, prune, record_states

pytestmark = pytest.mark.django_db
NOW = datetime(2026, 11, 1, 12, tzinfo=UTC)
BOTH = ["channel_occupied", "channel_vacated"]


def create(cluster: Cluster, **settings: Any) -> Webhook:
    return services.create_webhook(cluster, **{"url": "https://example.com/", "kinds": BOTH, **settings}).webhook


def told(webhook: Webhook) -> list[list[tuple[str, str]]]:
    """Return the events of each delivery."""
    rows = webhook.deliveries.order_by("pk").values_list("events", flat=True)
    return [[(event["name"], event["channel"]) for event in json.loads(events)] for events in rows]


def test_a_state_is_told_once_whoever_notices_it(cluster: Cluster) -> None:
    webhook = create(cluster)
    for occupied in (False, True, True, False, False, True):
        record_states(cluster.pk, {"a": occupied}, NOW)
    assert told(webhook) == [[("channel_occupied", "a")], [("channel_vacated", "a")], [("channel_occupied", "a")]]
    assert set(webhook.deliveries.values_list("in_order", flat=True)) == {True}
    assert occupied_channels(cluster.pk) == [(webhook.pk, "a")]


def test_the_sequence_of_a_channel_grows_also_when_a_clock_is_set_back(cluster: Cluster) -> None:
    webhook = create(cluster)
    for minutes, occupied in ((0, True), (-5, False), (-5, True), (1, False)):
        record_states(cluster.pk, {"a": occupied}, NOW + timedelta(minutes=minutes))
    rows = webhook.deliveries.order_by("pk").values_list("events", flat=True)
    sequences = [json.loads(events)[0]["sequence"] for events in rows]
    assert sequences == sorted(set(sequences))


def test_webhooks_choose_kinds_channels_and_batches(cluster: Cluster) -> None:
    vacated, prefixed = create(cluster, kinds=["channel_vacated"]), create(cluster, channel_prefix="b", batches=True)
    messages, off = create(cluster, kinds=["client_event"]), create(cluster, enabled=False)
    record_states(cluster.pk, {"a": True, "b1": True, "b2": True}, NOW)
    record_states(cluster.pk, {"a": False}, NOW)
    assert told(vacated) == [[("channel_vacated", "a")]]
    assert told(prefixed) == [[("channel_occupied", "b1"), ("channel_occupied", "b2")]]
    assert told(messages) == told(off) == []


def test_the_nodes_know_only_webhooks_that_are_on(cluster: Cluster) -> None:
    webhook, _ = create(cluster, channel_prefix="x"), create(cluster, enabled=False)
    assert {pk: [each.pk for each in found] for pk, found in find_endpoints().items()} == {cluster.pk: [webhook.pk]}
    services.suspend_account(cluster.account)
    assert find_endpoints() == {}


def test_channels_are_forgotten_a_day_after_they_were_vacated(cluster: Cluster) -> None:
    create(cluster)
    record_states(cluster.pk, {"a": True, "b": True}, NOW)
    record_states(cluster.pk, {"a": False}, NOW)
    prune(NOW + timedelta(hours=23))
    assert WebhookChannel.objects.count() == 2
    prune(NOW + timedelta(hours=25))
    assert [row.channel for row in WebhookChannel.objects.all()] == ["b"]
