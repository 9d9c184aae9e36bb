"""The queue of deliveries, in the database of the project.

Senders of all processes take deliveries from it. A sender locks the rows of the webhooks that it takes deliveries of,
and skips those that another one has locked; on SQLite, a transaction locks everything. So the limits of a webhook and
the order of its state events hold for all senders together. A taken delivery has a lease: if its sender dies, others
send it again, with the same ID.
"""

import json
import logging
import uuid
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from django.db import models, transaction
from django.db.models import Count, F, Min, Q, Sum
from django.db.models.functions import Coalesce
from django.utils import timezone

from .. import crypto
from ..audit import record_change
from ..models import ApiKey, AuditVerb
from ..webhook_rows import DeliveryState, Webhook, WebhookDelivery
from . import notices, schedule
from .client import Answer
from .signing import new_message_id

logger = logging.getLogger(__name__)

# A request takes at most 10 s. If a node dies, the state events that it was sending are late by the rest of the lease.
LEASE = timedelta(seconds=20)
MAX_IN_FLIGHT = 4
"""How many requests a webhook gets at the same time; one while it fails."""
MAX_OF_ACCOUNT = 16
"""How many requests one process sends to the webhooks of an account at the same time."""
MAX_WAITING = 10_000
MAX_WAITING_BYTES = 64 * 1024 * 1024
"""How many deliveries of a webhook wait, and how large they are; beyond that, the oldest are dropped."""
WAITING_FOR = timedelta(hours=30)
KEPT_FOR = timedelta(days=7)
MAX_KEPT = 10_000
MAX_KEPT_BYTES = 64 * 1024 * 1024
"""How long deliveries wait, how long finished ones stay in the log, and how many of a webhook, of which size."""
KEPT_ATTEMPTS = 20
MAX_EVENTS = 100
"""How many events one request contains, for webhooks with batches."""
_BYTES = F("size") + F("attempts_size")
FINISHED = [state for state in DeliveryState if state != DeliveryState.WAITING]
_WEBHOOKS_AT_ONCE = 32
_ROWS_AT_ONCE = 500


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


@dataclass(frozen=True, slots=True)
class Task:
    """A delivery that a sender has taken, with everything that it needs to send it."""

    delivery_pk: int
    webhook_pk: int
    account_pk: int
    lease: str
    message_id: str
    url: str
    events: str = field(repr=False)
    secrets: tuple[str, ...] = field(repr=False)
    api_key: tuple[str, str] | None = field(repr=False)
    headers: tuple[tuple[str, str], ...] = field(repr=False)


class Result(NamedTuple):
    """What an attempt has come to."""

    task: Task
    at: datetime
    answer: Answer


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
    known = sorted(Webhook.objects.filter(pk__in=wanted, enabled=True).values_list("pk", flat=True))
    rows = [_row(delivery, now) for delivery in deliveries if delivery.webhook_pk in known]
    created = WebhookDelivery.objects.bulk_create(rows, batch_size=_ROWS_AT_ONCE)
    for webhook_pk in known:
        _drop_oldest(webhook_pk, now)
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


def _wake(webhooks: Iterable[int], now: datetime) -> None:
    """Let senders look at webhooks now, or at the next probe of those that fail."""
    later = Q(due_at=None) | Q(due_at__gt=now)
    Webhook.objects.filter(later, pk__in=list(webhooks)).update(due_at=Coalesce("probe_at", models.Value(now)))


def _drop_oldest(webhook_pk: int, now: datetime) -> None:
    rows, size = _waiting(webhook_pk)
    dropped = []
    if rows > MAX_WAITING or size > MAX_WAITING_BYTES:
        waiting = WebhookDelivery.objects.filter(webhook=webhook_pk, state=DeliveryState.WAITING)
        for pk, one in waiting.order_by("pk").values_list("pk", _BYTES).iterator():
            if rows <= MAX_WAITING and size <= MAX_WAITING_BYTES:
                break
            dropped.append(pk)
            rows, size = rows - 1, size - one
    drop(WebhookDelivery.objects.filter(pk__in=dropped), now)


def drop(waiting: models.QuerySet[WebhookDelivery], now: datetime) -> None:
    """Give up deliveries that wait, and count their events."""
    events = dict(waiting.order_by().values_list("webhook").annotate(Sum("count")))
    waiting.update(state=DeliveryState.DROPPED, lease="")
    for webhook_pk, number in events.items():
        count_dropped(webhook_pk, number, now)


