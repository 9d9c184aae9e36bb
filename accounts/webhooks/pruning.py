"""Deletes what webhooks no longer keep: old deliveries of their logs, and states of what is long gone."""

from datetime import datetime, timedelta

from django.db import models, transaction
from django.db.models import Count, Q, Sum
from django.utils import timezone

from ..webhook_rows import DeliveryState, Webhook, WebhookDelivery, WebhookState
from .queue import BYTES, FINISHED, MIN_BYTES, ROWS_AT_ONCE, WAITING_FOR, delete_free, drop, shares

KEPT_FOR = timedelta(days=7)
MAX_KEPT = 10_000
MAX_KEPT_BYTES = 64 * 1024 * 1024
"""How long finished deliveries stay in the log, and how many of a webhook, of which size."""
MAX_KEPT_BYTES_OF_ACCOUNT = 256 * 1024 * 1024
"""How large the logs of an account are together; its webhooks share this evenly."""
STATES_KEPT_FOR = timedelta(days=1)
"""How long the sequence of a vacated channel or a removed member is remembered."""
MAX_GONE_STATES = 10_000
"""How many of these are remembered for a webhook; anyone with a public key can make new ones."""
_WEBHOOKS_AT_ONCE = 32
# How much of what a deleted webhook has left behind is deleted in one transaction, in a few milliseconds.
_LEFT_ROWS_AT_ONCE = 100
_LEFT_BYTES_AT_ONCE = 2 * 1024 * 1024


def prune(now: datetime | None = None) -> bool:
    """Delete some of what is no longer kept of deliveries and states; return whether there may be more of it."""
    now = now or timezone.now()
    return any([_prune_deliveries(now), _prune_states(now)])


def _prune_deliveries(now: datetime) -> bool:
    """Drop what has waited too long, and delete what is older than the log keeps; return whether there may be more."""
    if _prune_left_behind():
        return True
    late = WebhookDelivery.objects.filter(state=DeliveryState.WAITING, waiting_since__lt=now - WAITING_FOR)
    too_late = list(late.order_by("waiting_since").values_list("pk", flat=True)[:ROWS_AT_ONCE])
    if too_late:
        with transaction.atomic():
            drop(WebhookDelivery.objects.filter(pk__in=too_late, state=DeliveryState.WAITING), now)
    finished = WebhookDelivery.objects.filter(state__in=FINISHED)
    old = list(
        finished.filter(waiting_since__lt=now - KEPT_FOR)
        .order_by("waiting_since")
        .values_list("pk", flat=True)[:ROWS_AT_ONCE]
    )
    kept = finished.order_by().values("webhook").annotate(rows=Count("pk"), size=Sum(BYTES))
    crowded = list(kept.filter(Q(rows__gt=MAX_KEPT) | Q(size__gt=MIN_BYTES)).values_list("webhook", "rows", "size"))
    most = shares([pk for pk, _, _ in crowded], MAX_KEPT_BYTES, MAX_KEPT_BYTES_OF_ACCOUNT)
    surplus = [each for each in crowded if each[1] > MAX_KEPT or each[2] > most.get(each[0], 0)]
    for webhook_pk, rows, size in surplus[:_WEBHOOKS_AT_ONCE]:
        old += _surplus(finished.filter(webhook=webhook_pk), rows, size, most.get(webhook_pk, 0))
    for start in range(0, len(old), ROWS_AT_ONCE):
        # Those that were asked for again in the meantime no longer fulfil the condition.
        delete_free(finished, old[start : start + ROWS_AT_ONCE])
    return len(too_late) == ROWS_AT_ONCE or len(old) >= ROWS_AT_ONCE


def _prune_left_behind() -> bool:
    """Delete some of the deliveries of deleted webhooks; return whether there may be more of them."""
    left = WebhookDelivery.objects.exclude(webhook__in=Webhook.objects.all())
    webhook_pk = left.order_by("webhook").values_list("webhook", flat=True).first()
    if webhook_pk is None:
        return False
    of_webhook, chosen, size = WebhookDelivery.objects.filter(webhook=webhook_pk), list[int](), 0
    for pk, one in of_webhook.order_by("state", "size").values_list("pk", BYTES)[:_LEFT_ROWS_AT_ONCE]:
        if chosen and size + one > _LEFT_BYTES_AT_ONCE:
            break
        chosen.append(pk)
        size += one
    delete_free(of_webhook, chosen)
    return True


def _surplus(finished: models.QuerySet[WebhookDelivery], rows: int, size: int, most: int) -> list[int]:
    """Return the oldest deliveries of a webhook, some of those that the log has no room for.

    Args:
        finished: its deliveries in the log.
        rows: how many these are.
        size: how large they are, in bytes.
        most: how large they may be.
    """
    surplus = []
    for pk, one in finished.order_by("pk").values_list("pk", BYTES)[:ROWS_AT_ONCE]:
        if rows <= MAX_KEPT and size <= most:
            break
        surplus.append(pk)
        rows, size = rows - 1, size - one
    return surplus


def _prune_states(now: datetime) -> bool:
    old = WebhookState.objects.filter(is_present=False, changed_at__lt=now - STATES_KEPT_FOR)
    keys = list(old.order_by("changed_at").values_list("pk", flat=True)[:ROWS_AT_ONCE])
    # Those that are present again no longer fulfil the condition.
    delete_free(old, keys)
    gone = WebhookState.objects.filter(is_present=False)
    numbers = gone.order_by().values("webhook").annotate(rows=Count("pk")).filter(rows__gt=MAX_GONE_STATES)
    for webhook_pk, rows in list(numbers.values_list("webhook", "rows")[:_WEBHOOKS_AT_ONCE]):
        oldest = gone.filter(webhook=webhook_pk).order_by("changed_at").values_list("pk", flat=True)
        surplus = list(oldest[: min(rows - MAX_GONE_STATES, ROWS_AT_ONCE)])
        delete_free(gone, surplus)
        keys += surplus
    left = WebhookState.objects.exclude(webhook__in=Webhook.objects.all())
    left_keys = list(left.order_by().values_list("pk", flat=True)[:ROWS_AT_ONCE])
    delete_free(left, left_keys)
    return max(len(keys), len(left_keys)) >= ROWS_AT_ONCE
