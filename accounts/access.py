"""Lookups of API keys for the data plane. They return plain values, and many keys need few queries."""

import logging
from collections.abc import Collection, Iterable, Iterator
from datetime import timedelta
from typing import Any

from django.db import transaction
from django.db.models import Q
from django.utils import timezone

from . import crypto
from .key_access import CLUSTER_OPTIONS, KeyAccess, can_be_a_key
from .models import ApiKey, Cluster
from .quotas import QUOTA_FIELDS, TRAFFIC_FIELDS, in_force

logger = logging.getLogger(__name__)

# The shortest time between two updates of a key's `last_used_at`.
RECORD_USE_INTERVAL = timedelta(minutes=1)
_CHUNK = 500  # SQLite limits the number of parameters of a query

_ACCOUNT = "cluster__account__"
_OWN_COLUMNS = ("public_key", "protects_channels", "allows_client_messages", "closes_expired_connections")
_COLUMNS = (
    *_OWN_COLUMNS,
    *QUOTA_FIELDS,
    *(_ACCOUNT + name for name in TRAFFIC_FIELDS),
    "allowed_origins",
    "revoked_at",
    "secret_ciphertext",
    "old_secret_ciphertext",
    "old_secret_ends_at",
    "cluster_id",
    "cluster__account_id",
    "cluster__cluster_id",
    "cluster__enabled",
    *(f"cluster__{name}" for name in CLUSTER_OPTIONS),
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


def find_access_of_people(cluster_pk: int) -> KeyAccess | None:
    """Return what the people of an account may do in a cluster of it without a key, or None if it does not exist.

    The quotas are those of the account.
    """
    columns = ("cluster_id", "enabled", "account_id", "account__suspended_at")
    account = [f"account__{name}" for name in TRAFFIC_FIELDS]
    row = Cluster.objects.filter(pk=cluster_pk).values(*columns, *account).first()
    if row is None:
        return None
    return KeyAccess(
        public_key="",
        account_id=row["account_id"],
        cluster_pk=cluster_pk,
        cluster_id=row["cluster_id"],
        revoked=False,
        cluster_enabled=row["enabled"],
        account_suspended=row["account__suspended_at"] is not None,
        protects_channels=False,
        allows_client_messages=True,
        closes_expired_connections=False,
        allowed_origins=(),
        quotas=in_force({name: row[f"account__{name}"] for name in TRAFFIC_FIELDS}),
        secret=None,
    )


def check_reachable() -> None:
    """Check that keys can be looked up.

    Raises:
        django.db.Error: the database cannot answer.
    """
    ApiKey.objects.exists()


def _access_from(row: dict[str, Any]) -> KeyAccess:
    has_old_secret = row["old_secret_ends_at"] is not None and row["old_secret_ends_at"] > timezone.now()
    return KeyAccess(
        **{name: row[name] for name in _OWN_COLUMNS},
        account_id=row["cluster__account_id"],
        cluster_pk=row["cluster_id"],
        cluster_id=row["cluster__cluster_id"],
        revoked=row["revoked_at"] is not None,
        cluster_enabled=row["cluster__enabled"],
        **{name: row[f"cluster__{name}"] for name in CLUSTER_OPTIONS},
        account_suspended=row["cluster__account__suspended_at"] is not None,
        allowed_origins=tuple(row["allowed_origins"]),
        quotas=in_force({name: row[_ACCOUNT + name] for name in TRAFFIC_FIELDS}, row),
        secret=_decrypted_secret(row["public_key"], row["secret_ciphertext"]),
        old_secret=_decrypted_secret(row["public_key"], row["old_secret_ciphertext"]) if has_old_secret else None,
        old_secret_ends_at=row["old_secret_ends_at"].timestamp() if has_old_secret else 0.0,
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
        with transaction.atomic():
            # A locked row is just being changed or deleted. Waiting for it could be a deadlock; its next use counts.
            rows = ApiKey.objects.select_for_update(skip_locked=True, no_key=True).filter(due, public_key__in=keys)
            ApiKey.objects.filter(pk__in=list(rows.values_list("pk", flat=True))).update(last_used_at=now)


def batched(public_keys: Iterable[str]) -> Iterator[list[str]]:
    """Yield the keys in lists that one query of any database can take."""
    keys = list(public_keys)
    for start in range(0, len(keys), _CHUNK):
        yield keys[start : start + _CHUNK]
