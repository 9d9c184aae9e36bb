"""What the console shows about usage: the measures with their names, units and formats, and the periods."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.utils import timezone

from accounts.models import UsageUnit
from accounts.usage_counts import Counts
from accounts.usage_reports import Span, last

from .numbers import short, short_day, size, whole


@dataclass(frozen=True)
class Measure:
    """Something that usage counts."""

    slug: str
    name: str
    noun: str
    """What a number of it is followed by."""
    of: Callable[[Counts], int]
    write: Callable[[int], str] = whole
    write_short: Callable[[int], str] = short
    is_peak: bool = False
    """Whether the largest number stands for a period, and not the sum."""
    is_per_key: bool = True
    """Whether it is known which key has used it."""


MESSAGES = Measure("messages", "Messages in", "messages", lambda counts: counts.messages)
PEAK = Measure("connections", "Peak connections", "connections", lambda counts: counts.peak_connections, is_peak=True)
REFUSALS = Measure("refusals", "Refusals", "refusals", lambda counts: counts.refused)
MEASURES = (
    MESSAGES,
    Measure("deliveries", "Deliveries", "deliveries", lambda counts: counts.deliveries, is_per_key=False),
    Measure("data", "Data out", "", lambda counts: counts.delivered_bytes, size, size, is_per_key=False),
    Measure("api-calls", "API calls", "API calls", lambda counts: counts.api_calls),
    PEAK,
    REFUSALS,
)


@dataclass(frozen=True)
class Period:
    """A time that people can choose. It ends now."""

    slug: str
    name: str
    unit: UsageUnit
    number: int
    """Of hours or days."""
    bars: str
    """What a bar of the chart stands for: "hour", "day" or "week"."""

    @property
    def span(self) -> Span:
        return last(self.unit, self.number)


DEFAULT_PERIOD = Period("30-days", "Last 30 days, by day", UsageUnit.DAY, 30, "day")
PERIODS = (
    Period("7-days", "Last 7 days, by hour", UsageUnit.HOUR, 7 * 24, "hour"),
    DEFAULT_PERIOD,
    Period("13-months", "Last 13 months, by day", UsageUnit.DAY, 396, "week"),
)


def name_of(start: datetime, bars: str) -> str:
    """Return the name of an hour, a day or a week, such as "26 Nov"."""
    day = short_day(start) if start.year == timezone.now().year else f"{short_day(start)} {start.year}"
    return f"{day}, {start:%H}:00" if bars == "hour" else f"Week of {day}" if bars == "week" else day


def weeks(found: dict[datetime, Counts]) -> dict[datetime, Counts]:
    """Return the usage of days as that of weeks, which begin on Monday."""
    summed: dict[datetime, Counts] = {}
    for day, counts in found.items():
        summed.setdefault(day - timedelta(days=day.weekday()), Counts()).add(counts)
    return summed
