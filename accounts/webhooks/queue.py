"""The queue of deliveries, in the database of the project: what waits for the senders of all processes."""

import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple, TypeVar

from django.db import models, transaction
from django.db.models import Count, F, Min, Q, Sum
from django.db.models.functions import Coalesce
from django.utils import timezone

from ..locks import lock_webhooks
from ..signals import announce_webhooks_due
from ..webhook_rows import DeliveryState, Webhook, WebhookDelivery
from .signing import new_message_id

T = TypeVar("T")

MAX_WAITING = 10_000
MAX_WAITING_BYTES = 64 * 1024 * 1024
"""How many deliveries of a webhook wait, and how large they are; beyond that, the oldest are dropped."""
MAX_BYTES_OF_ACCOUNT = 256 * 1024 * 1024
"""How large the deliveries of an account that wait are together; its webhooks share this evenly."""
MIN_BYTES = 8 * 1024 * 1024
"""What a webhook has at least, so that every delivery can wait."""
WAITING_FOR = timedelta(hours=30)
"""How long a delivery waits at most."""
MAX_EVENTS = 100
"""How many events one request contains, for webhooks with batches."""
BYTES = F("size") + F("attempts_size")
"""What a delivery takes."""
FINISHED = [state for state in DeliveryState if state != DeliveryState.WAITING]
ROWS_AT_ONCE = 500
BYTES_AT_ONCE = 128 * 1024
"""How large the deliveries of one statement are, unless a single one is larger. Large ones delay the event loop."""


class NewDelivery(NamedTuple):
    """Events for one webhook, to be sent in one request."""

    webhook_pk: int
    events: str
    """The events, as a JSON array."""
    number: int
    """How many events these are."""
    in_order: bool
    """Whether they report states, which are sent in order."""

    @classmethod
    def of(cls, webhook_pk: int, events: Sequence[Mapping[str, Any]], *, in_order: bool = False) -> "NewDelivery":
        """Return the delivery of some events."""
        encoded = json.dumps(events, ensure_ascii=False, separators=(",", ":"))
        return cls(webhook_pk, encoded, len(events), in_order)


@transaction.atomic
def add(deliveries: Sequence[NewDelivery], now: datetime | None = None) -> list[int]:
    """Add deliveries to the queue. Those of webhooks that do not exist or are off are left out.

    Returns:
        The primary keys of the new deliveries.
    """
    if not deliveries:
        return []
    now = now or timezone.now()
    wanted = {delivery.webhook_pk for delivery in deliveries}
    known = lock_webhooks(pk__in=wanted, enabled=True)
    rows = [_row(delivery, now) for delivery in deliveries if delivery.webhook_pk in known]
    groups = in_groups(rows, lambda row: row.size, ROWS_AT_ONCE, BYTES_AT_ONCE)
    created = [row for group in groups for row in WebhookDelivery.objects.bulk_create(group)]
    for webhook_pk, most in shares(known, MAX_WAITING_BYTES, MAX_BYTES_OF_ACCOUNT).items():
        _drop_oldest(webhook_pk, most, now)
    _wake(known, now)
    return [row.pk for row in created]


def _row(delivery: NewDelivery, now: datetime) -> WebhookDelivery:
    return WebhookDelivery(
        webhook_id=delivery.webhook_pk,
        message_id=new_message_id(),
        # An expression. For plain values, Django would send arrays, in which psycopg quotes each character in Python.
        events=models.Value(delivery.events),
        size=len(delivery.events.encode(errors="replace")),
        count=delivery.number,
        in_order=delivery.in_order,
        created_at=now,
        waiting_since=now,
        next_at=now,
    )


def in_groups(items: Iterable[T], size_of: Callable[[T], int], most: int, most_bytes: int) -> Iterator[list[T]]:
    """Yield items in groups that are limited in number and bytes. A group has at least one, however large."""
    group: list[T] = []
    size = 0
    for item in items:
        added = size_of(item)
        if group and (len(group) == most or size + added > most_bytes):
            yield group
            group, size = [], 0
        group.append(item)
        size += added
    if group:
        yield group


def _wake(webhooks: Iterable[int], now: datetime) -> None:
    """Let senders look at webhooks now, or at the next probe of those that fail."""
    later = Q(due_at=None) | Q(due_at__gt=now)
    Webhook.objects.filter(later, pk__in=list(webhooks)).update(due_at=Coalesce("probe_at", models.Value(now)))


