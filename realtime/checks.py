"""System checks of the settings of realtime. Each reports a wrong value and how to fix it."""

import re
from collections.abc import Sequence
from dataclasses import fields
from ipaddress import ip_network
from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, register

from realtime.conf import Conf

_DOMAIN = re.compile(r"(?!-)[a-z0-9-]{1,63}(?:\.(?!-)[a-z0-9-]{1,63})*")


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
        "CONNECTS_PER_MINUTE_PER_ADDRESS": 1,
        "REQUESTS_PER_MINUTE_PER_ADDRESS": 1,
        "MAX_HTTP_PER_ADDRESS": 1,
        "MAX_REQUESTS_AT_ONCE": 1,
        "REQUEST_HEAD_SECONDS": 1,
        "REQUEST_SECONDS": 1,
        "DRAIN_SECONDS": 0,
        "KEY_CACHE_SECONDS": 0,
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
    """Check that every entry of CLUSTER_DOMAINS is a domain, without scheme, port or wildcard."""
    return [
        Error(
            f"{domain!r} in CLUSTER_DOMAINS is not a valid domain.",
            hint="Write, for example, `example.com`: in lower case, without scheme, port, path or wildcard.",
            id="realtime.E003",
        )
        for domain in settings.CLUSTER_DOMAINS
        if not _DOMAIN.fullmatch(domain)
    ]
