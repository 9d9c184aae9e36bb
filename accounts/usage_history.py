"""Usage over time: nodes add what they have counted, and people read it by hour and by day.

An hour is kept for 7 days and a day for 13 months. Each batch is added to both in one transaction, together with its
number, so that a batch whose commit was uncertain can be sent again.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from functools import cache
from typing import Any, TypeVar

from django.db import connection, models, transaction
from django.utils import timezone

from .models import Account, ApiKey, Cluster, QuotaNotice, RefusedUsage, Usage, UsageRow, UsageUnit, UsageWriter
from .usage_counts import Counts, UsageByHour, UsedBy

KEPT = {UsageUnit.HOUR: timedelta(days=7), UsageUnit.DAY: timedelta(days=396)}
# The number of a writer's last batch is needed while it may send that batch again, and a notice on its day.
OTHERS_KEPT = timedelta(days=2)
SUMS = ("messages", "message_bytes", "deliveries", "delivered_bytes", "api_calls")
# How many rows one statement writes: SQLite limits the number of its parameters.
_CHUNK = 80
# How many rows one statement deletes, so that others wait only briefly.
_PRUNED_AT_ONCE = 500

T = TypeVar("T")
_Place = tuple[int, str, datetime, int]
"""What identifies a row: the account, the unit, the start, and the key."""


@transaction.atomic
def record_usage(writer: str, batch: int, used: UsageByHour) -> None:
    """Add a batch of usage, unless this was done before.

    Args:
        writer: the ID of the process that has counted.
        batch: the number of the batch, which grows by 1.
        used: what was used. Accounts and clusters that do not exist are left out; what keys have used that do not exist
            counts for their account.
    """
    UsageWriter.objects.bulk_create([UsageWriter(writer=writer)], ignore_conflicts=True)
    is_new = UsageWriter.objects.filter(writer=writer, batch__lt=batch).update(batch=batch, written_at=timezone.now())
    if not is_new:
        return
    rows: defaultdict[_Place, Counts] = defaultdict(Counts)
    places = _places({who for _, who in used})
    for (hour, who), counts in used.items():
        if who in places:
            account_pk, key_pk = places[who]
            for unit, start in ((UsageUnit.HOUR, hour), (UsageUnit.DAY, hour.replace(hour=0))):
                rows[account_pk, unit.value, start, key_pk].add(counts)
    # Every process writes in the same order, so that two cannot deadlock.
    ordered = sorted(rows.items())
    numbers = [
        (*place, *(getattr(counts, name) for name in SUMS), counts.peak_connections)
        for place, counts in ordered
        if counts.peak_connections or any(getattr(counts, name) for name in SUMS)
    ]
    _upsert(Usage, SUMS, numbers, "peak_connections")
    refused = [
        (*place, reason, number) for place, counts in ordered for reason, number in sorted(counts.refusals.items())
    ]
    _upsert(RefusedUsage, ("refusals",), refused)


def _places(users: Iterable[UsedBy]) -> dict[UsedBy, tuple[int, int]]:
    """Return the primary keys of the account and the key of each user that exists; 0 for no key."""
    users = list(users)
    accounts = set(_in_chunks(Account.objects.values_list("pk", flat=True), "pk", {who.account_id for who in users}))
    keys = dict(
        _in_chunks(ApiKey.objects.values_list("public_key", "pk"), "public_key", {who.public_key for who in users})
    )
    clusters = dict(
        _in_chunks(
            Cluster.objects.values_list("cluster_id", "account"), "cluster_id", {who.cluster_id for who in users}
        )
    )
    places = {}
    for who in users:
        account = clusters.get(who.cluster_id) if who.cluster_id else who.account_id
        if account is not None and (who.cluster_id or account in accounts):
            places[who] = (account, keys.get(who.public_key, 0))
    return places


def _in_chunks(rows: models.QuerySet[Any], name: str, values: Iterable[Any]) -> list[Any]:
    return [row for chunk in _chunks([*filter(None, values)], 500) for row in rows.filter(**{f"{name}__in": chunk})]


def _chunks(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    return (items[start : start + size] for start in range(0, len(items), size))


def _upsert(
    model: type[UsageRow], sums: Sequence[str], rows: Sequence[tuple[Any, ...]], highest: str | None = None
) -> None:
    """Insert rows, or add to those that exist, in a few statements. Django's own upsert can only replace values.

    Args:
        model: the table. What identifies its rows is its first constraint.
        sums: the columns of numbers that are added.
        rows: the values that identify each row, then its numbers.
        highest: a last column, of which the larger number stays.
    """
    quote = connection.ops.quote_name
    constraint: Any = model._meta.constraints[0]
    table = quote(model._meta.db_table)
    updates = [f"{quote(name)} = {table}.{quote(name)} + EXCLUDED.{quote(name)}" for name in sums]
    if highest is not None:
        old, new = f"{table}.{quote(highest)}", f"EXCLUDED.{quote(highest)}"
        updates.append(f"{quote(highest)} = CASE WHEN {new} > {old} THEN {new} ELSE {old} END")
    columns = [*constraint.fields, *sums, *([highest] if highest else [])]
    adapt = cache(connection.ops.adapt_datetimefield_value)
    values = f"({', '.join(['%s'] * len(columns))})"
    with connection.cursor() as cursor:
        for chunk in _chunks(rows, _CHUNK):
            cursor.execute(
                f"INSERT INTO {table} ({', '.join(map(quote, columns))}) "  # noqa: S608
                f"VALUES {', '.join([values] * len(chunk))} "
                f"ON CONFLICT ({', '.join(map(quote, constraint.fields))}) DO UPDATE SET {', '.join(updates)}",
                [adapt(value) if isinstance(value, datetime) else value for row in chunk for value in row],
            )


def prune_usage() -> bool:
    """Delete some of what is older than it is kept; return whether there may be more."""
    now = timezone.now()
    stale: list[models.QuerySet[Any]] = [
        UsageWriter.objects.filter(written_at__lt=now - OTHERS_KEPT),
        QuotaNotice.objects.filter(day__lt=now.date() - OTHERS_KEPT),
    ]
    for model in (Usage, RefusedUsage):
        stale += [model.objects.filter(unit=unit, start__lt=now - kept) for unit, kept in KEPT.items()]
    return max(_delete_some(rows) for rows in stale) == _PRUNED_AT_ONCE


def forget_usage(account_pk: int) -> None:
    """Delete the usage of a deleted account, some rows at a time."""
    for model in (Usage, RefusedUsage):
        while _delete_some(model.objects.filter(account_pk=account_pk)) == _PRUNED_AT_ONCE:
            pass


def _delete_some(rows: models.QuerySet[Any]) -> int:
    keys = list(rows.order_by().values_list("pk", flat=True)[:_PRUNED_AT_ONCE])
    if keys:
        rows.model._default_manager.filter(pk__in=keys).delete()
    return len(keys)
