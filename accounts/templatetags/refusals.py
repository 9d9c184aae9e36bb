"""Filters with which the console writes refusals."""

import re
from datetime import UTC, datetime

from django import template
from django.utils.html import format_html

from accounts.refusal_reasons import name_of_reason

register = template.Library()

# The first that a `User-Agent` contains is what it names: most browsers name others too.
_BROWSERS = (("Edg", "Edge"), ("OPR", "Opera"), ("Firefox", "Firefox"), ("Chrome", "Chrome"), ("Safari", "Safari"))
_SYSTEMS = (
    ("Android", "Android"),
    ("iPhone", "iPhone"),
    ("iPad", "iPad"),
    ("Windows", "Windows"),
    ("Mac OS", "macOS"),
    ("Linux", "Linux"),
)
_MAX_LENGTH = 60


@register.filter
def reason(label: str) -> str:
    """Write the reason of rejected connections, such as "Origin not allowed"."""
    return name_of_reason(label)


@register.filter
def close_code(code: int) -> str:
    """Write the code of a refusal: a close code, or an HTTP status."""
    return f"close code {code}" if code >= 1000 else f"HTTP status {code}"


@register.filter
def clock(at: datetime) -> str:
    """Write the time of day, such as "14:32:08"."""
    utc = at.astimezone(UTC)
    return format_html('<time datetime="{}">{}</time>', f"{utc:%Y-%m-%dT%H:%M:%SZ}", f"{utc:%H:%M:%S}")


@register.filter
def browser(client: str) -> str:
    """Write a `User-Agent` in a few words, such as "Chrome, Android"; libraries as they name themselves."""
    if not client.startswith("Mozilla/"):
        return re.sub(r"/\S*", "", client)[:_MAX_LENGTH]
    names = [next((name for part, name in names if part in client), "") for names in (_BROWSERS, _SYSTEMS)]
    return ", ".join(filter(None, names)) or client[:_MAX_LENGTH]
