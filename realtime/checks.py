"""System checks of the settings of realtime: each wrong value is told with what to do about it."""

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
    """Every number of REALTIME is one that makes sense."""
    given = getattr(settings, "REALTIME", {})
    known = {field.name.upper() for field in fields(Conf)}
    errors: list[CheckMessage] = [
        Error(f"REALTIME has no setting {name}.", hint=f"It has {', '.join(sorted(known))}.", id="realtime.E001")
        for name in sorted(set(given) - known)
    ]
    lowest = {
        "MAX_MESSAGE_BYTES": 1,
        "MAX_BACKLOG_BYTES": 1,
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
    for name, least in lowest.items():
        value = given.get(name)
        if value is not None and value < least:
            errors.append(
                Error(
                    f"{name} is {value}, less than {least}.",
                    hint="Leave the environment variable out to have the default.",
                    id="realtime.E002",
                )
            )
    return errors


@register
def check_metrics_allowed(app_configs: Sequence[Any] | None, **kwargs: Any) -> list[CheckMessage]:
    """Every network that may read the metrics is one."""
    errors: list[CheckMessage] = []
    for network in getattr(settings, "REALTIME", {}).get("METRICS_ALLOWED") or ():
        try:
            ip_network(network, strict=False)
        except ValueError:
            errors.append(
                Error(
                    f"{network!r} in METRICS_ALLOWED is no address and no network.",
                    hint="Write it as in `10.0.0.5` or `10.0.0.0/8`.",
                    id="realtime.E004",
                )
            )
    return errors


@register
def check_cluster_domains(app_configs: Sequence[Any] | None, **kwargs: Any) -> list[CheckMessage]:
    """Every cluster domain is a domain, without scheme, port or wildcard."""
    return [
        Error(
            f"{domain!r} in CLUSTER_DOMAINS is no domain.",
            hint="Write it as in `example.com`: no scheme, port, path or wildcard.",
            id="realtime.E003",
        )
        for domain in settings.CLUSTER_DOMAINS
        if not _DOMAIN.fullmatch(domain)
    ]
