"""How much an account uses, and which keys use it."""

import csv
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple
from urllib.parse import urlencode

from django.http import Http404, HttpRequest, HttpResponse
from django.utils.safestring import SafeString
from django.views.decorators.http import require_safe

from accounts.models import Account, ApiKey
from accounts.quotas import limit_of
from accounts.refusal_reasons import REASONS, name_of_reason
from accounts.usage_counts import Counts
from accounts.usage_reports import Span, by_key, over_time, total

from .access import AccountRequest, account_page
from .charts import Bar, Limit, bar_chart
from .frame import render_page
from .measures import DEFAULT_PERIOD, MEASURES, MESSAGES, PEAK, PERIODS, REFUSALS, Measure, Period, name_of, weeks
from .numbers import day, round_figure, share, whole

_FIRST_ROWS = 8
_MAX_KEYS = 500
CHART_HEIGHT, OVERVIEW_CHART_HEIGHT = 270, 210


class Choice(NamedTuple):
    """What the reader has chosen to see. Parameters that are not valid have their default."""

    period: Period
    measure: Measure
    key: ApiKey | None
    sort: str
    shows_all: bool

    @classmethod
    def of(cls, request: HttpRequest, account: Account) -> "Choice":
        """Read the parameters of a request.

        Raises:
            Http404: the account has no such key.
        """
        period, measure, sort = (request.GET.get(name, "") for name in ("period", "measure", "sort"))
        return cls(
            next((each for each in PERIODS if each.slug == period), DEFAULT_PERIOD),
            next((each for each in MEASURES if each.slug == measure), MESSAGES),
            _key(request.GET.get("key", ""), account),
            sort if sort.removeprefix("-") in ("start", *(each.slug for each in MEASURES)) else "-start",
            "all" in request.GET,
        )

    @property
    def key_pk(self) -> int | None:
        return self.key.pk if self.key else None

    def query(self, **changed: object) -> str:
        """Return the query of the URL that shows the same with some parameters changed."""
        values = {
            "period": self.period.slug,
            "key": self.key.pk if self.key else "",
            "measure": self.measure.slug,
            "sort": self.sort if self.sort != "-start" else "",
            "all": "1" if self.shows_all else "",
            **changed,
        }
        return "?" + urlencode({name: value for name, value in values.items() if value != ""})


def _key(pk: str, account: Account) -> ApiKey | None:
    if not pk:
        return None
    key = None
    if pk.isascii() and pk.isdigit() and len(pk) <= 18:
        key = ApiKey.objects.filter(pk=int(pk), cluster__account=account).select_related("cluster").first()
    if key is None:
        raise Http404
    return key


@require_safe
@account_page()
def usage(request: AccountRequest, account: Account) -> HttpResponse:
    """Show the usage of an account."""
    choice = Choice.of(request, account)
    return render_page(request, "console/usage.html", usage_context(account, choice), page="usage")


@require_safe
@account_page()
def usage_csv(request: AccountRequest, account: Account) -> HttpResponse:
    """Return the usage of an account as CSV, oldest first."""
    choice = Choice.of(request, account)
    found = over_time(account.pk, choice.period.span, choice.key_pk)
    name = f"usage-{account.pk}-{choice.period.slug}.csv"
    response = HttpResponse(
        content_type="text/csv; charset=utf-8", headers={"Content-Disposition": f'attachment; filename="{name}"'}
    )
    reasons = sorted({reason for counts in found.values() for reason in counts.refusals})
    columns = ["messages", "message_bytes", "deliveries", "delivered_bytes", "api_calls", "peak_connections"]
    known = [name for name in columns if choice.key is None or not name.startswith("deliver")]
    writer = csv.writer(response)
    writer.writerow([choice.period.unit, *columns, "refusals", *(f"refusals: {reason}" for reason in reasons)])
    for start, counts in found.items():
        numbers = [getattr(counts, column) if column in known else "" for column in columns]
        of_reasons = [counts.refusals[reason] for reason in reasons]
        writer.writerow([f"{start:%Y-%m-%dT%H:%M:%SZ}", *numbers, counts.refused, *of_reasons])
    return response


