"""The services that change API keys."""

from datetime import timedelta
from typing import Any, NamedTuple

from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import F
from django.utils import timezone
from django.views.decorators.debug import sensitive_variables

from .. import crypto
from ..audit import record_change
from ..key_access import new_key
from ..locks import Refused, lock_account
from ..models import Account, ApiKey, AuditVerb, Cluster
from ..quotas import QUOTA_FIELDS, limits_of
from ..signals import announce
from .changes import Conflict, check_room, create_recorded, update_recorded, version_of


class IssuedKey(NamedTuple):
    """A key and its secret, which is shown only once."""

    key: ApiKey
    secret: str

    def __repr__(self) -> str:
        return f"IssuedKey(key={self.key!r})"


class KeyRevoked(Refused):
    """The operation is impossible because the key is revoked."""


# How many revoked keys an account keeps in its list.
MAX_REVOKED_KEYS = 1_000
KEY_SETTINGS = (
    "label",
    "protects_channels",
    "allows_client_messages",
    "closes_expired_connections",
    "allowed_origins",
    *QUOTA_FIELDS,
)
MAX_OVERLAP = timedelta(days=7)
"""How long the old secret of a key can stay valid after a rotation."""


@sensitive_variables()
@transaction.atomic
def issue_key(cluster: Cluster, label: str, *, public_key: str | None = None, **settings: Any) -> IssuedKey:
    """Issue an API key.

    Args:
        cluster: the cluster that the key gives access to.
        label: a name that tells people what uses the key.
        public_key: the public part of the key; random by default.
        settings: any other settings in KEY_SETTINGS.

    Raises:
        ValidationError: a setting is invalid.
        QuotaReached: the account has too many keys.
        Gone, AccountSuspended: see `lock_account`.
    """
    account = lock_account(cluster)
    check_room(account, "max_keys", ApiKey.objects.filter(cluster__account=account, revoked_at=None).count())
    secret = new_key()
    key = ApiKey(cluster=cluster, label=label, secret_ciphertext=crypto.encrypt(secret), **_normalized(settings))
    if public_key is not None:
        key.public_key = public_key
    _check_quotas(account, settings)
    create_recorded(key, *KEY_SETTINGS)
    announce(public_key=key.public_key)
    return IssuedKey(key, secret)


@transaction.atomic
def update_key(key: ApiKey, *, version: str | None = None, **settings: Any) -> None:
    """Change settings of a key.

    Args:
        key: the key.
        version: the `version_of_settings` that the user has seen; None to overwrite whatever they are now.
        settings: new values for any settings in KEY_SETTINGS.

    Raises:
        ValidationError: a setting is invalid.
        Conflict: the settings have another version now.
        KeyRevoked: a user who has seen a version changes a key that is revoked meanwhile.
        Gone, AccountSuspended: see `lock_account`.
    """
    if not settings:
        return
    account = lock_account(key)
    if version is not None:
        current = ApiKey.objects.get(pk=key.pk)
        if current.revoked:
            raise KeyRevoked("This API key is revoked. Issue another key.")
        if version_of_settings(current) != version:
            raise Conflict("Someone changed this key meanwhile. Check the values and save again.")
    _check_quotas(account, settings)
    update_recorded(key, _normalized(settings))
    announce(public_key=key.public_key)


def version_of_settings(key: ApiKey) -> str:
    """Return a text that is another one after each change of the settings of a key."""
    return version_of(key, KEY_SETTINGS)


@transaction.atomic
def revoke_key(key: ApiKey, *, suspended_too: bool = False) -> None:
    """Revoke a key permanently: close its connections and reject new ones. Does nothing if it is already revoked.

    Args:
        key: the key.
        suspended_too: whether to revoke it even if its account is suspended, which only operators may do.

    Raises:
        Gone, AccountSuspended: see `lock_account`.
    """
    account = lock_account(key, suspended_too=suspended_too)
    if ApiKey.objects.filter(pk=key.pk, revoked_at=None).update(revoked_at=timezone.now()):
        record_change(AuditVerb.REVOKED, key)
        announce(public_key=key.public_key)
        _delete_oldest_revoked_keys(account)
    key.refresh_from_db(fields=["revoked_at"])


