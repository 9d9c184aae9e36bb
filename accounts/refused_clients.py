"""Plain values that describe refusals. They need no Django, so the data plane can use them anywhere."""

from collections.abc import Mapping
from typing import Any, NamedTuple

MAX_CHANNEL_LENGTH = 260
"""The length of the longest path of a channel: `v4:`, and a channel ID with its namespace."""
MAX_SHOWN_LENGTH = 64
"""How much is kept of a value that is not valid."""
MAX_ORIGIN_LENGTH = MAX_CLIENT_LENGTH = 200

UNKNOWN, OTHER_CLUSTER, REVOKED, MISSING = "unknown", "other_cluster", "revoked", "missing"
"""What is wrong with an API key, as the detail of a cause."""
EXPIRED, OTHER_CHANNEL, OTHER_SECRET, MALFORMED = "expired", "other_channel", "other_secret", "malformed"
"""What is wrong with a JWT, which can also be missing."""
CHANNEL, OPTION = "channel", "option"
"""What is wrong with a URL."""


class Cause(NamedTuple):
    """Refusals of one key for one reason, which are counted together."""

    account_pk: int | None
    """The account of the key; None if the client has sent no key of the cluster."""
    cluster_pk: int | None
    """The cluster of the key; None without a key."""
    cluster_id: str | None
    """The cluster that the host name contains; None if it contains none."""
    public_key: str
    """The API key; empty if the client has sent no key of the cluster."""
    code: int
    """The close code; for a request, the HTTP status; for a subscription, what stands for them in its protocol."""
    reason: str
    """The reason of the close, as in the metrics."""
    detail: str
    """What exactly was wrong, such as "expired" for a JWT; empty if the reason says it all."""


class RefusedClient(NamedTuple):
    """One client that could not connect or subscribe, or was disconnected because of what it sent."""

    cause: Cause
    at: float
    """Unix time in seconds."""
    channel: str
    origin: str
    user: str
    address: str
    client: str
    """The `User-Agent` of the client."""
    facts: Mapping[str, Any]
    """Further values that explain the refusal, such as the size of a message."""
