"""Lookups of API keys for the data plane. They return plain values, and many keys need few queries."""

import logging
from collections.abc import Collection, Iterable, Iterator
from datetime import timedelta
from typing import Any

from django.db.models import Q
from django.utils import timezone

from . import crypto
from .key_access import KeyAccess, can_be_a_key
from .models import ApiKey
from .quotas import QUOTA_FIELDS, default_quotas, in_force

logger = logging.getLogger(__name__)

# The shortest time between two updates of a key's `last_used_at`.
RECORD_USE_INTERVAL = timedelta(minutes=1)
_CHUNK = 500  # SQLite limits the number of parameters of a query

_ACCOUNT = "cluster__account__"
_OWN_COLUMNS = ("public_key", "protects_channels", "allows_client_messages")
_COLUMNS = (
    *_OWN_COLUMNS,
    *QUOTA_FIELDS,
    *(_ACCOUNT + name for name in default_quotas()),
    "allowed_origins",
    "revoked_at",
    "secret_ciphertext",
    "cluster_id",
    "cluster__account_id",
    "cluster__cluster_id",
    "cluster__enabled",
    "cluster__account__suspended_at",
)


def find_access(public_key: str) -> KeyAccess | None:
    """Return what a key gives access to, or None if the key does not exist. Malformed keys cause no query."""
    return find_access_of_keys([public_key]).get(public_key)


def find_access_of_keys(public_keys: Iterable[str]) -> dict[str, KeyAccess]:
    """Return what each of these keys gives access to, by public key. Keys that do not exist are left out."""
    possible = [key for key in public_keys if can_be_a_key(key)]
    found: dict[str, KeyAccess] = {}
    for keys in batched(possible):
        rows = ApiKey.objects.filter(public_key__in=keys).values(*_COLUMNS)
        found.update((row["public_key"], _access_from(row)) for row in rows)
    return found


def check_reachable() -> None:
    """Check that keys can be looked up.

    Raises:
        django.db.Error: the database cannot answer.
    """
    ApiKey.objects.exists()


def _access_from(row: dict[str, Any]) -> KeyAccess:
    return KeyAccess(
        **{name: row[name] for name in _OWN_COLUMNS},
        account_id=row["cluster__account_id"],
        cluster_pk=row["cluster_id"],
        cluster_id=row["cluster__cluster_id"],
        revoked=row["revoked_at"] is not None,
        cluster_enabled=row["cluster__enabled"],
        account_suspended=row["cluster__account__suspended_at"] is not None,
        allowed_origins=tuple(row["allowed_origins"]),
        quotas=in_force({name: row[_ACCOUNT + name] for name in default_quotas()}, row),
        secret=_decrypted_secret(row["public_key"], row["secret_ciphertext"]),
    )


def _decrypted_secret(public_key: str, ciphertext: str) -> str | None:
    try:
        return crypto.decrypt(ciphertext)
    except crypto.DecryptionFailed as error:
        logger.error("The API key %s… cannot accept JWTs or publish. %s", public_key[:8], error)
        return None


def record_use(public_keys: Collection[str]) -> None:
    """Record that keys are in use, each at most once a minute."""
    now = timezone.now()
    due = Q(last_used_at=None) | Q(last_used_at__lt=now - RECORD_USE_INTERVAL)
    for keys in batched(public_keys):
        ApiKey.objects.filter(due, public_key__in=keys).update(last_used_at=now)


def batched(public_keys: Iterable[str]) -> Iterator[list[str]]:
    """Yield the keys in lists that one query of any database can take."""
    keys = list(public_keys)
    for start in range(0, len(keys), _CHUNK):
        yield keys[start : start + _CHUNK]
