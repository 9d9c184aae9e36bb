"""What the data plane asks about API keys: plain values, one query."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.db.models import Q
from django.utils import timezone

from . import crypto
from .models import PUBLIC_KEY_PATTERN, ApiKey

# How often it is written down that a key is in use.
TOUCH_EVERY = timedelta(minutes=1)
_CHUNK = 500  # SQLite allows a limited number of parameters


@dataclass(frozen=True, slots=True)
class KeyAccess:
    """What admission needs to know of one API key."""

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
    allowed_origins: tuple[str, ...]


_COLUMNS = (
    "public_key",
    "cluster__account_id",
    "cluster_id",
    "cluster__cluster_id",
    "revoked_at",
    "cluster__enabled",
    "cluster__account__suspended_at",
    "protects_channels",
    "allows_client_messages",
    "allowed_origins",
)


def find_access(public_key: str) -> KeyAccess | None:
    """What is known of a key; None if there is none. What cannot be a key costs no query."""
    return find_many([public_key]).get(public_key)


def find_many(public_keys: Iterable[str]) -> dict[str, KeyAccess]:
    """What is known of each of these keys that exists."""
    possible = [key for key in public_keys if _can_be_a_key(key)]
    found: dict[str, KeyAccess] = {}
    for start in range(0, len(possible), _CHUNK):
        rows = ApiKey.objects.filter(public_key__in=possible[start : start + _CHUNK]).values_list(*_COLUMNS)
        found.update((row[0], _access(row)) for row in rows)
    return found


def _can_be_a_key(text: str) -> bool:
    return re.fullmatch(PUBLIC_KEY_PATTERN, text) is not None


def _access(row: tuple[Any, ...]) -> KeyAccess:
    public_key, account_id, cluster_pk, cluster_id, revoked_at, enabled, suspended_at, protects, allows, origins = row
    return KeyAccess(
        public_key=public_key,
        account_id=account_id,
        cluster_pk=cluster_pk,
        cluster_id=cluster_id,
        revoked=revoked_at is not None,
        cluster_enabled=enabled,
        account_suspended=suspended_at is not None,
        protects_channels=protects,
        allows_client_messages=allows,
        allowed_origins=tuple(origins),
    )


def touch(public_key: str) -> None:
    """Write down that a key is in use, at most once a minute."""
    now = timezone.now()
    due = Q(last_used_at=None) | Q(last_used_at__lt=now - TOUCH_EVERY)
    ApiKey.objects.filter(due, public_key=public_key).update(last_used_at=now)


def secret_of(public_key: str) -> str | None:
    """The secret of a key; None if there is no such key. What cannot be a key costs no query.

    Raises:
        DecryptionFailed: the settings lack the key that encrypted it.
    """
    if not _can_be_a_key(public_key):
        return None
    ciphertext = ApiKey.objects.filter(public_key=public_key).values_list("secret_ciphertext", flat=True).first()
    return None if ciphertext is None else crypto.decrypt(ciphertext)
