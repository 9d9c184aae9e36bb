"""System checks of the settings that concern the whole service. Each reports a wrong value and how to fix it."""

import re
from collections.abc import Sequence
from ipaddress import ip_address
from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, register

_LABEL = r"(?!-)[a-z0-9_-]{1,63}(?<!-)"
_HOST = re.compile(rf"\*|\.?{_LABEL}(?:\.{_LABEL})*")
_ORIGIN = re.compile(rf"https?://(?:(?:\*\.)?{_LABEL}(?:\.{_LABEL})*|\[[0-9a-f:.]+\])(?::[0-9]+)?")


@register
def check_secret_key(app_configs: Sequence[Any] | None, **kwargs: Any) -> list[CheckMessage]:
    """Check that nodes of one service cannot each have a secret key of their own."""
    with_postgres = settings.DATABASES["default"]["ENGINE"] == "django.db.backends.postgresql"
    if not settings.SECRET_KEY_IS_GENERATED or not (with_postgres or settings.REDIS_URLS):
        return []
    return [
        Error(
            f"SECRET_KEY is not set, but {'DATABASE_URL' if with_postgres else 'REDIS_URL'} is. "
            "Each machine would generate a different secret key.",
            hint="Set SECRET_KEY to the same value on all machines. Generate one with: openssl rand -hex 32",
            id="piesite.E001",
        )
    ]


@register
def check_allowed_hosts(app_configs: Sequence[Any] | None, **kwargs: Any) -> list[CheckMessage]:
    """Check that every entry of ALLOWED_HOSTS can match a host name."""
    return [
        Error(
            f"{host!r} in ALLOWED_HOSTS is not a host name.",
            hint="Write, for example, `ws.example.com`, `.example.com`, `10.0.0.1` or `[2001:db8::1]`: without scheme, "
            "port and path.",
            id="piesite.E002",
        )
        for host in settings.ALLOWED_HOSTS
        if not (_HOST.fullmatch(host) or _is_bracketed_ipv6(host))
    ]


@register
def check_trusted_origins(app_configs: Sequence[Any] | None, **kwargs: Any) -> list[CheckMessage]:
    """Check that every entry of CSRF_TRUSTED_ORIGINS can match an origin."""
    return [
        Error(
            f"{origin!r} in CSRF_TRUSTED_ORIGINS is not an origin.",
            hint="Write, for example, `https://ws.example.com` or `https://*.example.com`: with the scheme, without a "
            "path.",
            id="piesite.E003",
        )
        for origin in settings.CSRF_TRUSTED_ORIGINS
        if not _ORIGIN.fullmatch(origin)
    ]


@register
def check_database(app_configs: Sequence[Any] | None, **kwargs: Any) -> list[CheckMessage]:
    """Check that all threads and commands use the same database."""
    if settings.DATABASES["default"]["NAME"] != ":memory:":
        return []
    return [
        Error(
            "DATABASE_URL names an SQLite database in memory, of which every thread and command would have its own.",
            hint="Write, for example, `sqlite:////var/lib/ws/db.sqlite3`.",
            id="piesite.E004",
        )
    ]


def _is_bracketed_ipv6(host: str) -> bool:
    if not (host.startswith("[") and host.endswith("]")):
        return False
    try:
        return ip_address(host[1:-1]).version == 6
    except ValueError:
        return False