def count_dropped(webhook_pk: int, events: int, now: datetime | None = None) -> None:
    """Count events of a webhook that could not be kept."""
    Webhook.objects.filter(pk=webhook_pk).update(dropped=F("dropped") + events, dropped_at=now or timezone.now())


def exchange(
    results: Sequence[Result], capacity: int, busy: Mapping[int, int], now: datetime | None = None
) -> list[Task]:
    """Write what attempts have come to, and take deliveries that are due.

    Args:
        results: the finished attempts of this sender.
        capacity: how many deliveries the sender can take.
        busy: how many of each account it has already.
        now: the current time; tests set it.

    Raises:
        django.db.Error: nothing was written and taken.
    """
    now = now or timezone.now()
    due = Q(enabled=True, due_at__lte=now)
    if not results and not (capacity and Webhook.objects.filter(due).exists()):
        return []
    with transaction.atomic():
        _finish(results, now)
        return _take(due, capacity, Counter(busy), now)


def _take(due: Q, capacity: int, busy: Counter[int], now: datetime) -> list[Task]:
    lease, tasks = uuid.uuid4().hex, list[Task]()
    full = [account for account, number in busy.items() if number >= MAX_OF_ACCOUNT]
    webhooks = Webhook.objects.select_for_update(skip_locked=True, no_key=True, of=("self",)).select_related("cluster")
    rows = webhooks.filter(due, cluster__account__suspended_at=None).exclude(cluster__account__in=full)
    for webhook in rows.order_by("due_at")[:_WEBHOOKS_AT_ONCE]:
        account = webhook.cluster.account_id
        room = min(capacity - len(tasks), MAX_OF_ACCOUNT - busy[account])
        if room <= 0:
            continue  # it stays due
        taken = _next_of(webhook, room, now)
        busy[account] += len(taken)
        tasks += _tasks(webhook, taken, lease, now)
        if webhook.failures >= schedule.PROBE_AFTER:
            webhook.probe_at = now + schedule.PROBE_EVERY
        _save_due(webhook, now, is_served=len(taken) < room)
    return tasks


def _next_of(webhook: Webhook, room: int, now: datetime) -> list[WebhookDelivery]:
    """Return the deliveries of a locked webhook to send next. State events are sent one after the other."""
    waiting = webhook.deliveries.filter(state=DeliveryState.WAITING)
    leased = list(waiting.filter(next_at__gt=now).exclude(lease="").values_list("in_order", flat=True))
    room = min(room, (1 if webhook.failures else MAX_IN_FLIGHT) - len(leased))
    if room <= 0:
        return []
    due = waiting.filter(next_at__lte=now)
    first_state = [] if any(leased) else list(due.filter(in_order=True).order_by("pk")[:1])
    others = list(due.filter(in_order=False).order_by("next_at", "pk")[:room])
    return sorted([*first_state, *others], key=lambda delivery: (delivery.next_at, delivery.pk))[:room]


def _tasks(webhook: Webhook, taken: Sequence[WebhookDelivery], lease: str, now: datetime) -> list[Task]:
    WebhookDelivery.objects.filter(pk__in=[delivery.pk for delivery in taken]).update(lease=lease, next_at=now + LEASE)
    if not taken:
        return []
    try:
        common: dict[str, Any] = {
            "secrets": _secrets(webhook, now),
            "api_key": _api_key(webhook),
            "headers": tuple(json.loads(crypto.decrypt(webhook.headers_ciphertext)).items()),
        }
    except crypto.DecryptionFailed as error:
        # Nothing is lost: the deliveries are tried again when their leases end.
        logger.error("The webhook %d cannot be sent. %s", webhook.pk, error)
        return []
    return [
        Task(
            delivery_pk=delivery.pk,
            webhook_pk=webhook.pk,
            account_pk=webhook.cluster.account_id,
            lease=lease,
            message_id=delivery.message_id,
            url=webhook.url,
            events=delivery.events,
            **common,
        )
        for delivery in taken
    ]


def _secrets(webhook: Webhook, now: datetime) -> tuple[str, ...]:
    secrets = [webhook.secret_ciphertext]
    if webhook.old_secret_ends_at is not None and webhook.old_secret_ends_at > now:
        secrets.append(webhook.old_secret_ciphertext)
    return tuple(map(crypto.decrypt, secrets))