def _delete_oldest_revoked_keys(account: Account) -> None:
    revoked = ApiKey.objects.filter(cluster__account=account, revoked_at__isnull=False).order_by("-revoked_at", "-pk")
    ApiKey.objects.filter(pk__in=list(revoked.values_list("pk", flat=True)[MAX_REVOKED_KEYS:])).delete()


@transaction.atomic
def delete_key(key: ApiKey) -> None:
    """Delete a key and close its connections, in a suspended account too. Only operators may do this.

    Raises:
        Gone: the key was deleted.
    """
    lock_account(key, suspended_too=True)
    record_change(AuditVerb.DELETED, key)
    announce(public_key=key.public_key)
    key.delete()


@sensitive_variables()
@transaction.atomic
def rotate_secret(key: ApiKey, overlap: timedelta = timedelta()) -> str:
    """Replace the secret of a key, and return the new secret.

    When the old secret ends, the connections that its JWTs have opened are closed. A key has at most one old secret:
    rotating again ends the one before.

    Args:
        key: the key.
        overlap: how long the old secret also stays valid; by default, it ends immediately.

    Raises:
        KeyRevoked: the key is revoked.
        ValidationError: the overlap is negative or too long.
        Gone, AccountSuspended: see `lock_account`.
    """
    if not timedelta() <= overlap <= MAX_OVERLAP:
        raise ValidationError(f"The old secret can stay valid for at most {MAX_OVERLAP.days} days.")
    lock_account(key)
    secret, ends_at = new_key(), timezone.now() + overlap if overlap else None
    changed = ApiKey.objects.filter(pk=key.pk, revoked_at=None).update(
        old_secret_ciphertext=F("secret_ciphertext") if overlap else "",
        old_secret_ends_at=ends_at,
        secret_ciphertext=crypto.encrypt(secret),
    )
    if not changed:
        raise KeyRevoked("This API key is revoked. Issue another key.")
    key.refresh_from_db(fields=["secret_ciphertext", "old_secret_ciphertext", "old_secret_ends_at"])
    record_change(AuditVerb.ROTATED, key, {"old_secret_ends_at": (None, ends_at.isoformat())} if ends_at else None)
    announce(public_key=key.public_key)
    return secret


@transaction.atomic
def end_old_secret(key: ApiKey, *, suspended_too: bool = False) -> None:
    """End the overlap of a rotation now: the old secret stops working, and the connections of its JWTs are closed.

    Does nothing if the key has no old secret that is still valid.

    Args:
        key: the key.
        suspended_too: whether to end it even if the account is suspended, which only operators may do.

    Raises:
        Gone, AccountSuspended: see `lock_account`.
    """
    lock_account(key, suspended_too=suspended_too)
    key.refresh_from_db(fields=["old_secret_ends_at", "revoked_at"])
    if not key.has_old_secret:
        return
    ended = {"old_secret_ends_at": (key.old_secret_ends_at.isoformat(), None)}  # type: ignore[union-attr]
    key.old_secret_ciphertext, key.old_secret_ends_at = "", None
    key.save(update_fields=["old_secret_ciphertext", "old_secret_ends_at"])
    record_change(AuditVerb.ENDED, key, ended)
    announce(public_key=key.public_key)


def _normalized(settings: dict[str, Any]) -> dict[str, Any]:
    unknown = set(settings) - set(KEY_SETTINGS)
    if unknown:
        raise TypeError(f"Unknown settings of an API key: {', '.join(sorted(unknown))}")
    origins = settings.get("allowed_origins")
    if isinstance(origins, list):
        lower = [origin.strip().lower() if isinstance(origin, str) else origin for origin in origins]
        return {**settings, "allowed_origins": lower}
    return settings


def _check_quotas(account: Account, settings: dict[str, Any]) -> None:
    """Check that the quotas of a key do not exceed those of its account.

    Raises:
        ValidationError: a quota does.
    """
    limits = limits_of(account)
    errors: dict[str, list[str]] = {}
    for name in QUOTA_FIELDS:
        limit, value = limits[name], settings.get(name)
        if isinstance(value, int) and limit is not None and value > limit:
            errors[name] = [f"A key cannot exceed the quota of its account, which is {limit}."]
    if errors:
        raise ValidationError(errors)
