"""Filters with which the console writes numbers and times, the same everywhere."""

from datetime import UTC, datetime

from django import template
from django.utils import timezone
from django.utils.html import format_html

from accounts.console import numbers

register = template.Library()

UNKNOWN = "–"


@register.filter
def number(value: int | None) -> str:
    """Write a number with all its digits, such as "182,402"; a dash for None."""
    return UNKNOWN if value is None else numbers.whole(value)


@register.filter
def short_number(value: int | None) -> str:
    """Write a number for a tile, such as "5.42 M", with all its digits as the title."""
    return UNKNOWN if value is None else _titled(numbers.short(value), numbers.whole(value))


@register.filter
def size(value: int | None) -> str:
    """Write a number of bytes, such as "18.4 GB", with all its digits as the title; a dash for None."""
    return UNKNOWN if value is None else _titled(numbers.size(value), f"{numbers.whole(value)} bytes")


@register.filter
def ago(value: datetime | None, never: str = UNKNOWN) -> str:
    """Write how long ago something was, such as "3 minutes ago"; another text for None."""
    return never if value is None else _time(value, numbers.since(value.astimezone(UTC), timezone.now()))


@register.filter
def moment(value: datetime | None) -> str:
    """Write a point in time, such as "20 November 2026, 14:32:08 UTC"; a dash for None."""
    return UNKNOWN if value is None else _time(value, numbers.moment(value.astimezone(UTC)))


@register.filter
def hour(value: datetime | None) -> str:
    """Write a point in time near now, such as "14:18 UTC" or "yesterday, 14:18 UTC"; a dash for None."""
    return UNKNOWN if value is None else _time(value, numbers.hour(value, timezone.now()))


@register.filter
def log_time(value: datetime | None) -> str:
    """Write the time of an entry of a log, such as "14:32:08", or "20 Nov, 14:32:08" if it is not from today."""
    if value is None:
        return UNKNOWN
    utc = value.astimezone(UTC)
    is_today = utc.date() == timezone.now().astimezone(UTC).date()
    return _time(value, f"{utc:%H:%M:%S}" if is_today else f"{numbers.short_day(utc)}, {utc:%H:%M:%S}")


@register.filter
def day(value: datetime | None) -> str:
    """Write the day of a point in time, such as "20 November 2026"; a dash for None."""
    return UNKNOWN if value is None else _time(value, numbers.day(value.astimezone(UTC)))


@register.filter
def utc_date(value: datetime) -> str:
    """Write a point in time with its weekday, such as "Thursday, 26 November 2026, 14:32 UTC"."""
    utc = value.astimezone(UTC)
    return f"{utc:%A}, {numbers.day(utc)}, {utc:%H:%M} UTC"


def _titled(shown: str, whole: str) -> str:
    return whole if shown == whole else format_html('<span title="{}">{}</span>', whole, shown)


def _time(value: datetime, shown: str) -> str:
    utc = value.astimezone(UTC)
    return format_html(
        '<time datetime="{}" title="{}">{}</time>', f"{utc:%Y-%m-%dT%H:%M:%SZ}", numbers.moment(utc), shown
    )
