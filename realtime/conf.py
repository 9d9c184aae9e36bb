"""The settings of realtime: `REALTIME` in the Django settings, with the default and the unit beside each name."""

import resource
from dataclasses import dataclass, field, fields
from functools import cache
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Any

from django.conf import settings
from django.core.signals import setting_changed


def _connections_that_fit() -> int:
    """As many connections as this process may have open files, less some for databases, logs and listeners."""
    soft_limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 1_000_000 if soft_limit == resource.RLIM_INFINITY else max(soft_limit - 64, 1)


@dataclass(frozen=True, slots=True)
class Conf:
    """Typed settings. Names that `settings.REALTIME` leaves out, or gives as None, have their default."""

    max_message_bytes: int = 1024 * 1024
    """The largest message a client may send, in bytes; larger ones end the connection with 1009."""
    max_backlog_bytes: int = 1024 * 1024
    """How much may wait for a client that reads slowly, in bytes; one for which more waits is closed with 4100."""
    max_connections: int = 0
    """How many connections this node holds; further ones are told to come back later (1013). 0: as many as files."""
    drain_seconds: float = 10.0
    """Over how long a node that is told to stop spreads the closing of its connections, in seconds."""
    key_cache_seconds: float = 30.0
    """How long an API key is admitted by without asking the database, when nobody tells of a change, in seconds."""
    metrics_allowed: tuple[IPv4Network | IPv6Network, ...] = (ip_network("127.0.0.0/8"), ip_network("::1"))
    """The networks that may read the metrics."""
    metrics_token: str = field(default="", repr=False)
    """Who sends it may read them too, from everywhere; empty: nobody."""
    num_proxies: int = 0
    """How many proxies of ours a client's address comes through, as the management API counts them."""
    cluster_domains: tuple[str, ...] = ("localhost",)
    """The domains under which clusters live, lower case."""


@cache
def conf() -> Conf:
    """The settings in force, read once."""
    given: dict[str, Any] = {
        one.name: value
        for one in fields(Conf)
        if (value := getattr(settings, "REALTIME", {}).get(one.name.upper())) is not None
    }
    if "metrics_allowed" in given:
        given["metrics_allowed"] = tuple(ip_network(network, strict=False) for network in given["metrics_allowed"])
    given["cluster_domains"] = tuple(settings.CLUSTER_DOMAINS)
    given["num_proxies"] = settings.REST_FRAMEWORK["NUM_PROXIES"]
    given["max_connections"] = given.get("max_connections") or _connections_that_fit()
    return Conf(**given)


def _reset(*, setting: str, **_: Any) -> None:
    if setting in ("REALTIME", "CLUSTER_DOMAINS", "REST_FRAMEWORK"):
        conf.cache_clear()


setting_changed.connect(_reset)