def _api_key(webhook: Webhook) -> tuple[str, str] | None:
    """Return the key that signs for Pusher's libraries, and its secret; None if the cluster has no active key."""
    active = ApiKey.objects.filter(cluster=webhook.cluster_id, revoked_at=None)
    key = active.filter(public_key=webhook.signing_key).first() if webhook.signing_key else None
    key = key or active.order_by("pk").first()
    return None if key is None else (key.public_key, crypto.decrypt(key.secret_ciphertext))


def _save_due(webhook: Webhook, now: datetime, *, is_served: bool = False) -> None:
    """Write the state of a locked webhook, and when there is something to do for it again.

    Args:
        webhook: the webhook.
        now: the current time.
        is_served: whether what is due already waits for a request in flight, and for nothing else.
    """
    waiting = webhook.deliveries.filter(state=DeliveryState.WAITING)
    if is_served:
        waiting = waiting.filter(next_at__gt=now)
    due_at = waiting.aggregate(at=Min("next_at"))["at"]
    webhook.due_at = max(due_at, webhook.probe_at or due_at) if due_at is not None else None
    names = ("failures", "failing_since", "probe_at", "due_at", "enabled", "disabled_because")
    webhook.save(update_fields=names)


def _finish(results: Sequence[Result], now: datetime) -> None:
    by_webhook: dict[int, list[Result]] = {}
    for result in results:
        by_webhook.setdefault(result.task.webhook_pk, []).append(result)
    locked = Webhook.objects.select_for_update(no_key=True, of=("self",)).select_related("cluster__account")
    # Always in the same order, so that two senders cannot deadlock.
    for webhook in locked.filter(pk__in=list(by_webhook)).order_by("pk"):
        rows = WebhookDelivery.objects.in_bulk([result.task.delivery_pk for result in by_webhook[webhook.pk]])
        for result in by_webhook[webhook.pk]:
            delivery = rows.get(result.task.delivery_pk)
            if delivery is not None:
                _note_attempt(webhook, delivery, result)
            _note_health(webhook, result, now)
        _save_due(webhook, now)


def _note_attempt(webhook: Webhook, delivery: WebhookDelivery, result: Result) -> None:
    answer, has_lease = result.answer, delivery.lease == result.task.lease
    attempt = {
        "at": result.at.isoformat(timespec="milliseconds"),
        "status": answer.status,
        "milliseconds": answer.milliseconds,
        "error": answer.error,
        "answer": answer.text,
    }
    delivery.attempts = [*delivery.attempts, attempt][-KEPT_ATTEMPTS:]
    delivery.attempts_size = len(json.dumps(delivery.attempts))
    if answer.is_success and delivery.state == DeliveryState.WAITING:
        delivery.state, delivery.lease = DeliveryState.DELIVERED, ""
        delivery.tries += 1
    elif has_lease and delivery.state == DeliveryState.WAITING:
        delivery.tries += 1
        pause = None if answer.status == schedule.GONE else schedule.next_pause(delivery.tries, answer.retry_after)
        delivery.lease = ""
        if pause is None:
            delivery.state = DeliveryState.FAILED
        else:
            delivery.next_at = result.at + pause
    delivery.save(update_fields=["attempts", "attempts_size", "state", "lease", "tries", "next_at"])


def _note_health(webhook: Webhook, result: Result, now: datetime) -> None:
    answer = result.answer
    if answer.is_success:
        if webhook.probe_at is not None:  # what waits for a later attempt need not wait any longer
            webhook.deliveries.filter(state=DeliveryState.WAITING, lease="").update(next_at=now)
        webhook.failures, webhook.failing_since, webhook.probe_at = 0, None, None
        return
    webhook.failures += 1
    webhook.failing_since = webhook.failing_since or now
    if webhook.failures >= schedule.PROBE_AFTER:
        webhook.probe_at = now + schedule.PROBE_EVERY
        if now - webhook.failing_since >= schedule.DISABLE_AFTER:
            _disable(webhook, f"It has failed for {schedule.DISABLE_AFTER.days} days.")
    if answer.status == schedule.GONE:
        _disable(webhook, "Your server answered 410 Gone.")


def _disable(webhook: Webhook, reason: str) -> None:
    if webhook.enabled:
        webhook.enabled, webhook.disabled_because = False, reason
        changes = {"enabled": (True, False), "reason": ("", reason)}
        record_change(AuditVerb.CHANGED, webhook, changes, is_automatic=True)
        notices.tell_owners(webhook, reason)


