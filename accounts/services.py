"""The verbs of accounts. REST API, admin and commands call these and add no rule of their own.

Each validates, writes in one transaction together with its audit entry, and has the data plane told after commit.
Deleting is recorded and told by signals (see `apps.py`), so that cascades and the admin's bulk deletes are too.
"""

from typing import Any, NamedTuple

from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction
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
    """A key, and its secret, which is shown now and never again."""

    key: ApiKey
    secret: str

    def __repr__(self) -> str:
        return f"IssuedKey(key={self.key!r})"


class KeyRevoked(Exception):
    """What was asked for makes no sense for a revoked key."""


class DemoTaken(Exception):
    """The name of the demo tenant's cluster belongs to somebody."""


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
        resource.full_clean()  # another request has just taken the value: this names the field
        raise
    record_change(AuditVerb.CREATED, resource, {name: (None, getattr(resource, name)) for name in fields})


def _update(resource: Resource, values: dict[str, Any]) -> None:
    """Change and record some fields of a resource.

    Raises:
        ValidationError: a value is invalid.
    """
    # Read the old values from the locked row: a form may already have put new ones into the object.
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
    """Make an account, with its first owner.

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
    """
    Raises:
        ValidationError: the name is empty or too long.
    """
    _update(account, {"name": name})


@transaction.atomic
def set_quotas(account: Account, **quotas: int | None) -> None:
    """Change some quotas of an account; None gives one its default. Keys that have more of their own get no more.

    Raises:
        ValidationError: a value is not valid.
    """
    if unknown := set(quotas) - set(default_quotas()):
        raise TypeError(f"An account has no quota {', '.join(sorted(unknown))}.")
    if not quotas:
        return
    _update(account, quotas)
    announce(account_id=account.pk)


@transaction.atomic
def suspend_account(account: Account) -> None:
    """Close all connections of an account and admit no more. A second time changes nothing."""
    if Account.objects.filter(pk=account.pk, suspended_at=None).update(suspended_at=timezone.now()):
        record_change(AuditVerb.SUSPENDED, account)
        announce(account_id=account.pk)
    account.refresh_from_db(fields=["suspended_at"])


@transaction.atomic
def resume_account(account: Account) -> None:
    """Undo a suspension. A second time changes nothing."""
    if Account.objects.filter(pk=account.pk, suspended_at__isnull=False).update(suspended_at=None):
        record_change(AuditVerb.RESUMED, account)
        announce(account_id=account.pk)
    account.refresh_from_db(fields=["suspended_at"])


def delete_account(account: Account) -> None:
    """Delete an account with its clusters and keys, and close their connections."""
    account.delete()


# People


@transaction.atomic
def add_member(account: Account, user: User, role: str = Role.MEMBER) -> Membership:
    """
    Raises:
        ValidationError: the person belongs to the account already, or there is no such role.
    """
    membership = Membership(account=account, user=user, role=role)
    _create(membership, "role")
    return membership


@transaction.atomic
def set_role(membership: Membership, role: str) -> None:
    """
    Raises:
        ValidationError: there is no such role, or the account would be left without an owner.
    """
    _keep_an_owner(membership, role)
    _update(membership, {"role": role})


@transaction.atomic
def remove_member(membership: Membership) -> None:
    """
    Raises:
        ValidationError: the account would be left without an owner.
    """
    _keep_an_owner(membership, None)
    membership.delete()


def _keep_an_owner(membership: Membership, new_role: str | None) -> None:
    # Locked, so that two owners cannot remove each other at once.
    owners = Membership.objects.select_for_update().filter(account=membership.account_id, role=Role.OWNER)
    if new_role != Role.OWNER and {owner.pk for owner in owners} == {membership.pk}:
        raise ValidationError("An account keeps at least one owner.")


# Clusters


@transaction.atomic
def create_cluster(account: Account, cluster_id: str, *, enabled: bool = True) -> Cluster:
    """
    Raises:
        ValidationError: the cluster ID is no DNS label, or taken.
    """
    cluster = Cluster(account=account, cluster_id=cluster_id, enabled=enabled)
    _create(cluster, "enabled")
    return cluster


@transaction.atomic
def update_cluster(cluster: Cluster, *, enabled: bool) -> None:
    """Switch a cluster on or off."""
    _update(cluster, {"enabled": enabled})
    announce(cluster_pk=cluster.pk)


def delete_cluster(cluster: Cluster) -> None:
    """Delete a cluster with its keys, and close their connections."""
    cluster.delete()


# API keys

KEY_SETTINGS = ("label", "protects_channels", "allows_client_messages", "allowed_origins", *QUOTA_FIELDS)


@sensitive_variables()
@transaction.atomic
def issue_key(cluster: Cluster, label: str, *, public_key: str | None = None, **settings: Any) -> IssuedKey:
    """Make a key.

    Args:
        cluster: where it gives access.
        label: what uses it.
        public_key: its public part, if that is given from elsewhere.
        settings: any of the others of KEY_SETTINGS.

    Raises:
        ValidationError: a setting is not valid.
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
    """Change some of KEY_SETTINGS.

    Raises:
        ValidationError: a setting is not valid.
    """
    if not settings:
        return
    _check_quotas(key, settings)
    _update(key, _normalized(settings))
    announce(public_key=key.public_key)


