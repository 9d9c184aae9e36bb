"""What an account has used: by hour or day, by key, and by reason of refusal."""

from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from django.db.models import Max, Q, QuerySet, Sum
from django.utils import timezone

from .models import RefusedUsage, Usage, UsageUnit
from .usage_counts import Counts
from .usage_history import SUMS

LENGTHS = {UsageUnit.HOUR: timedelta(hours=1), UsageUnit.DAY: timedelta(days=1)}


class Span(NamedTuple):
    """A time in UTC, in whole hours or days."""

    unit: UsageUnit
    start: datetime
    end: datetime
    """The time before which the last hour or day ends."""

    @property
    def starts(self) -> list[datetime]:
        """When each of its hours or days begins."""
        length = LENGTHS[self.unit]
        return [self.start + number * length for number in range((self.end - self.start) // length)]


def span(unit: UsageUnit, start: datetime, end: datetime) -> Span:
    """Return the span of all hours or days that have a part between two times."""
    last = floor(unit, end)
    return Span(unit, floor(unit, start), last if last == end else last + LENGTHS[unit])


def last(unit: UsageUnit, number: int) -> Span:
    """Return a number of hours or days, of which the last is the current one."""
    current = floor(unit, timezone.now())
    return Span(unit, current - (number - 1) * LENGTHS[unit], current + LENGTHS[unit])


def floor(unit: UsageUnit, moment: datetime) -> datetime:
    """Return when the hour or the day of a moment begins, in UTC."""
    hour = moment.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
    return hour if unit == UsageUnit.HOUR else hour.replace(hour=0)


def over_time(account_pk: int, span: Span, key_pk: int | None = None) -> dict[datetime, Counts]:
    """Return what an account has used in each hour or on each day, oldest first.

    Args:
        account_pk: the primary key of the account.
        span: the time.
        key_pk: the primary key of an API key, to count only what it has used.
    """
    found = {start: Counts() for start in span.starts}
    for row in _summed(_rows(Usage, account_pk, span, key_pk), "start", of_account=key_pk is None):
        found[row["start"]].add(_counts(row))
    refused = _rows(RefusedUsage, account_pk, span, key_pk)
    for start, reason, refusals in _refusals(refused, "start"):
        found[start].refusals[reason] += refusals
    return found


def by_key(account_pk: int, span: Span) -> dict[int, Counts]:
    """Return what each API key of an account has used, by primary key; under 0, what belongs to no key."""
    found: dict[int, Counts] = {}
    for row in _summed(_rows(Usage, account_pk, span), "key_pk", of_account=False):
        found.setdefault(row["key_pk"], Counts()).add(_counts(row))
    for key_pk, reason, refusals in _refusals(_rows(RefusedUsage, account_pk, span), "key_pk"):
        found.setdefault(key_pk, Counts()).refusals[reason] += refusals
    return found


def busiest(span: Span, measure: Callable[[Counts], int], number: int) -> dict[int, Counts]:
    """Return what the accounts that have used most of something have used, the busiest first.

    Args:
        span: the time.
        measure: returns what counts.
        number: of accounts.
    """
    found: dict[int, Counts] = {}
    within = {"unit": span.unit, "start__gte": span.start, "start__lt": span.end}
    for row in _summed(Usage.objects.filter(**within), "account_pk", of_account=True):
        found.setdefault(row["account_pk"], Counts()).add(_counts(row))
    for account_pk, reason, refusals in _refusals(RefusedUsage.objects.filter(**within), "account_pk"):
        found.setdefault(account_pk, Counts()).refusals[reason] += refusals
    ordered = sorted(found.items(), key=lambda row: (-measure(row[1]), row[0]))
    return dict(ordered[:number])


def total(counts: Iterable[Counts]) -> Counts:
    """Return the sum of usage; its peak is the highest."""
    found = Counts()
    for part in counts:
        found.add(part)
    return found


def _rows(model: Any, account_pk: int, span: Span, key_pk: int | None = None) -> QuerySet[Any]:
    rows: QuerySet[Any] = model.objects.filter(
        account_pk=account_pk, unit=span.unit, start__gte=span.start, start__lt=span.end
    )
    return rows if key_pk is None else rows.filter(key_pk=key_pk)


def _summed(rows: QuerySet[Any], group: str, *, of_account: bool) -> Iterable[dict[str, Any]]:
    """Sum rows up. The peak of an account is not that of a key, so it is in rows of its own."""
    sums = {name: Sum(name) for name in SUMS}
    peaks = Max("peak_connections", filter=Q(key_pk=0), default=0) if of_account else Max("peak_connections")
    found: Iterable[dict[str, Any]] = rows.order_by().values(group).annotate(**sums, peak_connections=peaks)
    return found


def _counts(row: dict[str, Any]) -> Counts:
    return Counts(**{name: row[name] for name in (*SUMS, "peak_connections")})


def _refusals(rows: QuerySet[Any], group: str) -> Iterable[tuple[Any, str, int]]:
    summed = rows.order_by().values(group, "reason").annotate(total=Sum("refusals"))
    found: Iterable[tuple[Any, str, int]] = summed.values_list(group, "reason", "total")
    return found
