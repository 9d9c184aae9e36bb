"""The states of channels that webhooks were told.

Each webhook is told a state only if it differs from the last one. The row of the webhook is locked meanwhile, so of
several nodes that notice the same change, one reports it.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from django.db import transaction
from django.utils import timezone

from ..webhook_rows import Webhook, WebhookChannel, WebhookKind
from .queue import MAX_EVENTS, NewDelivery, add
from .queue import prune as prune_deliveries

KEPT_FOR = timedelta(days=1)
"""How long the sequence of a vacated channel is remembered."""
_AT_ONCE = 500


class Endpoint(NamedTuple):
    """A webhook, as the nodes need to know it."""

    pk: int
    kinds: frozenset[str]
    channel_prefix: str
    batches: bool

    def wants_states(self, channel: str) -> bool:
        """Return whether it is told when this channel is occupied and vacated."""
        kinds = (WebhookKind.OCCUPIED, WebhookKind.VACATED)
        return not self.kinds.isdisjoint(kinds) and channel.startswith(self.channel_prefix)

    def wants_messages(self, channel: str) -> bool:
        """Return whether it gets the messages of clients in this channel."""
        return WebhookKind.CLIENT in self.kinds and channel.startswith(self.channel_prefix)


Endpoints = Mapping[int, tuple[Endpoint, ...]]
"""The webhooks that are on, by the primary key of their cluster."""


def find_endpoints() -> Endpoints:
    """Return the webhooks that are on."""
    found: dict[int, tuple[Endpoint, ...]] = {}
    rows = Webhook.objects.filter(enabled=True, cluster__account__suspended_at=None).order_by("pk")
    for pk, cluster_pk, kinds, prefix, batches in rows.values_list(
        "pk", "cluster_id", "kinds", "channel_prefix", "batches"
    ):
        found[cluster_pk] = (*found.get(cluster_pk, ()), Endpoint(pk, frozenset(kinds), prefix, batches))
    return found


def occupied_channels(cluster_pk: int) -> list[tuple[int, str]]:
    """Return the channels of a cluster whose last state is occupied, each with the webhook that was told."""
    rows = WebhookChannel.objects.filter(webhook__cluster=cluster_pk, webhook__enabled=True, is_occupied=True)
    return list(rows.values_list("webhook", "channel"))


def record_states(cluster_pk: int, occupied: Mapping[str, bool], now: datetime | None = None) -> None:
    """Tell the webhooks of a cluster which channels are occupied now, and which are vacated.

    Args:
        cluster_pk: the primary key of the cluster.
        occupied: whether channels are occupied, by path.
        now: the current time; tests set it.
    """
    now = now or timezone.now()
    channels = sorted(occupied)
    for start in range(0, len(channels), _AT_ONCE):
        some = {channel: occupied[channel] for channel in channels[start : start + _AT_ONCE]}
        with transaction.atomic():
            webhooks = Webhook.objects.select_for_update(no_key=True).filter(cluster=cluster_pk, enabled=True)
            for webhook in webhooks.order_by("pk"):
                _record(webhook, some, now)


def _record(webhook: Webhook, occupied: Mapping[str, bool], now: datetime) -> None:
    endpoint = Endpoint(webhook.pk, frozenset(webhook.kinds), webhook.channel_prefix, webhook.batches)
    wanted = [channel for channel in occupied if endpoint.wants_states(channel)]
    known = {row.channel: row for row in webhook.channels.filter(channel__in=wanted)}
    time_ms = int(now.timestamp() * 1000)
    changed, events = [], []
    for channel in wanted:
        row = known.get(channel)
        if (row is not None and row.is_occupied) == occupied[channel]:
            continue
        # Not a number that counts from 1: the row is deleted some time after the channel is vacated.
        sequence = max(time_ms, row.sequence + 1 if row is not None else 0)
        changed.append(
            WebhookChannel(
                webhook=webhook,
                channel=channel,
                is_occupied=occupied[channel],
                sequence=sequence,
                changed_at=now,
            )
        )
        kind = WebhookKind.OCCUPIED if occupied[channel] else WebhookKind.VACATED
        if kind in endpoint.kinds:
            events.append(_event(kind, channel, sequence, time_ms))
    WebhookChannel.objects.bulk_create(
        changed,
        update_conflicts=True,
        unique_fields=["webhook", "channel"],
        update_fields=["is_occupied", "sequence", "changed_at"],
    )
    size = MAX_EVENTS if endpoint.batches else 1
    add([NewDelivery.of(webhook.pk, part, in_order=True) for part in _parts(events, size)], now)


def _event(kind: WebhookKind, channel: str, sequence: int, time_ms: int) -> dict[str, Any]:
    return {"name": kind.value, "channel": channel, "protocol": "v3", "sequence": sequence, "time_ms": time_ms}


def _parts(events: list[dict[str, Any]], size: int) -> Iterable[list[dict[str, Any]]]:
    return (events[start : start + size] for start in range(0, len(events), size))


def prune(now: datetime | None = None) -> bool:
    """Delete some of what is no longer kept of deliveries and channels; return whether there may be more of it."""
    return any([prune_deliveries(now), _prune_channels(now)])


def _prune_channels(now: datetime | None) -> bool:
    old = WebhookChannel.objects.filter(is_occupied=False, changed_at__lt=(now or timezone.now()) - KEPT_FOR)
    keys = list(old.order_by("changed_at").values_list("pk", flat=True)[:_AT_ONCE])
    # The condition keeps channels that were occupied again in the meantime.
    old.filter(pk__in=keys).delete()
    return len(keys) == _AT_ONCE
