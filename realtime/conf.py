"""The settings of realtime: `REALTIME` in the Django settings, with the default and the unit of each."""

from dataclasses import dataclass, field, fields, replace
from functools import cache
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Any

from django.conf import settings
from django.core.signals import setting_changed

from realtime.base.open_files import open_file_limit

MAX_BATCH_BYTES = 16 * 1024 * 1024
# JSON may escape one byte of a message as six bytes (`\u0000`). The other members of the request are small.
JSON_BYTES_PER_BYTE = 6
MAX_OTHER_BYTES = 64 * 1024
MAX_PRESENCE_BYTES = 1024 * 1024


def _max_connections() -> int:
    """Return how many connections the open file limit allows, minus a reserve for databases, logs and listeners."""
    return max(open_file_limit() - 64, 1)


@dataclass(frozen=True, slots=True)
class Conf:
    """Typed settings. Names that are missing from `settings.REALTIME`, or None there, use their default."""

    max_message_bytes: int = 1024 * 1024
    """The largest message that a client may send, in bytes. A larger message closes the connection with 1009."""
    max_backlog_bytes: int = 0
    """The largest backlog of a client that reads slowly, in bytes. Above it, the connection is closed with 4100. 0: as
    much as the largest permitted request can publish."""
    max_total_backlog_bytes: int = 256 * 1024 * 1024
    """The largest backlog of all clients of this node together, in bytes. Above it, the slowest clients are closed."""
    max_connections: int = 0
    """The most connections of this node; others are closed with 1013. 0: as many as the open file limit allows."""
    max_connections_per_address: int = 10_000
    """The most connections from one address; others are closed with 1013."""
    max_channels_per_connection: int = 1_000
    """The most channels to which one connection of Pusher's protocol or of PieSocket v4 may be subscribed; others are
    refused."""
    client_events_per_second: int = 10
    """The most events that one connection of Pusher's protocol may send to other clients in a second; others are
    dropped. The quota of messages per second applies too, to all protocols."""
    authorization_seconds: float = 30.0
    """How long a connection of Pusher's protocol may neither sign in nor subscribe to a private or presence channel, in
    seconds, if its cluster closes unauthorized connections."""
    connects_per_minute_per_address: int = 6_000
    """The most connection attempts from one address in a minute; others are closed with 1013."""
    requests_per_minute_per_address: int = 1_200
    """The most requests from one address for pages, admin and REST API in a minute; others get 429."""
    max_http_per_address: int = 1_000
    """The most TCP connections from one address that are not WebSockets; others are cut. Not applied behind proxies."""
    max_requests_at_once: int = 16
    """The most requests for pages, admin and REST API that are handled at the same time."""
    request_head_seconds: float = 10.0
    """How long the head of an HTTP request may take to arrive, in seconds."""
    request_seconds: float = 60.0
    """How long the body of an HTTP request may take to arrive, in seconds."""
    front_door: bool = True
    """Whether ordinary handshakes and publishes take the short way of `server.front_door`. Only tests turn it off."""
    drain_seconds: float = 10.0
    """How long a node that shuts down takes to close its connections gradually, in seconds."""
    key_cache_seconds: float = 30.0
    """How long a cached API key is trusted before the database is asked again, in seconds."""
    usage_seconds: float = 60.0
    """How often a process adds what it has counted to the usage in the database, in seconds."""
    metrics_allowed: tuple[IPv4Network | IPv6Network, ...] = (ip_network("127.0.0.0/8"), ip_network("::1"))
    """The networks that may read the metrics."""
    metrics_token: str = field(default="", repr=False)
    """A token that allows reading the metrics from any address. Empty: no token is accepted."""
    num_proxies: int = 0
    """The number of trusted proxies in front of a node: `NUM_PROXIES` of Django REST framework."""
    cluster_domains: tuple[str, ...] = ("localhost",)
    """The domains that have clusters as their subdomains, in lower case."""

    @property
    def max_presence_bytes(self) -> int:
        """How much may wait for a client with presence before its events wait, and the largest list of members."""
        return min(self.max_backlog_bytes, MAX_PRESENCE_BYTES)

    @property
    def max_publish_bytes(self) -> int:
        """The largest body of a request that publishes one message, in bytes."""
        return JSON_BYTES_PER_BYTE * self.max_message_bytes + MAX_OTHER_BYTES

    @property
    def max_request_bytes(self) -> int:
        """The largest body of any HTTP request, in bytes."""
        return max(MAX_BATCH_BYTES, self.max_publish_bytes)


@cache
def conf() -> Conf:
    """Return the current settings, which are read once."""
    given: dict[str, Any] = {
        setting.name: value
        for setting in fields(Conf)
        if (value := getattr(settings, "REALTIME", {}).get(setting.name.upper())) is not None
    }
    if "metrics_allowed" in given:
        given["metrics_allowed"] = tuple(ip_network(network, strict=False) for network in given["metrics_allowed"])
    given["cluster_domains"] = tuple(settings.CLUSTER_DOMAINS)
    given["num_proxies"] = settings.REST_FRAMEWORK["NUM_PROXIES"]
    given["max_connections"] = given.get("max_connections") or _max_connections()
    found = Conf(**given)
    return found if found.max_backlog_bytes else replace(found, max_backlog_bytes=found.max_request_bytes)


def _reset(*, setting: str, **_: Any) -> None:
    if setting in ("REALTIME", "CLUSTER_DOMAINS", "REST_FRAMEWORK"):
        conf.cache_clear()


setting_changed.connect(_reset)