@transaction.atomic
def revoke_key(key: ApiKey) -> None:
    """Close the connections of a key and admit no more. It cannot be undone; a second time changes nothing."""
    if ApiKey.objects.filter(pk=key.pk, revoked_at=None).update(revoked_at=timezone.now()):
        record_change(AuditVerb.REVOKED, key)
        announce(public_key=key.public_key)
    key.refresh_from_db(fields=["revoked_at"])


@sensitive_variables()
@transaction.atomic
def rotate_secret(key: ApiKey) -> str:
    """Give a key a new secret, which is returned; the old one is void at once.

    Raises:
        KeyRevoked: it gives access to nothing any more.
    """
    secret = new_key()
    changed = ApiKey.objects.filter(pk=key.pk, revoked_at=None).update(secret_ciphertext=crypto.encrypt(secret))
    if not changed:
        raise KeyRevoked("This API key is revoked; issue another one.")
    record_change(AuditVerb.ROTATED, key)
    announce(public_key=key.public_key)
    return secret


def _normalized(settings: dict[str, Any]) -> dict[str, Any]:
    unknown = set(settings) - set(KEY_SETTINGS)
    if unknown:
        raise TypeError(f"An API key has no setting {', '.join(sorted(unknown))}.")
    origins = settings.get("allowed_origins")
    if isinstance(origins, list):
        lower = [origin.strip().lower() if isinstance(origin, str) else origin for origin in origins]
        return {**settings, "allowed_origins": lower}
    return settings


def _check_quotas(key: ApiKey, settings: dict[str, Any]) -> None:
    """
    Raises:
        ValidationError: the key would have more of something than its account.
    """
    account, defaults = key.cluster.account, default_quotas()
    errors: dict[str, list[str]] = {}
    for name in QUOTA_FIELDS:
        own = getattr(account, name)
        most, value = defaults[name] if own is None else own, settings.get(name)
        if isinstance(value, int) and most is not None and value > most:
            errors[name] = [f"A key cannot have more than its account, which has {most}."]
    if errors:
        raise ValidationError(errors)


# The demo tenant


def has_other_accounts() -> bool:
    """Whether there are accounts besides that of the demo tenant."""
    return Account.objects.exclude(name=DEMO_ACCOUNT_NAME, clusters__cluster_id=DEMO_CLUSTER_ID).exists()


def ensure_demo(public_key: str) -> IssuedKey:
    """Make or find the demo tenant and its key; the same each time, also when called twice at once.

    Raises:
        DemoTaken: its cluster ID belongs to another account, which must not be given a key that everybody knows.
        KeyRevoked: its key was revoked.
        crypto.DecryptionFailed: its secret was encrypted with a key that the settings do not have.
    """
    try:
        key, secret = _make_demo(public_key)
    except ValidationError:  # another process made it since this one looked
        key, secret = _make_demo(public_key)
    if key.revoked:
        raise KeyRevoked("The demo key is revoked; delete it in the admin to have it made anew.")
    return IssuedKey(key, secret or crypto.decrypt(key.secret_ciphertext))


@transaction.atomic
def _make_demo(public_key: str) -> tuple[ApiKey, str | None]:
    """The demo key, and its secret if it is made now."""
    key = ApiKey.objects.select_related("cluster").filter(public_key=public_key).first()
    if key is not None:
        return key, None
    cluster = Cluster.objects.select_related("account").filter(cluster_id=DEMO_CLUSTER_ID).first()
    if cluster is None:
        cluster = create_cluster(create_account(DEMO_ACCOUNT_NAME), DEMO_CLUSTER_ID)
    elif cluster.account.name != DEMO_ACCOUNT_NAME:
        raise DemoTaken(f"The cluster {DEMO_CLUSTER_ID!r} belongs to another account, so that there is no demo here.")
    return issue_key(cluster, "demo", public_key=public_key)