def shares(webhooks: Collection[int], of_webhook: int, of_account: int) -> dict[int, int]:
    """Return how many bytes each of some webhooks may use.

    Args:
        webhooks: their primary keys.
        of_webhook: what a webhook may use at most.
        of_account: what the webhooks of an account may use together.
    """
    rows = Webhook.objects.filter(pk__in=webhooks).order_by("pk")
    numbers = rows.annotate(number=Count("cluster__account__clusters__webhooks")).values_list("pk", "number")
    return {pk: min(of_webhook, max(of_account // number, MIN_BYTES)) for pk, number in numbers}


def _drop_oldest(webhook_pk: int, most: int, now: datetime) -> None:
    rows, size = _waiting(webhook_pk)
    dropped = []
    if rows > MAX_WAITING or size > most:
        waiting = WebhookDelivery.objects.filter(webhook=webhook_pk, state=DeliveryState.WAITING)
        for pk, one in waiting.order_by("pk").values_list("pk", BYTES).iterator():
            if rows <= MAX_WAITING and size <= most:
                break
            dropped.append(pk)
            rows, size = rows - 1, size - one
    if dropped:
        drop(WebhookDelivery.objects.filter(pk__in=dropped), now)


def drop(waiting: models.QuerySet[WebhookDelivery], now: datetime) -> None:
    """Give up deliveries that wait, and count their events."""
    lock_webhooks(pk__in=set(waiting.order_by().values_list("webhook", flat=True)))
    events = dict(waiting.order_by().values_list("webhook").annotate(Sum("count")))
    waiting.update(state=DeliveryState.DROPPED, lease="")
    for webhook_pk, number in events.items():
        count_dropped(webhook_pk, number, now)


def count_dropped(webhook_pk: int, events: int, now: datetime | None = None) -> None:
    """Count events of a webhook that could not be kept."""
    Webhook.objects.filter(pk=webhook_pk).update(dropped=F("dropped") + events, dropped_at=now or timezone.now())


def delete_free(rows: models.QuerySet[Any], keys: Sequence[int]) -> None:
    """Delete those of some rows that have these primary keys, except those that another transaction is changing."""
    if not keys:
        return
    with transaction.atomic():
        locked = rows.filter(pk__in=keys).order_by().select_for_update(skip_locked=True)
        rows.model._default_manager.filter(pk__in=list(locked.values_list("pk", flat=True))).delete()


def send_again(deliveries: models.QuerySet[WebhookDelivery], now: datetime | None = None) -> int:
    """Send finished deliveries of one webhook again, with their IDs; return how many.

    Only as many as can wait are sent, the first ones. Call this in a transaction that has locked the webhook.
    """
    now = now or timezone.now()
    rows = list(deliveries.filter(state__in=FINISHED).values_list("pk", "webhook", BYTES)[:MAX_WAITING])
    if not rows:
        return 0
    webhook_pk = rows[0][1]
    waiting, size = _waiting(webhook_pk)
    most = shares([webhook_pk], MAX_WAITING_BYTES, MAX_BYTES_OF_ACCOUNT)[webhook_pk]
    taken = []
    for pk, _, one in rows:
        if waiting >= MAX_WAITING or size + one > most:
            break
        taken.append(pk)
        waiting, size = waiting + 1, size + one
    for start in range(0, len(taken), ROWS_AT_ONCE):
        WebhookDelivery.objects.filter(pk__in=taken[start : start + ROWS_AT_ONCE]).update(
            state=DeliveryState.WAITING, tries=0, lease="", next_at=now, waiting_since=now
        )
    _wake([webhook_pk], now)
    announce_webhooks_due()
    return len(taken)


def waits_for_later(delivery: WebhookDelivery, webhook: Webhook, now: datetime) -> bool:
    """Return whether a delivery waits for its next attempt, or until its webhook, which fails, is tried again."""
    is_waiting = delivery.state == DeliveryState.WAITING and not delivery.lease
    return is_waiting and max(delivery.next_at, webhook.probe_at or now) > now


def send_first(delivery: WebhookDelivery, now: datetime | None = None) -> None:
    """Send a waiting delivery before all others of its webhook, and now, even if the webhook gets one request a minute.

    Call this in a transaction that has locked the webhook.
    """
    now = now or timezone.now()
    others = WebhookDelivery.objects.filter(webhook=delivery.webhook_id, state=DeliveryState.WAITING, lease="")
    earliest = others.aggregate(at=Min("next_at"))["at"] or now
    WebhookDelivery.objects.filter(pk=delivery.pk).update(next_at=min(now, earliest - timedelta(milliseconds=1)))
    webhooks = Webhook.objects.filter(pk=delivery.webhook_id)
    webhooks.exclude(probe_at=None).update(probe_at=now)
    webhooks.update(due_at=now)
    announce_webhooks_due()


def _waiting(webhook_pk: int) -> tuple[int, int]:
    """Return how many deliveries of a webhook wait, and the size of their events."""
    waiting = WebhookDelivery.objects.filter(webhook=webhook_pk, state=DeliveryState.WAITING)
    total = waiting.aggregate(rows=Count("pk"), size=Coalesce(Sum(BYTES), 0))
    return total["rows"], total["size"]