def usage_context(account: Account, choice: Choice) -> dict[str, Any]:
    """Return what the usage page shows, which is also a page of the admin."""
    span = choice.period.span
    found = over_time(account.pk, span, choice.key_pk)
    sum_ = total(found.values())
    names = _key_names(account)
    rows = _sorted(found, choice)
    return {
        "choice": choice,
        "periods": PERIODS,
        "keys": [(pk, f"{cluster}: {label}") for pk, (label, cluster, revoked) in names.items() if not revoked][
            :_MAX_KEYS
        ],
        "dates": _dates(span, choice.period),
        "tiles": [_tile(measure, sum_, choice) for measure in MEASURES],
        "chart": _chart(account, found, choice, CHART_HEIGHT),
        "has_usage": any(choice.measure.of(counts) for counts in found.values()),
        "columns": [_column("start", choice.period.unit.label, choice)]
        + [_column(measure.slug, measure.name, choice, measure) for measure in MEASURES],
        "rows": [
            _row(start, counts, choice, span) for start, counts in (rows if choice.shows_all else rows[:_FIRST_ROWS])
        ],
        "all_rows": len(rows),
        "all_url": choice.query(all="1") if len(rows) > _FIRST_ROWS and not choice.shows_all else "",
        "by_key": _by_key(account, choice, names),
        "by_reason": [
            {
                "name": name_of_reason(reason),
                "code": REASONS[reason].code if reason in REASONS else None,
                "number": number,
                "share": share(number, sum_.refused),
            }
            for reason, number in sum_.refusals.most_common()
        ],
        "csv_query": choice.query(sort="", all=""),
    }


def overview_chart(account: Account) -> dict[str, Any]:
    """Return what `console/overview_chart.html` shows: the messages of the last 30 days."""
    choice = Choice(DEFAULT_PERIOD, MESSAGES, None, "-start", shows_all=False)
    found = over_time(account.pk, choice.period.span)
    return {
        "chart": _chart(account, found, choice, OVERVIEW_CHART_HEIGHT),
        "has_usage": any(counts.messages for counts in found.values()),
    }


def _dates(span: Span, period: Period) -> str:
    first, final = span.starts[0], span.starts[-1]
    begin = f"{first.day} {first:%B}" if first.year == final.year else day(first)
    return f"{begin} to {day(final)}, by {period.unit}, in UTC"


def _known(measure: Measure, choice: Choice) -> bool:
    """Return whether a measure is counted for what the reader has chosen."""
    return choice.key is None or measure.is_per_key


def _tile(measure: Measure, sum_: Counts, choice: Choice) -> dict[str, Any]:
    number = measure.of(sum_)
    shown, exact = measure.write_short(number), whole(number)
    return {
        "name": measure.name,
        "url": choice.query(measure=measure.slug),
        "current": measure is choice.measure,
        "number": shown if _known(measure, choice) else "–",
        "title": exact if shown != exact and _known(measure, choice) else "",
    }


def _column(slug: str, name: str, choice: Choice, measure: Measure | None = None) -> dict[str, Any]:
    """Return the heading of a column, which sorts by it: first downward, then upward."""
    is_sorted = choice.sort.removeprefix("-") == slug
    descending = choice.sort.startswith("-")
    return {
        "name": name,
        "url": choice.query(sort=slug if is_sorted and descending else f"-{slug}"),
        "sort": ("descending" if descending else "ascending") if is_sorted else "",
        "right": measure is not None,
        "wide": measure is not None and measure is not choice.measure,
    }


def _sorted(found: Mapping[datetime, Counts], choice: Choice) -> list[tuple[datetime, Counts]]:
    slug, descending = choice.sort.removeprefix("-"), choice.sort.startswith("-")
    newest_first = sorted(found.items(), reverse=slug != "start" or descending)
    measure = next((each for each in MEASURES if each.slug == slug), None)
    if measure is None:
        return newest_first
    return sorted(newest_first, key=lambda row: measure.of(row[1]), reverse=descending)


def _row(start: datetime, counts: Counts, choice: Choice, span: Span) -> dict[str, Any]:
    by_hour = choice.period.bars == "hour"
    return {
        "name": f"{start:%a} {name_of(start, choice.period.bars if by_hour else 'day')}",
        "start": f"{start:%Y-%m-%dT%H:%M:%SZ}",
        "is_current": start == span.starts[-1],
        "cells": [
            {
                "name": measure.name,
                "number": measure.write(measure.of(counts)) if _known(measure, choice) else "–",
                "wide": measure is not choice.measure,
            }
            for measure in MEASURES
        ],
    }


def _key_names(account: Account) -> dict[int, tuple[str, str, bool]]:
    """Return the label and the cluster of each key, and whether it is revoked, by primary key."""
    keys = ApiKey.objects.filter(cluster__account=account).order_by("cluster__cluster_id", "label", "pk")
    return {
        pk: (label, cluster, revoked_at is not None)
        for pk, label, cluster, revoked_at in keys.values_list("pk", "label", "cluster__cluster_id", "revoked_at")
    }