def prune(now: datetime | None = None) -> bool:
    """Drop what has waited too long, and delete what is older than the log keeps; return whether there may be more."""
    now = now or timezone.now()
    late = WebhookDelivery.objects.filter(state=DeliveryState.WAITING, waiting_since__lt=now - WAITING_FOR)
    too_late = list(late.order_by("waiting_since").values_list("pk", flat=True)[:_ROWS_AT_ONCE])
    if too_late:
        with transaction.atomic():
            drop(WebhookDelivery.objects.filter(pk__in=too_late, state=DeliveryState.WAITING), now)
    finished = WebhookDelivery.objects.filter(state__in=FINISHED)
    old = list(
        finished.filter(waiting_since__lt=now - KEPT_FOR)
        .order_by("waiting_since")
        .values_list("pk", flat=True)[:_ROWS_AT_ONCE]
    )
    kept = finished.order_by().values("webhook").annotate(rows=Count("pk"), size=Sum(_BYTES))
    crowded = kept.filter(Q(rows__gt=MAX_KEPT) | Q(size__gt=MAX_KEPT_BYTES))
    for webhook_pk, rows, size in list(crowded.values_list("webhook", "rows", "size")[:_WEBHOOKS_AT_ONCE]):
        old += _surplus(finished.filter(webhook=webhook_pk), rows, size)
    for start in range(0, len(old), _ROWS_AT_ONCE):
        WebhookDelivery.objects.filter(pk__in=old[start : start + _ROWS_AT_ONCE]).delete()
    return len(too_late) == _ROWS_AT_ONCE or len(old) >= _ROWS_AT_ONCE


def _surplus(finished: models.QuerySet[WebhookDelivery], rows: int, size: int) -> list[int]:
    """Return the oldest deliveries of a webhook, some of those that the log has no room for.

    Args:
        finished: its deliveries in the log.
        rows: how many these are.
        size: how large they are, in bytes.
    """
    surplus = []
    for pk, one in finished.order_by("pk").values_list("pk", _BYTES)[:_ROWS_AT_ONCE]:
        if rows <= MAX_KEPT and size <= MAX_KEPT_BYTES:
            break
        surplus.append(pk)
        rows, size = rows - 1, size - one
    return surplus


def send_again(deliveries: models.QuerySet[WebhookDelivery], now: datetime | None = None) -> int:
    """Send finished deliveries of one webhook again, with their IDs; return how many.

    Only as many as can wait are sent, the first ones. Call this in a transaction that has locked the webhook.
    """
    now = now or timezone.now()
    rows = list(deliveries.filter(state__in=FINISHED).values_list("pk", "webhook", _BYTES)[:MAX_WAITING])
    if not rows:
        return 0
    webhook_pk = rows[0][1]
    waiting, size = _waiting(webhook_pk)
    taken = []
    for pk, _, one in rows:
        if waiting >= MAX_WAITING or size + one > MAX_WAITING_BYTES:
            break
        taken.append(pk)
        waiting, size = waiting + 1, size + one
    for start in range(0, len(taken), _ROWS_AT_ONCE):
        WebhookDelivery.objects.filter(pk__in=taken[start : start + _ROWS_AT_ONCE]).update(
            state=DeliveryState.WAITING, tries=0, lease="", next_at=now, waiting_since=now
        )
    _wake([webhook_pk], now)
    return len(taken)


def send_now(deliveries: models.QuerySet[WebhookDelivery], now: datetime | None = None) -> int:
    """End the pauses of waiting deliveries until their next attempts; return how many had one.

    Webhooks that fail still get only one request a minute.
    """
    now = now or timezone.now()
    paused = deliveries.filter(state=DeliveryState.WAITING, lease="", next_at__gt=now)
    webhooks = list(paused.values_list("webhook", flat=True).distinct().order_by())
    number = paused.update(next_at=now)
    _wake(webhooks, now)
    return number


def _waiting(webhook_pk: int) -> tuple[int, int]:
    """Return how many deliveries of a webhook wait, and the size of their events."""
    waiting = WebhookDelivery.objects.filter(webhook=webhook_pk, state=DeliveryState.WAITING)
    total = waiting.aggregate(rows=Count("pk"), size=Coalesce(Sum(_BYTES), 0))
    return total["rows"], total["size"]
