"""What senders do with the queue: they take deliveries from it, and write what their attempts have come to.

A sender locks the rows of the webhooks that it takes deliveries of, and skips those that another one has locked; on
SQLite, a transaction locks everything. So the limits of a webhook and the order of its state events hold for all
senders together. A taken delivery has a lease: if its sender dies, others send it again, with the same ID.
"""

import json
import logging
import uuid
from collections import Counter
from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from django.db import connection, models, transaction
from django.db.models import Min
from django.utils import timezone

from .. import crypto
from ..audit import record_change
from ..models import ApiKey, AuditVerb
from ..webhook_rows import MAX_REASON, DeliveryState, Webhook, WebhookDelivery
from . import notices, schedule
from .capacity import SLOW_SECONDS, Flight, Room, Task
from .client import Answer

logger = logging.getLogger(__name__)

# A request takes at most 10 s. If a node dies, the state events that it was sending are late by the rest of the lease.
LEASE = timedelta(seconds=20)
MAX_IN_FLIGHT = 4
"""How many requests a webhook gets at the same time; one while it fails."""
MAX_TAKEN = 32
"""How many deliveries of a webhook a sender takes if no other waits, so that it asks the database less often.

Those that are not in flight wait in the sender. Of a webhook that is slow or fails, only what can be in flight is.
"""
KEPT_ATTEMPTS = 20
# What an attempt changes of a delivery.
_OF_ATTEMPT = ("attempts", "attempts_size", "state", "lease", "tries", "next_at")
_WEBHOOKS_AT_ONCE = 32
_CANDIDATES = 1_000


class _Waiting(NamedTuple):
    """What a sender needs to know of a delivery that it may take. Those are first that wait longest."""

    next_at: datetime
    pk: int
    size: int
    message_id: str


class Result(NamedTuple):
    """What an attempt has come to."""

    task: Task
    at: datetime
    answer: Answer | None
    """What the receiver has answered; None if there was no attempt, so that the delivery goes back to the queue."""


class Turn(NamedTuple):
    """What a sender gets for its results."""

    tasks: list[Task]
    next_at: datetime | None
    """When something is due again, for any sender; None if nothing waits."""
    is_behind: bool
    """Whether something that is due may be waiting for these deliveries, or for those that the sender has."""


def exchange(results: Sequence[Result], flights: Sequence[Flight] | None, now: datetime | None = None) -> Turn:
    """Write what attempts have come to, and take deliveries that are due.

    Args:
        results: the finished attempts of this sender.
        flights: its other deliveries; None if it takes no more.
        now: the current time; tests set it.

    Raises:
        django.db.Error: nothing was written and taken.
    """
    now = now or timezone.now()
    slow = _newly_slow(flights or ())
    if not results and not slow:
        next_at = _next_due()
        if flights is None or next_at is None or next_at > now:
            return Turn([], next_at, is_behind=False)
    with transaction.atomic():
        finished = _finish(results, slow, now)
        room = Room(flights or ())
        tasks = _take(room, finished, now) if flights is not None else []
        for webhook in finished.values():
            _save_due(webhook, now)
    return Turn(tasks, _next_due(), room.is_too_small)


def _next_due() -> datetime | None:
    waiting = Webhook.objects.filter(enabled=True, due_at__isnull=False, cluster__account__suspended_at=None)
    return waiting.order_by("due_at").values_list("due_at", flat=True).first()


def _newly_slow(flights: Sequence[Flight]) -> list[int]:
    slow = {flight.task.webhook_pk for flight in flights if flight.seconds >= SLOW_SECONDS}
    return list(Webhook.objects.filter(pk__in=slow, is_slow=False).values_list("pk", flat=True)) if slow else []


