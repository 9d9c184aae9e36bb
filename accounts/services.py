"""The services that change accounts. The REST API, the admin and the commands call them and add no rules of their own.

Each service validates its input, writes the change and its audit entry in one transaction, and announces the change to
the data plane after commit. Deletions are recorded and announced by signals (see `apps.py`), which also covers cascades
and the admin's bulk deletes.
"""

from datetime import timedelta
from typing import Any, NamedTuple

from django.core.exceptions import ValidationError
from django.db import IntegrityError, models, transaction
from django.utils import timezone
from django.views.decorators.debug import sensitive_variables

from . import crypto
from .audit import record_change
from .demo import DEMO_ACCOUNT_NAME, DEMO_CLUSTER_ID
from .models import Account, ApiKey, AuditVerb, Cluster, Membership, Resource, Role, new_key
from .quotas import QUOTA_FIELDS, default_quotas
from .signals import announce
from .users import User


class IssuedKey(NamedTuple):
    """A key and its secret, which is shown only once."""

    key: ApiKey
    secret: str

    def __repr__(self) -> str:
        return f"IssuedKey(key={self.key!r})"


class KeyRevoked(Exception):
    """The operation is impossible because the key is revoked."""


class DemoTaken(Exception):
    """The ID of the demo tenant's cluster belongs to another account."""


def _create(resource: Resource, *fields: str) -> None:
    """Validate, save and record a new resource.

    Args:
        resource: the resource to save.
        fields: the fields whose values are recorded.

    Raises:
        ValidationError: a value is invalid or already taken.
    """
    resource.full_clean()
    try:
        with transaction.atomic():
            resource.save(force_insert=True)
    except IntegrityError:
        resource.full_clean()  # if another request has just taken the value, this error names the field
        raise
    record_change(AuditVerb.CREATED, resource, {name: (None, getattr(resource, name)) for name in fields})


def _update(resource: Resource, values: dict[str, Any]) -> None:
    """Change and record some fields of a resource.

    Raises:
        ValidationError: a value is invalid.
    """
    # Read the old values from the locked row: a form may already have set new values on the object.
    rows: Any = type(resource)._default_manager.select_for_update().filter(pk=resource.pk)
    before = rows.values(*values).get()
    for name, value in values.items():
        setattr(resource, name, value)
    resource.full_clean()
    resource.save(update_fields=list(values))
    changes = {name: (before[name], value) for name in values if before[name] != (value := getattr(resource, name))}
    if changes:
        record_change(AuditVerb.CHANGED, resource, changes)


# Accounts


@transaction.atomic
def create_account(name: str, owner: User | None = None) -> Account:
    """Create an account, with its first owner if one is given.

    Raises:
        ValidationError: the name is empty or too long.
    """
    account = Account(name=name)
    _create(account, "name")
    if owner is not None:
        add_member(account, owner, Role.OWNER)
    return account


@transaction.atomic
def rename_account(account: Account, name: str) -> None:
    """Rename an account.

    Raises:
        ValidationError: the name is empty or too long.
    """
    _update(account, {"name": name})


@transaction.atomic
def set_quotas(account: Account, **quotas: int | None) -> None:
    """Change some quotas of an account. They also limit keys that have set higher ones.

    Args:
        account: the account.
        quotas: the new values by field name; None restores the default.

    Raises:
        ValidationError: a value is invalid.
    """
    if unknown := set(quotas) - set(default_quotas()):
        raise TypeError(f"Unknown quotas of an account: {', '.join(sorted(unknown))}")
    if not quotas:
        return
    _update(account, quotas)
    announce(account_id=account.pk)


@transaction.atomic
def suspend_account(account: Account) -> None:
    """Close all connections of an account and reject new ones. Does nothing if the account is already suspended."""
    if Account.objects.filter(pk=account.pk, suspended_at=None).update(suspended_at=timezone.now()):
        record_change(AuditVerb.SUSPENDED, account)
        announce(account_id=account.pk)
    account.refresh_from_db(fields=["suspended_at"])


