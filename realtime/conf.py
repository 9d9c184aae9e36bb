"""The settings of realtime: `REALTIME` in the Django settings, with the default and the unit beside each name."""

import resource
from dataclasses import dataclass, field, fields
from functools import cache
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Any

from django.conf import settings
from django.core.signals import setting_changed

MAX_BATCH_BYTES = 16 * 1024 * 1024
# JSON may write a byte of a message as six (`\u0000`); beside the message there is little.
JSON_BYTES_A_BYTE = 6
MAX_OTHER_BYTES = 64 * 1024


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
    max_connections_per_address: int = 10_000
    """How many of them one address has; further ones are told to come back later (1013)."""
    connects_per_minute_per_address: int = 6_000
    """How often one address may try to connect; more often it is told to come back later (1013)."""
    requests_per_minute_per_address: int = 1_200
    """How many requests one address may send for pages, admin and REST API; more are answered with 429."""
    max_http_per_address: int = 1_000
    """How many TCP connections that are no sockets one address has, without proxies of ours; further ones are cut."""
    max_requests_at_once: int = 16
    """How many requests for pages, admin and REST API are worked on at once."""
    request_head_seconds: float = 10.0
    """How long the head of a request may take to arrive, in seconds."""
    request_seconds: float = 60.0
    """How long what is behind it may take, in seconds."""
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

    @property
    def max_publish_bytes(self) -> int:
        """The largest request that publishes one message."""
        return JSON_BYTES_A_BYTE * self.max_message_bytes + MAX_OTHER_BYTES

    @property
    def max_request_bytes(self) -> int:
        """The largest body of any request."""
        return max(MAX_BATCH_BYTES, self.max_publish_bytes)


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
