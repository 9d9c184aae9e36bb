"""The states of channels and of their members that webhooks were told.

Each webhook is told a state only if it differs from the last one. The row of the webhook is locked meanwhile, so of
several nodes that notice the same change, one reports it.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from django.db import transaction
from django.db.models import Q
from django.utils import timezone

from ..webhook_rows import Webhook, WebhookKind, WebhookState
from .queue import MAX_EVENTS, NewDelivery, add

_AT_ONCE = 500


CHANNEL_KINDS = (WebhookKind.OCCUPIED, WebhookKind.VACATED)
"""The kinds of events that report the states of channels: present, and gone."""
MEMBER_KINDS = (WebhookKind.ADDED, WebhookKind.REMOVED)
"""The same for the members of channels."""


def split_path(path: str) -> tuple[str, str]:
    """Return the protocol of a channel, and the name by which its clients know it, by the path of the channel."""
    protocol, colon, name = path.partition(":")
    return (protocol, name) if colon else ("v3", path)


class Subject(NamedTuple):
    """What has a state: a channel, or a member of one."""

    channel: str
    """The path of the channel."""
    user_id: str = ""
    """Identifies the member; empty for the channel itself."""

    @property
    def kinds(self) -> tuple[WebhookKind, WebhookKind]:
        """The kinds of events that report its states: present, and gone."""
        return MEMBER_KINDS if self.user_id else CHANNEL_KINDS


class Endpoint(NamedTuple):
    """A webhook, as the nodes need to know it."""

    pk: int
    cluster_id: str
    kinds: frozenset[str]
    channel_prefix: str
    batches: bool
    account_pk: int

    def wants(self, kinds: Iterable[str], channel: str) -> bool:
        """Return whether it gets events of any of these kinds from a channel."""
        return not self.kinds.isdisjoint(kinds) and split_path(channel)[1].startswith(self.channel_prefix)


Endpoints = Mapping[int, tuple[Endpoint, ...]]
"""The webhooks that are on, by the primary key of their cluster."""


def find_endpoints() -> Endpoints:
    """Return the webhooks that are on."""
    found: dict[int, tuple[Endpoint, ...]] = {}
    rows = Webhook.objects.filter(enabled=True, cluster__account__suspended_at=None).order_by("pk")
    for cluster_pk, pk, cluster_id, kinds, prefix, batches, account_pk in rows.values_list(
        "cluster_id", "pk", "cluster__cluster_id", "kinds", "channel_prefix", "batches", "cluster__account"
    ):
        endpoint = Endpoint(pk, cluster_id, frozenset(kinds), prefix, batches, account_pk)
        found[cluster_pk] = (*found.get(cluster_pk, ()), endpoint)
    return found


def present_subjects(cluster_pk: int) -> list[tuple[int, Subject]]:
    """Return what in a cluster has the last state present, each with the webhook that was told."""
    rows = WebhookState.objects.filter(webhook__cluster=cluster_pk, webhook__enabled=True, is_present=True)
    return [
        (pk, Subject(channel, user_id)) for pk, channel, user_id in rows.values_list("webhook", "channel", "user_id")
    ]


def record_states(
    cluster_pk: int, subjects: Iterable[Subject], *, is_present: bool, now: datetime | None = None
) -> None:
    """Tell the webhooks of a cluster what is present now, or gone.

    Args:
        cluster_pk: the primary key of the cluster.
        subjects: channels, and members of channels.
        is_present: whether they are present.
        now: the current time; tests set it.
    """
    now = now or timezone.now()
    # A channel comes before its members, and goes after them.
    ordered = sorted(subjects, reverse=not is_present)
    for start in range(0, len(ordered), _AT_ONCE):
        with transaction.atomic():
            webhooks = Webhook.objects.select_for_update(no_key=True, of=("self",)).select_related("cluster")
            for webhook in webhooks.filter(cluster=cluster_pk, enabled=True).order_by("pk"):
                _record(webhook, ordered[start : start + _AT_ONCE], is_present, now)


def _record(webhook: Webhook, subjects: Sequence[Subject], is_present: bool, now: datetime) -> None:
    cluster, kinds = webhook.cluster, frozenset(webhook.kinds)
    endpoint = Endpoint(
        webhook.pk, cluster.cluster_id, kinds, webhook.channel_prefix, webhook.batches, cluster.account_id
    )
    wanted = [subject for subject in subjects if endpoint.wants(subject.kinds, subject.channel)]
    known = {Subject(row.channel, row.user_id): row for row in webhook.states.filter(_any_of(wanted))}
    time_ms = int(now.timestamp() * 1000)
    changed, events = [], []
    for subject in wanted:
        row = known.get(subject)
        if (row is not None and row.is_present) == is_present:
            continue
        # Not a number that counts from 1: the row is deleted some time after the subject is gone.
        sequence = max(time_ms, row.sequence + 1 if row is not None else 0)
        changed.append(
            WebhookState(
                webhook=webhook,
                channel=subject.channel,
                user_id=subject.user_id,
                is_present=is_present,
                sequence=sequence,
                changed_at=now,
            )
        )
        present_kind, gone_kind = subject.kinds
        kind = present_kind if is_present else gone_kind
        if kind in endpoint.kinds:
            events.append(_event(kind, subject, sequence, time_ms))
    WebhookState.objects.bulk_create(
        changed,
        update_conflicts=True,
        unique_fields=["webhook", "channel", "user_id"],
        update_fields=["is_present", "sequence", "changed_at"],
    )
    size = MAX_EVENTS if endpoint.batches else 1
    add([NewDelivery.of(webhook.pk, part, in_order=True) for part in _parts(events, size)], now)


def _any_of(subjects: Sequence[Subject]) -> Q:
    """Return the condition for the states of some subjects."""
    users: dict[str, list[str]] = {}
    for subject in subjects:
        if subject.user_id:
            users.setdefault(subject.channel, []).append(subject.user_id)
    channels = [subject.channel for subject in subjects if not subject.user_id]
    members = (Q(channel=channel, user_id__in=of_channel) for channel, of_channel in users.items())
    return Q(*members, Q(channel__in=channels, user_id=""), _connector=Q.OR)


def _event(kind: WebhookKind, subject: Subject, sequence: int, time_ms: int) -> dict[str, Any]:
    member = {"user_id": subject.user_id} if subject.user_id else {}
    protocol, channel = split_path(subject.channel)
    return {
        "name": kind.value,
        "channel": channel,
        **member,
        "protocol": protocol,
        "sequence": sequence,
        "time_ms": time_ms,
    }


def _parts(events: list[dict[str, Any]], size: int) -> Iterable[list[dict[str, Any]]]:
    return (events[start : start + size] for start in range(0, len(events), size))
