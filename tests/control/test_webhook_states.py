"""Which states of channels webhooks are told: each only once, with a number by which stale ones can be recognized."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from accounts import services
from accounts.models import Cluster, Webhook, WebhookKind, WebhookState
from accounts.webhooks.states import Subject, find_endpoints, present_subjects, prune, record_states

pytestmark = pytest.mark.django_db
NOW = datetime(2026, 11, 1, 12, tzinfo=UTC)
BOTH = ["channel_occupied", "channel_vacated"]


def create(cluster: Cluster, **settings: Any) -> Webhook:
    return services.create_webhook(cluster, **{"url": "https://example.com/", "kinds": BOTH, **settings}).webhook


def record(cluster: Cluster, *channels: str, is_present: bool = True, now: datetime = NOW) -> None:
    record_states(cluster.pk, map(Subject, channels), is_present=is_present, now=now)


def told(webhook: Webhook) -> list[list[tuple[str, str]]]:
    """Return the events of each delivery."""
    rows = webhook.deliveries.order_by("pk").values_list("events", flat=True)
    return [[(event["name"], event["channel"]) for event in json.loads(events)] for events in rows]


def test_a_state_is_told_once_whoever_notices_it(cluster: Cluster) -> None:
    webhook = create(cluster)
    for is_present in (False, True, True, False, False, True):
        record(cluster, "a", is_present=is_present)
    assert told(webhook) == [[("channel_occupied", "a")], [("channel_vacated", "a")], [("channel_occupied", "a")]]
    assert set(webhook.deliveries.values_list("in_order", flat=True)) == {True}
    assert present_subjects(cluster.pk) == [(webhook.pk, Subject("a"))]


def test_the_sequence_of_a_channel_grows_also_when_a_clock_is_set_back(cluster: Cluster) -> None:
    webhook = create(cluster)
    for minutes, is_present in ((0, True), (-5, False), (-5, True), (1, False)):
        record(cluster, "a", is_present=is_present, now=NOW + timedelta(minutes=minutes))
    rows = webhook.deliveries.order_by("pk").values_list("events", flat=True)
    sequences = [json.loads(events)[0]["sequence"] for events in rows]
    assert sequences == sorted(set(sequences))


def test_webhooks_choose_kinds_channels_and_batches(cluster: Cluster) -> None:
    vacated, prefixed = create(cluster, kinds=["channel_vacated"]), create(cluster, channel_prefix="b", batches=True)
    messages, off = create(cluster, kinds=["client_event"]), create(cluster, enabled=False)
    record(cluster, "a", "b1", "b2")
    record(cluster, "a", is_present=False)
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
    record(cluster, "a", "b")
    record(cluster, "a", is_present=False)
    prune(NOW + timedelta(hours=23))
    assert WebhookState.objects.count() == 2
    prune(NOW + timedelta(hours=25))
    assert [row.channel for row in WebhookState.objects.all()] == ["b"]


def test_the_states_of_a_member_are_apart_from_those_of_its_channel_and_of_other_members(cluster: Cluster) -> None:
    members, channels = create(cluster, kinds=["member_added", "member_removed"]), create(cluster)
    removals = create(cluster, kinds=["member_removed"], channel_prefix="r")
    subjects = [Subject("room"), Subject("room", "anna"), Subject("room", "bob"), Subject("attic", "anna")]
    record_states(cluster.pk, subjects, is_present=True, now=NOW)
    record_states(cluster.pk, subjects[:2], is_present=False, now=NOW)
    record_states(cluster.pk, subjects[:2], is_present=False, now=NOW)
    rows = members.deliveries.order_by("pk").values_list("events", flat=True)
    events = [json.loads(events)[0] for events in rows]
    assert [(event["name"], event["channel"], event["user_id"]) for event in events] == [
        ("member_added", "attic", "anna"),
        ("member_added", "room", "anna"),
        ("member_added", "room", "bob"),
        ("member_removed", "room", "anna"),
    ]
    assert events[1]["sequence"] < events[3]["sequence"]
    assert told(channels) == [[("channel_occupied", "room")], [("channel_vacated", "room")]]
    assert told(removals) == [[("member_removed", "room")]]


def test_a_channel_is_reported_before_its_members_join_and_after_they_have_left(cluster: Cluster) -> None:
    webhook = create(cluster, kinds=WebhookKind.values, batches=True)
    subjects = [Subject("room", "anna"), Subject("room")]
    record_states(cluster.pk, subjects, is_present=True, now=NOW)
    record_states(cluster.pk, subjects, is_present=False, now=NOW)
    assert [[name for name, _ in events] for events in told(webhook)] == [
        ["channel_occupied", "member_added"],
        ["member_removed", "channel_vacated"],
    ]
