"""System checks of the settings of realtime. Each reports a wrong value and how to fix it."""

import re
from collections.abc import Sequence
from dataclasses import fields
from ipaddress import ip_network
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.core.checks import CheckMessage, Error, register
from redis import asyncio as redis_asyncio

from realtime.cluster.redis_client import client_options
from realtime.conf import Conf

_LABEL = r"(?!-)[a-z0-9-]{1,63}(?<!-)"
# The last label of a domain is not a number, which would make it an IP address.
_DOMAIN = re.compile(rf"(?!.{{254}})(?:{_LABEL}\.)*(?![0-9]+\Z){_LABEL}")


@register
def check_numbers(app_configs: Sequence[Any] | None, **kwargs: Any) -> list[CheckMessage]:
    """Check that REALTIME has no unknown settings, and that no number in it is too small."""
    given = getattr(settings, "REALTIME", {})
    known = {field.name.upper() for field in fields(Conf)}
    errors: list[CheckMessage] = [
        Error(
            f"REALTIME has an unknown setting {name}.",
            hint=f"Known settings: {', '.join(sorted(known))}.",
            id="realtime.E001",
        )
        for name in sorted(set(given) - known)
    ]
    minimums = {
        "MAX_MESSAGE_BYTES": 1,
        "MAX_BACKLOG_BYTES": 1,
        "MAX_TOTAL_BACKLOG_BYTES": 1,
        "MAX_CONNECTIONS": 0,
        "MAX_CONNECTIONS_PER_ADDRESS": 1,
        "MAX_CHANNELS_PER_CONNECTION": 1,
        "CLIENT_EVENTS_PER_SECOND": 1,
        "CONNECTS_PER_MINUTE_PER_ADDRESS": 1,
        "REQUESTS_PER_MINUTE_PER_ADDRESS": 1,
        "MAX_HTTP_PER_ADDRESS": 1,
        "MAX_REQUESTS_AT_ONCE": 1,
        "REQUEST_HEAD_SECONDS": 1,
        "REQUEST_SECONDS": 1,
        "DRAIN_SECONDS": 0,
        "KEY_CACHE_SECONDS": 0,
        "USAGE_SECONDS": 0.1,
    }
    for name, minimum in minimums.items():
        value = given.get(name)
        if value is not None and value < minimum:
            errors.append(
                Error(
                    f"{name} is {value}; it must be at least {minimum}.",
                    hint="Leave the environment variable out to use the default.",
                    id="realtime.E002",
                )
            )
    return errors


@register
def check_metrics_allowed(app_configs: Sequence[Any] | None, **kwargs: Any) -> list[CheckMessage]:
    """Check that every entry of METRICS_ALLOWED is an IP address or a network."""
    errors: list[CheckMessage] = []
    for network in getattr(settings, "REALTIME", {}).get("METRICS_ALLOWED") or ():
        try:
            ip_network(network, strict=False)
        except ValueError:
            errors.append(
                Error(
                    f"{network!r} in METRICS_ALLOWED is neither an IP address nor a network.",
                    hint="Write, for example, `10.0.0.5` or `10.0.0.0/8`.",
                    id="realtime.E004",
                )
            )
    return errors


@register
def check_cluster_domains(app_configs: Sequence[Any] | None, **kwargs: Any) -> list[CheckMessage]:
    """Check that CLUSTER_DOMAINS are domains, without scheme, port or wildcard, and that none is below another."""
    domains: list[str] = settings.CLUSTER_DOMAINS
    if not domains:
        hint = "Write, for example, `ws.example.com`, or remove the variable to use the default."
        return [Error("CLUSTER_DOMAINS is empty.", hint=hint, id="realtime.E003")]
    overlapping: list[CheckMessage] = [
        Error(
            f"{below!r} in CLUSTER_DOMAINS is already a host name of {domain!r}.",
            hint="List only domains of which none is listed twice or is below another.",
            id="realtime.E005",
        )
        for first, domain in enumerate(domains)
        for second, below in enumerate(domains)
        if below.endswith(f".{domain}") or (below == domain and first < second)
    ]
    return overlapping + [
        Error(
            f"{domain!r} in CLUSTER_DOMAINS is not a valid domain.",
            hint="Write, for example, `example.com`: in lower case, without scheme, port, path or wildcard.",
            id="realtime.E003",
        )
        for domain in domains
        if not _DOMAIN.fullmatch(domain)
    ]


@register
def check_redis_urls(app_configs: Sequence[Any] | None, **kwargs: Any) -> list[CheckMessage]:
    """Check that every URL of a Redis can be used. The messages do not contain the URLs, which may have passwords."""
    return [
        Error(
            f"URL {number} of REDIS_URL is not valid: {problem}",
            hint="Write, for example, `redis://127.0.0.1:6379/0`, `rediss://HOST:6379/0` or `unix://PATH`.",
            id="realtime.E006",
        )
        for number, url in enumerate(settings.REDIS_URLS, 1)
        if (problem := _problem_of_redis(url))
    ]


def _problem_of_redis(url: str) -> str | None:
    """Return a sentence about what is wrong with the URL of a Redis, or None if nothing is."""
    parts = urlsplit(url)
    if parts.scheme not in ("redis", "rediss", "unix") or "://" not in url:
        return "it does not begin with redis://, rediss:// or unix://."
    try:
        parts.port  # noqa: B018  (raises ValueError)
    except ValueError:
        return "the port is not a number from 0 to 65535. Special characters of a password are percent-encoded."
    if parts.scheme == "unix":
        return None if parts.path else "it has no path."
    if not re.fullmatch("/?[0-9]*", parts.path):
        return "what follows the port is not the number of a database."
    try:
        redis_asyncio.from_url(url, **client_options(url)).connection_pool.make_connection()  # type: ignore[no-untyped-call]
    except (TypeError, ValueError):
        return "one of its options, which follow the question mark, does not exist or has a wrong value."
    return None