def _by_key(account: Account, choice: Choice, names: Mapping[int, tuple[str, str, bool]]) -> list[dict[str, Any]]:
    """Return how much of the chosen measure each key has used, the most first. Keys that were deleted share a row."""
    measure = choice.measure
    if not measure.is_per_key:
        return []
    used = {pk: measure.of(counts) for pk, counts in by_key(account.pk, choice.period.span).items()}
    if measure.is_peak:
        used.pop(0, None)  # the peak of the whole account
    known = [(pk, names[pk], number) for pk, number in used.items() if pk in names and number]
    other = sum(number for pk, number in used.items() if pk not in names)
    whole_sum = sum(used.values())
    rows = [
        {
            "pk": pk,
            "name": label,
            "sub": f"{cluster}, revoked" if revoked else cluster,
            "number": measure.write(number),
            "share": share(number, whole_sum),
        }
        for pk, (label, cluster, revoked), number in sorted(known, key=lambda row: -row[2])
    ]
    if other and not measure.is_peak:
        name = "Without a valid key" if measure is REFUSALS else "Deleted keys"
        rows.append({"name": name, "number": measure.write(other), "share": share(other, whole_sum)})
    return rows


def _chart(account: Account, found: dict[datetime, Counts], choice: Choice, height: int) -> SafeString:
    measure, bars_of = choice.measure, choice.period.bars
    by_bar = weeks(found) if bars_of == "week" else found
    values = [(start, measure.of(counts)) for start, counts in by_bar.items()]
    last_start = values[-1][0]
    bars = [
        Bar(name_of(start, bars_of), value, start == last_start, _tick(number, start, len(values), bars_of))
        for number, (start, value) in enumerate(values)
    ]
    first, final = values[0][0], list(found)[-1]
    subject = f"{measure.name} of {choice.key.label}" if choice.key else measure.name
    begin = f"{first.day} {first:%B}" if first.year == final.year else day(first)
    return bar_chart(
        "usage",
        bars,
        title=f"{subject} per {bars_of}, {begin} to {day(final)}",
        description=_description(values, measure, bars_of),
        height=height,
        write=measure.write,
        write_tick=lambda value: round_figure(measure.write_short(value)),
        limit=_limit(account, choice),
    )


def _limit(account: Account, choice: Choice) -> Limit | None:
    if choice.key is None and choice.measure is MESSAGES and choice.period.bars == "day":
        quota = limit_of(account, "max_messages_per_day")
        return Limit(quota, f"Quota: {whole(quota)} a day")
    if choice.key is None and choice.measure is PEAK:
        quota = limit_of(account, "max_connections")
        return Limit(quota, f"Quota: {whole(quota)}")
    return None


def _tick(number: int, start: datetime, bars: int, bars_of: str) -> str:
    """Return the label below a bar: for days one each week, for hours one each day, for weeks one each month."""
    if number == bars - 1:
        return "Today" if bars_of == "day" else "Now"
    if bars_of == "hour":
        return f"{start.day} {start:%b}" if start.hour == 0 else ""
    if bars_of == "day":
        return f"{start.day} {start:%b}" if (bars - 1 - number) % 7 == 0 else ""
    return f"{start:%b}" if start.day <= 7 and start.month % 2 == 1 else ""


def _description(values: Sequence[tuple[datetime, int]], measure: Measure, bars_of: str) -> str:
    """Describe a chart in words: the range, the peak, and the part of today."""
    *whole_bars, (_, current) = values
    if not any(number for _, number in values):
        return f"No {measure.noun or 'data'} in this period."
    current_name = {"hour": "This hour", "day": "Today", "week": "This week"}[bars_of]
    write = measure.write
    numbers = [number for _, number in whole_bars]
    busiest, highest = max(whole_bars, key=lambda row: row[1])
    noun = f" {measure.noun}" if measure.noun else ""
    when = {
        "hour": f"The busiest hour began on {busiest.day} {busiest:%B} at {busiest:%H}:00 UTC.",
        "day": f"The busiest day was {busiest.day} {busiest:%B}.",
        "week": f"The busiest week began on {busiest.day} {busiest:%B}.",
    }[bars_of]
    period = "" if measure.is_peak else f" {'an' if bars_of == 'hour' else 'a'} {bars_of}"
    span = f"Between {write(min(numbers))} and {write(highest)}{noun}{period}. {when} " if highest else ""
    return f"{span}{current_name} so far: {write(current)}."
