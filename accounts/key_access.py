"""Plain values that describe what an API key may do. They need no Django, so the data plane can use them anywhere."""

import re
import secrets
import string
import time
from dataclasses import dataclass, field

PUBLIC_KEY_PATTERN = r"^[A-Za-z0-9_-]{60}\Z"
_is_key = re.compile(PUBLIC_KEY_PATTERN).match
CLUSTER_OPTIONS = ("sends_subscription_counts", "sends_watchlist_events", "closes_unauthorized_connections")
"""The names of the settings of a cluster for Pusher's protocol. `KeyAccess` has a field for each."""
_LETTERS_AND_DIGITS = string.ascii_letters + string.digits


def new_key() -> str:
    """Return 60 random letters and digits (357 bits).

    Hyphens would be allowed, but a command would take a key that begins with a hyphen for an option.
    """
    return "".join(secrets.choice(_LETTERS_AND_DIGITS) for _ in range(60))


@dataclass(frozen=True, slots=True)
class Quotas:
    """The quotas in force for a key. The account's values override the defaults, and the key's can only be lower."""

    account_connections: int
    """Open connections of the account."""
    key_connections: int
    """Open connections of the key."""
    message_bytes: int | None
    """The maximum size of a message in bytes, or None for the server's own limit."""
    messages_per_second: int
    """Messages per second that one connection may send."""
    messages_per_day: int
    """Messages per day (UTC) that the account may send, from clients and through the Cluster API."""


@dataclass(frozen=True, slots=True)
class KeyAccess:
    """Everything that admission needs to know about an API key."""

    public_key: str
    account_id: int
    cluster_pk: int
    cluster_id: str
    """The cluster's DNS label."""
    revoked: bool
    cluster_enabled: bool
    account_suspended: bool
    protects_channels: bool
    allows_client_messages: bool
    closes_expired_connections: bool
    allowed_origins: tuple[str, ...]
    quotas: Quotas
    secret: str | None = field(repr=False)
    """Signs JWTs and authorizes publishing. None if it cannot be decrypted with the keys in the settings."""
    old_secret: str | None = field(default=None, repr=False)
    """The secret before the last rotation, which is valid until `old_secret_ends_at`. None if there is none."""
    old_secret_ends_at: float = 0.0
    """Unix time in seconds."""
    sends_subscription_counts: bool = False
    sends_watchlist_events: bool = False
    closes_unauthorized_connections: bool = False

    def valid_secrets(self) -> tuple[str, ...]:
        """Return the secrets that are valid now, the newest first."""
        newest = () if self.secret is None else (self.secret,)
        if self.old_secret is None or time.time() >= self.old_secret_ends_at:
            return newest
        return (*newest, self.old_secret)


def can_be_a_key(text: str) -> bool:
    """Return whether a text has the format of a public key."""
    return _is_key(text) is not None
