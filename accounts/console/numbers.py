"""How the console writes numbers, sizes and times. All times are in UTC."""

import re
from datetime import UTC, date, datetime

_ZEROS = re.compile(r"\.0+(?= )")
_UNITS = ((10**12, "T"), (10**9, "G"), (10**6, "M"))
_SIZES = ((10**12, "TB"), (10**9, "GB"), (10**6, "MB"), (10**3, "kB"))


def whole(number: int) -> str:
    """Return a number with all its digits, such as "182,402"."""
    return f"{number:,}"


def short(number: int) -> str:
    """Return a number in three digits from a million on, such as "5.42 M", and below with all its digits."""
    return _in_units(number, _UNITS) or whole(number)


def round_figure(text: str) -> str:
    """Return a number of `short` or `size` without decimals that are all zero, such as "5 M" for "5.00 M"."""
    return _ZEROS.sub("", text)


def size(number: int) -> str:
    """Return a number of bytes in powers of 1,000, such as "18.4 GB" or "96 bytes"."""
    return _in_units(number, _SIZES) or ("1 byte" if number == 1 else f"{number} bytes")


def share(part: int, total: int) -> str:
    """Return how much a part is of the total, such as "78 %"."""
    percent = 100 * part / total if total else 0
    return "under 1 %" if 0 < percent < 1 else f"{percent:.0f} %"


def day(value: date) -> str:
    """Return a day such as "20 November 2026"."""
    return f"{value.day} {value:%B %Y}"


def short_day(value: date) -> str:
    """Return a day such as "20 Nov"."""
    return f"{value.day} {value:%b}"


def moment(value: datetime) -> str:
    """Return a point in time such as "20 November 2026, 14:32:08 UTC"."""
    return f"{day(value)}, {value:%H:%M:%S} UTC"


def since(value: datetime, now: datetime) -> str:
    """Return how long ago something was, such as "3 minutes ago"; from a day on, its day."""
    seconds = max((now - value).total_seconds(), 0)
    if seconds < 60:
        return "just now"
    if seconds < 3600:
        return _ago(int(seconds // 60), "minute")
    if seconds < 86400:
        return _ago(int(seconds // 3600), "hour")
    return f"{value.day} {value:%B}" if value.year == now.year else day(value)


def hour(value: datetime, now: datetime) -> str:
    """Return a point in time near now, such as "14:18 UTC", "tomorrow, 14:18 UTC" or "20 November, 14:18 UTC"."""
    utc = value.astimezone(UTC)
    days = (utc.date() - now.astimezone(UTC).date()).days
    names = {-1: "yesterday, ", 0: "", 1: "tomorrow, "}
    return f"{names.get(days, f'{utc.day} {utc:%B}, ')}{utc:%H:%M} UTC"


def _ago(number: int, unit: str) -> str:
    return f"{number} {unit}{'' if number == 1 else 's'} ago"


def _in_units(number: int, units: tuple[tuple[int, str], ...]) -> str:
    """Return a number with three digits in the largest of some units that it reaches; empty if it reaches none."""
    for factor, unit in units:
        value = number / factor
        if value >= 0.9995 and number >= 1000:  # or the next smaller unit would be rounded to 1,000
            digits = 2 if value < 9.995 else 1 if value < 99.95 else 0
            return f"{value:.{digits}f} {unit}"
    return ""