def _take(room: Room, finished: dict[int, Webhook], now: datetime) -> list[Task]:
    """Take deliveries that are due.

    Args:
        room: how much this sender can take.
        finished: webhooks that this transaction has locked and not saved; those that are saved here are taken out.
        now: the current time.
    """
    lease, tasks = uuid.uuid4().hex, list[Task]()
    due = Webhook.objects.filter(enabled=True, due_at__lte=now, cluster__account__suspended_at=None)
    for is_slow in (False, True):
        if not room.has_requests(is_slow=is_slow):
            room.is_too_small = True
            continue
        others = due.filter(is_slow=is_slow).exclude(pk__in=list(finished))
        free = [each for each in finished.values() if each.is_slow == is_slow and _is_free(each, room, now)]
        full = room.full_accounts()
        room.is_too_small |= bool(full)
        chosen = _in_turns(others.exclude(cluster__account__in=full), free)
        locked = due.select_for_update(skip_locked=True, no_key=True, of=("self",)).select_related("cluster")
        rows = locked.in_bulk([pk for pk in chosen if pk not in finished]) | finished
        for webhook in (rows[pk] for pk in chosen if pk in rows):
            if room.requests(webhook.cluster.account_id, is_slow=is_slow) <= 0:
                room.is_too_small = True
                continue  # it stays due
            share = 1 if webhook.failures else max(MAX_IN_FLIGHT, 0 if is_slow else MAX_TAKEN // len(chosen))
            tasks += _take_of(webhook, share, room, is_slow, lease, now)
            finished.pop(webhook.pk, None)
    return tasks


def _is_free(webhook: Webhook, room: Room, now: datetime) -> bool:
    """Return whether deliveries of a webhook can be taken now, if any wait."""
    account = webhook.cluster.account
    is_on = webhook.enabled and not account.suspended and (webhook.probe_at is None or webhook.probe_at <= now)
    return is_on and room.requests(account.pk, is_slow=webhook.is_slow) > 0


def _in_turns(due: models.QuerySet[Webhook], last: Sequence[Webhook]) -> list[int]:
    """Return webhooks to take deliveries of, those first that wait longest, and of each account one in turn.

    Args:
        due: webhooks that wait.
        last: webhooks of which deliveries have just ended, so that they come after these.
    """
    rows = list(due.order_by("due_at").values_list("pk", "cluster__account")[:_CANDIDATES])
    rows += [(webhook.pk, webhook.cluster.account_id) for webhook in last]
    seen, turns = Counter[int](), list[tuple[int, int, int]]()
    for number, (pk, account) in enumerate(rows):
        turns.append((seen[account], number, pk))
        seen[account] += 1
    return [pk for _, _, pk in sorted(turns)[:_WEBHOOKS_AT_ONCE]]


def _take_of(  # noqa: PLR0913, PLR0917
    webhook: Webhook, share: int, room: Room, is_slow: bool, lease: str, now: datetime
) -> list[Task]:
    account = webhook.cluster.account_id
    most, size = room.requests(account, is_slow=is_slow), room.bytes(account)
    taken, (next_ones, is_all) = [], _next_of(webhook, most, share, room.leases, now)
    for delivery in next_ones:
        if size <= 0:
            break
        taken.append(delivery)
        size -= delivery.size
    tasks = _tasks(webhook, taken, is_slow, lease, now)
    for task in tasks:
        room.take(task)
    room.is_too_small |= not is_all or len(taken) < len(next_ones)
    if webhook.failures >= schedule.PROBE_AFTER:
        webhook.probe_at = now + schedule.PROBE_EVERY
    _save_due(webhook, now, is_served=len(taken) == len(next_ones) < most)
    return tasks


def _next_of(
    webhook: Webhook, room: int, share: int, own: Collection[str], now: datetime
) -> tuple[list[_Waiting], bool]:
    """Return the deliveries of a locked webhook to send next, and whether these are all that are due.

    State events are sent one after the other.
    """
    waiting = webhook.deliveries.filter(state=DeliveryState.WAITING)
    leased = list(waiting.filter(next_at__gt=now).exclude(lease="").values_list("in_order", "lease"))
    # While another sender has some, all together are no more than can be in flight.
    is_shared = any(lease not in own for _, lease in leased)
    room = min(room, (min(share, MAX_IN_FLIGHT) if is_shared else share) - len(leased))
    if room <= 0:
        return [], False
    due = waiting.filter(next_at__lte=now).values_list(*_Waiting._fields)
    rows = list(due.filter(in_order=False).order_by("next_at", "pk")[:room])
    is_all = len(rows) < room
    if any(in_order for in_order, _ in leased):
        is_all = False
    elif states := list(due.filter(in_order=True).order_by("pk")[:1]):
        rows += states
        is_all = False
    return [_Waiting(*row) for row in sorted(rows)[:room]], is_all


def _tasks(webhook: Webhook, taken: Sequence[_Waiting], is_slow: bool, lease: str, now: datetime) -> list[Task]:
    rows = WebhookDelivery.objects.filter(pk__in=[delivery.pk for delivery in taken])
    if not taken:
        return []
    rows.update(lease=lease, next_at=now + LEASE)
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
    events = dict(rows.values_list("pk", "events"))
    return [
        Task(
            delivery_pk=delivery.pk,
            webhook_pk=webhook.pk,
            account_pk=webhook.cluster.account_id,
            lease=lease,
            message_id=delivery.message_id,
            url=webhook.url,
            is_slow=is_slow,
            events=events[delivery.pk],
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
    keys = active.order_by("pk").values_list("public_key", "secret_ciphertext")
    key = keys.filter(public_key=webhook.signing_key).first() if webhook.signing_key else None
    key = key or keys.first()
    return None if key is None else (key[0], crypto.decrypt(key[1]))


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
    # Not before now: what has long been due would always come before the webhooks of others.
    webhook.due_at = max(due_at, now, webhook.probe_at or now) if due_at is not None else None
    names = ("failures", "failing_since", "last_error", "probe_at", "is_slow", "due_at", "enabled", "disabled_because")
    webhook.save(update_fields=names)


def _finish(results: Sequence[Result], slow: Collection[int], now: datetime) -> dict[int, Webhook]:
    """Write what attempts have come to, and return their webhooks, which are to be saved."""
    by_webhook: dict[int, list[Result]] = {}
    for result in results:
        by_webhook.setdefault(result.task.webhook_pk, []).append(result)
    locked = Webhook.objects.select_for_update(no_key=True, of=("self",)).select_related("cluster__account")
    # Always in the same order, so that two senders cannot deadlock.
    webhooks = {webhook.pk: webhook for webhook in locked.filter(pk__in={*by_webhook, *slow}).order_by("pk")}
    for webhook in webhooks.values():
        of_webhook = by_webhook.get(webhook.pk, [])
        keys = [result.task.delivery_pk for result in of_webhook]
        rows = WebhookDelivery.objects.only(*_OF_ATTEMPT).in_bulk(keys)
        for result in of_webhook:
            delivery = rows.get(result.task.delivery_pk)
            if delivery is not None:
                _note_attempt(delivery, result)
            if result.answer is not None:
                _note_health(webhook, result.answer, now)
        _write_attempts(rows.values())
        webhook.is_slow = webhook.is_slow or webhook.pk in slow
    return webhooks


def _write_attempts(deliveries: Collection[WebhookDelivery]) -> None:
    """Write what attempts have changed.

    Django would take 1 ms to put together the statement for each, during which the event loop may have to wait.
    """
    meta, quote = WebhookDelivery._meta, connection.ops.quote_name
    fields = [field for field in meta.concrete_fields if field.name in _OF_ATTEMPT]
    columns = ", ".join(f"{quote(str(field.column))} = %s" for field in fields)
    statement = f"UPDATE {quote(meta.db_table)} SET {columns} WHERE {quote('id')} = %s"  # noqa: S608  (names only)
    rows = [
        [*(field.get_db_prep_save(getattr(delivery, field.name), connection) for field in fields), delivery.pk]
        for delivery in deliveries
    ]
    with connection.cursor() as cursor:
        cursor.executemany(statement, rows)


def _note_attempt(delivery: WebhookDelivery, result: Result) -> None:
    answer, has_lease = result.answer, delivery.lease == result.task.lease
    if answer is None:
        if has_lease:
            delivery.lease, delivery.next_at = "", result.at
        return
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


def _note_health(webhook: Webhook, answer: Answer, now: datetime) -> None:
    webhook.is_slow = answer.milliseconds >= SLOW_SECONDS * 1000
    if answer.is_success:
        if webhook.probe_at is not None:  # what waits for a later attempt need not wait any longer
            webhook.deliveries.filter(state=DeliveryState.WAITING, lease="").update(next_at=now)
        webhook.failures, webhook.failing_since, webhook.last_error, webhook.probe_at = 0, None, "", None
        return
    webhook.failures += 1
    webhook.failing_since = webhook.failing_since or now
    webhook.last_error = _fitting(answer.failure)
    if webhook.failures >= schedule.PROBE_AFTER:
        webhook.probe_at = now + schedule.PROBE_EVERY
        if now - webhook.failing_since >= schedule.DISABLE_AFTER:
            _disable(webhook, f"It has failed for {schedule.DISABLE_AFTER.days} days. {webhook.last_error}")
    if answer.status == schedule.GONE:
        _disable(webhook, "Your server answered 410 Gone.")


def _fitting(sentence: str) -> str:
    """Return as much of a sentence as the columns for reasons take. PostgreSQL would refuse a longer one."""
    return sentence if len(sentence) <= MAX_REASON else f"{sentence[: MAX_REASON - 1]}…"


def _disable(webhook: Webhook, reason: str) -> None:
    if webhook.enabled:
        webhook.enabled, webhook.disabled_because = False, _fitting(reason)
        changes = {"enabled": (True, False), "reason": ("", reason)}
        record_change(AuditVerb.CHANGED, webhook, changes, is_automatic=True)
        notices.tell_owners(webhook, reason)