@transaction.atomic
def resume_account(account: Account) -> None:
    """End the suspension of an account. Does nothing if the account is not suspended."""
    if Account.objects.filter(pk=account.pk, suspended_at__isnull=False).update(suspended_at=None):
        record_change(AuditVerb.RESUMED, account)
        announce(account_id=account.pk)
    account.refresh_from_db(fields=["suspended_at"])


def delete_account(account: Account) -> None:
    """Delete an account with its clusters and keys, and close their connections."""
    account.delete()


# Members


@transaction.atomic
def add_member(account: Account, user: User, role: str = Role.MEMBER) -> Membership:
    """Add a user to an account.

    Raises:
        ValidationError: the user already belongs to the account, or the role does not exist.
    """
    membership = Membership(account=account, user=user, role=role)
    _create(membership, "role")
    return membership


@transaction.atomic
def set_role(membership: Membership, role: str) -> None:
    """Change the role of a member.

    Raises:
        ValidationError: the role does not exist, or the account would be left without an owner.
    """
    _keep_an_owner(membership, role)
    _update(membership, {"role": role})


@transaction.atomic
def remove_member(membership: Membership) -> None:
    """Remove a member from an account.

    Raises:
        ValidationError: the account would be left without an owner.
    """
    _keep_an_owner(membership, None)
    membership.delete()


def _keep_an_owner(membership: Membership, new_role: str | None) -> None:
    # The lock keeps two owners from removing each other at the same time.
    owners = Membership.objects.select_for_update().filter(account=membership.account_id, role=Role.OWNER)
    if new_role != Role.OWNER and {owner.pk for owner in owners} == {membership.pk}:
        raise ValidationError("An account must have at least one owner.")


# Clusters


@transaction.atomic
def create_cluster(account: Account, cluster_id: str, *, enabled: bool = True) -> Cluster:
    """Create a cluster.

    Raises:
        ValidationError: the cluster ID is not a DNS label, or is already taken.
    """
    cluster = Cluster(account=account, cluster_id=cluster_id, enabled=enabled)
    _create(cluster, "enabled")
    return cluster


@transaction.atomic
def update_cluster(cluster: Cluster, *, enabled: bool) -> None:
    """Enable or disable a cluster. Disabling it closes its connections."""
    _update(cluster, {"enabled": enabled})
    announce(cluster_pk=cluster.pk)


def delete_cluster(cluster: Cluster) -> None:
    """Delete a cluster with its keys, and close their connections."""
    cluster.delete()


# API keys

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
    """
    secret = new_key()
    key = ApiKey(cluster=cluster, label=label, secret_ciphertext=crypto.encrypt(secret), **_normalized(settings))
    if public_key is not None:
        key.public_key = public_key
    _check_quotas(key, settings)
    _create(key, *KEY_SETTINGS)
    announce(public_key=key.public_key)
    return IssuedKey(key, secret)


@transaction.atomic
def update_key(key: ApiKey, **settings: Any) -> None:
    """Change settings of a key.

    Args:
        key: the key.
        settings: new values for any settings in KEY_SETTINGS.

    Raises:
        ValidationError: a setting is invalid.
    """
    if not settings:
        return
    _check_quotas(key, settings)
    _update(key, _normalized(settings))
    announce(public_key=key.public_key)


@transaction.atomic
def revoke_key(key: ApiKey) -> None:
    """Revoke a key permanently: close its connections and reject new ones. Does nothing if it is already revoked."""
    if ApiKey.objects.filter(pk=key.pk, revoked_at=None).update(revoked_at=timezone.now()):
        record_change(AuditVerb.REVOKED, key)
        announce(public_key=key.public_key)
    key.refresh_from_db(fields=["revoked_at"])


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
    """
    if not timedelta() <= overlap <= MAX_OVERLAP:
        raise ValidationError(f"The old secret can stay valid for at most {MAX_OVERLAP.days} days.")
    secret, ends_at = new_key(), timezone.now() + overlap if overlap else None
    changed = ApiKey.objects.filter(pk=key.pk, revoked_at=None).update(
        old_secret_ciphertext=models.F("secret_ciphertext") if overlap else "",
        old_secret_ends_at=ends_at,
        secret_ciphertext=crypto.encrypt(secret),
    )
    if not changed:
        raise KeyRevoked("This API key is revoked. Issue another key.")
    key.refresh_from_db(fields=["secret_ciphertext", "old_secret_ciphertext", "old_secret_ends_at"])
    record_change(AuditVerb.ROTATED, key, {"old_secret_ends_at": (None, ends_at.isoformat())} if ends_at else None)
    announce(public_key=key.public_key)
    return secret


def _normalized(settings: dict[str, Any]) -> dict[str, Any]:
    unknown = set(settings) - set(KEY_SETTINGS)
    if unknown:
        raise TypeError(f"Unknown settings of an API key: {', '.join(sorted(unknown))}")
    origins = settings.get("allowed_origins")
    if isinstance(origins, list):
        lower = [origin.strip().lower() if isinstance(origin, str) else origin for origin in origins]
        return {**settings, "allowed_origins": lower}
    return settings


def _check_quotas(key: ApiKey, settings: dict[str, Any]) -> None:
    """Check that the quotas of a key do not exceed those of its account.

    Raises:
        ValidationError: a quota does.
    """
    account, defaults = key.cluster.account, default_quotas()
    errors: dict[str, list[str]] = {}
    for name in QUOTA_FIELDS:
        own = getattr(account, name)
        limit, value = defaults[name] if own is None else own, settings.get(name)
        if isinstance(value, int) and limit is not None and value > limit:
            errors[name] = [f"A key cannot exceed the quota of its account, which is {limit}."]
    if errors:
        raise ValidationError(errors)


# The demo tenant


def has_other_accounts() -> bool:
    """Return whether there are accounts other than that of the demo tenant."""
    return Account.objects.exclude(name=DEMO_ACCOUNT_NAME, clusters__cluster_id=DEMO_CLUSTER_ID).exists()


def ensure_demo(public_key: str) -> IssuedKey:
    """Return the key of the demo tenant; create the tenant if it does not exist. Safe for concurrent calls.

    Raises:
        DemoTaken: the cluster ID belongs to another account, which must not get a key that everybody knows.
        KeyRevoked: the key is revoked.
        crypto.DecryptionFailed: the key that encrypted the secret is not in the settings.
    """
    try:
        key, secret = _get_or_create_demo(public_key)
    except ValidationError:  # another process has created it in the meantime
        key, secret = _get_or_create_demo(public_key)
    if key.revoked:
        raise KeyRevoked("The demo key is revoked. To create it again, first delete it in the admin.")
    return IssuedKey(key, secret or crypto.decrypt(key.secret_ciphertext))


@transaction.atomic
def _get_or_create_demo(public_key: str) -> tuple[ApiKey, str | None]:
    """Return the demo key; with its secret if this call has created the key."""
    key = ApiKey.objects.select_related("cluster").filter(public_key=public_key).first()
    if key is not None:
        return key, None
    cluster = Cluster.objects.select_related("account").filter(cluster_id=DEMO_CLUSTER_ID).first()
    if cluster is None:
        cluster = create_cluster(create_account(DEMO_ACCOUNT_NAME), DEMO_CLUSTER_ID)
    elif cluster.account.name != DEMO_ACCOUNT_NAME:
        raise DemoTaken(
            f"The cluster {DEMO_CLUSTER_ID!r} belongs to another account, so the demo tenant cannot be created."
        )
    return issue_key(cluster, "demo", public_key=public_key)
