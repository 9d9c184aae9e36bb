"""The services that change accounts. The REST API, the admin and the commands call them and add no rules of their own.

Each service locks the account first, and then checks that everything still exists and that the account is active. It
validates its input, writes the change and its audit entry in one transaction, and announces the change to the data
plane after commit. Deletions of accounts, clusters and members are recorded and announced by signals (see `apps.py`),
once for all that is deleted with them.
"""

from datetime import datetime, timedelta
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import IntegrityError, connection, transaction
from django.db.models import F, ProtectedError, Q
from django.utils import timezone
from django.views.decorators.debug import sensitive_variables

from . import crypto
from .audit import record_change
from .demo import DEMO_ACCOUNT_NAME, DEMO_CLUSTER_ID
from .locks import Gone, Refused, lock_account, lock_accounts
from .models import Account, ApiKey, AuditVerb, Cluster, Invitation, Membership, Resource, Role, new_key
from .quotas import QUOTA_FIELDS, default_quotas
from .signals import announce
from .usage import deleted_today, inherit, leave_behind
from .users import User, may_operate, normalize_email


class IssuedKey(NamedTuple):
    """A key and its secret, which is shown only once."""

    key: ApiKey
    secret: str

    def __repr__(self) -> str:
        return f"IssuedKey(key={self.key!r})"


class KeyRevoked(Refused):
    """The operation is impossible because the key is revoked."""


class DemoTaken(Refused):
    """The ID of the demo tenant's cluster belongs to another account."""


class NotAllowed(Refused):
    """The user may not do this now."""


class QuotaReached(Refused):
    """The account owns as much as its quota allows."""


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


def _check_room(account: Account, quota: str, used: int) -> None:
    """Check that an account may own one more of something.

    Args:
        account: the locked account.
        quota: the name of the quota's field.
        used: how many it owns.

    Raises:
        QuotaReached: it may not.
    """
    own = getattr(account, quota)
    limit = default_quotas()[quota] if own is None else own
    if used >= limit:
        name = account._meta.get_field(quota).verbose_name  # type: ignore[union-attr]
        raise QuotaReached(f"The account has reached its quota of {limit} {name}.")


# Accounts

# How many of the accounts that a person deletes in a day can be replaced on the same day.
MAX_DELETED_PER_DAY = 10


@transaction.atomic
def create_account(name: str, owner: User | None = None) -> Account:
    """Create an account for an operator, with its first owner if one is given.

    Raises:
        ValidationError: the name is empty or too long.
    """
    account = Account(name=name)
    _create(account, "name")
    if owner is not None:
        add_member(account, owner, Role.OWNER)
    return account


@transaction.atomic
def create_own_account(user: User, name: str) -> Account:
    """Create an account for the user who asks for it, and who becomes its owner.

    Operators may create as many as they like, and everyone else `ACCOUNTS_PER_PERSON`.

    Raises:
        NotAllowed: the user may not create another account.
        ValidationError: the name is empty or too long.
    """
    _lock_user(user)  # its other requests wait, so that each counts the accounts of all
    if not may_operate(user, "add", Account):
        _check_may_create_account(user)
    account = Account(name=name, creator=user)
    _create(account, "name")
    add_member(account, user, Role.OWNER)
    return account


def _check_may_create_account(user: User) -> None:
    limit = settings.ACCOUNTS_PER_PERSON
    if not limit:
        raise NotAllowed("Only operators of this service can create accounts.")
    own = Q(creator=user) | Q(memberships__user=user, memberships__role=Role.OWNER)
    if Account.objects.filter(own, suspended_at__isnull=False).exists():
        raise NotAllowed("An account of yours is suspended. You cannot create another one until it is resumed.")
    if Account.objects.filter(creator=user).count() >= limit:
        raise NotAllowed(f"You have created as many accounts as you may, which is {limit}.")
    if deleted_today(user) >= MAX_DELETED_PER_DAY:
        raise NotAllowed("You have deleted too many accounts today. You can create another one after midnight UTC.")


@transaction.atomic
def rename_account(account: Account, name: str) -> None:
    """Rename an account.

    Raises:
        ValidationError: the name is empty or too long.
        Gone, AccountSuspended: see `lock_account`.
    """
    lock_account(account)
    _update(account, {"name": name})


@transaction.atomic
def set_quotas(account: Account, **quotas: int | None) -> None:
    """Change some quotas of an account. They also limit keys that have set higher ones.

    Args:
        account: the account, which may be suspended.
        quotas: the new values by field name; None restores the default.

    Raises:
        ValidationError: a value is invalid.
        Gone: the account was deleted.
    """
    if unknown := set(quotas) - set(default_quotas()):
        raise TypeError(f"Unknown quotas of an account: {', '.join(sorted(unknown))}")
    if not quotas:
        return
    lock_account(account, suspended_too=True)
    _update(account, quotas)
    announce(account_id=account.pk)


@transaction.atomic
def suspend_account(account: Account) -> None:
    """Close all connections of an account and reject new ones. Does nothing if the account is already suspended.

    Raises:
        Gone: the account was deleted.
    """
    _set_suspension(account, AuditVerb.SUSPENDED, timezone.now())


@transaction.atomic
def resume_account(account: Account) -> None:
    """End the suspension of an account. Does nothing if the account is not suspended.

    Raises:
        Gone: the account was deleted.
    """
    _set_suspension(account, AuditVerb.RESUMED, None)


def _set_suspension(account: Account, verb: AuditVerb, suspended_at: datetime | None) -> None:
    current = lock_account(account, suspended_too=True)
    if current.suspended != (suspended_at is not None):
        current.suspended_at = suspended_at
        current.save(update_fields=["suspended_at"])
        record_change(verb, current)
        announce(account_id=current.pk)
    account.suspended_at = current.suspended_at


@transaction.atomic
def delete_account(account: Account, *, suspended_too: bool = False) -> None:
    """Delete an account with all that it owns, and close its connections. What it has sent today is kept.

    Args:
        account: the account.
        suspended_too: whether to delete it even if it is suspended, which only operators may do.

    Raises:
        Gone, AccountSuspended: see `lock_account`.
    """
    locked = lock_account(account, suspended_too=suspended_too, to_delete=True)
    leave_behind(locked)
    locked.delete()


# Users

ONLY_OWNER = (
    "This user is the only active owner of an account. Make another person its owner first, or delete the account."
)


def check_deactivation(user: User) -> None:
    """Check that a user who is going to be saved leaves no account without an owner who can log in.

    Raises:
        ValidationError: they do.
    """
    if user.pk is None or user.is_active or not User.objects.filter(pk=user.pk, is_active=True).exists():
        return
    owned = _lock_owned_accounts(user)
    kept = Membership.objects.active_owners(owned).exclude(user=user)
    if set(owned) - set(kept.values_list("account", flat=True)):
        raise ValidationError(ONLY_OWNER)


@transaction.atomic
def delete_user(user: User) -> None:
    """Delete a user, and remove them from their accounts.

    Raises:
        ValidationError: an account would be left without an owner.
    """
    _lock_owned_accounts(user)
    _lock_user(user, to_delete=True)
    try:
        user.delete()
    except ProtectedError:
        raise ValidationError(ONLY_OWNER) from None


def _lock_owned_accounts(user: User) -> list[int]:
    owned = list(user.memberships.filter(role=Role.OWNER).values_list("account", flat=True))
    if connection.in_atomic_block:  # otherwise a lock would end immediately
        lock_accounts(owned)
    return owned


def _lock_user(user: User, *, to_delete: bool = False) -> None:
    """Lock a user's row, after the accounts that are to be locked, until the end of the transaction.

    Raises:
        Gone: the user was deleted in the meantime.
    """
    if not User.objects.select_for_update(no_key=not to_delete).filter(pk=user.pk).values("pk").first():
        raise Gone("This user was deleted in the meantime.")


# Members


@transaction.atomic
def add_member(account: Account, user: User, role: str = Role.VIEWER) -> Membership:
    """Add a user to an account without asking them. Owners invite people instead.

    Raises:
        ValidationError: the user already belongs to the account, or the role does not exist.
        QuotaReached: the account has too many people.
        Gone, AccountSuspended: see `lock_account`.
    """
    account = lock_account(account)
    _lock_user(user)
    account.invitations.filter(email=user.email).delete()
    _check_room_for_person(account)
    membership = Membership(account=account, user=user, role=role)
    _create(membership, "role")
    if role == Role.OWNER:
        inherit(account, user)
    return membership


@transaction.atomic
def set_role(membership: Membership, role: str) -> None:
    """Change the role of a member.

    Raises:
        ValidationError: the role does not exist, or the account would be left without an owner.
        Gone, AccountSuspended: see `lock_account`.
    """
    account = lock_account(membership)
    if role != Role.OWNER:
        _check_another_owner(membership)
    _update(membership, {"role": role})
    if role == Role.OWNER:
        inherit(account, membership.user)


@transaction.atomic
def remove_member(membership: Membership) -> None:
    """Remove a member from an account, or let them leave it.

    Raises:
        ValidationError: the account would be left without an owner.
        Gone, AccountSuspended: see `lock_account`.
    """
    lock_account(membership)
    _check_another_owner(membership)
    membership.delete()


def _check_another_owner(membership: Membership) -> None:
    """Check that a locked account keeps an owner who can log in without this member."""
    is_owner = Membership.objects.filter(pk=membership.pk, role=Role.OWNER).exists()
    others = Membership.objects.active_owners([membership.account_id]).exclude(pk=membership.pk)
    if is_owner and not others.exists():
        raise ValidationError("An account must have at least one owner.")


def _check_room_for_person(account: Account) -> None:
    _check_room(account, "max_members", account.memberships.count() + account.invitations.pending().count())


# Invitations


@transaction.atomic
def invite(account: Account, email: str, role: str = Role.VIEWER) -> Invitation:
    """Invite a person to an account. The answer is the same whether the address has a user or not.

    Raises:
        ValidationError: the person already belongs to the account or is invited, or a value is invalid.
        QuotaReached: the account has too many people.
        Gone, AccountSuspended: see `lock_account`.
    """
    account = lock_account(account)
    invitation = Invitation(account=account, email=normalize_email(email), role=role)
    account.invitations.exclude(pk__in=account.invitations.pending()).delete()
    if account.memberships.filter(user__email=invitation.email).exists():
        raise ValidationError({"email": ["This person already belongs to the account."]})
    _check_room_for_person(account)
    _create(invitation, "role")
    return invitation


@transaction.atomic
def accept_invitation(invitation: Invitation, user: User) -> Membership:
    """Make the invited user a member of the account.

    Raises:
        ValidationError: the user already belongs to the account.
        Gone, AccountSuspended: see `lock_account`.
    """
    account = lock_account(invitation)
    _check_is_for(invitation, user)
    invitation.delete()
    return add_member(account, user, invitation.role)


@transaction.atomic
def decline_invitation(invitation: Invitation, user: User) -> None:
    """Decline an invitation, in a suspended account too.

    Raises:
        Gone: the invitation no longer exists, or is another user's.
    """
    lock_account(invitation, suspended_too=True)
    _check_is_for(invitation, user)
    record_change(AuditVerb.DECLINED, invitation)
    invitation.delete()


@transaction.atomic
def revoke_invitation(invitation: Invitation) -> None:
    """Revoke an invitation.

    Raises:
        Gone, AccountSuspended: see `lock_account`.
    """
    lock_account(invitation)
    record_change(AuditVerb.REVOKED, invitation)
    invitation.delete()


def _check_is_for(invitation: Invitation, user: User) -> None:
    if not Invitation.objects.for_user(user).filter(pk=invitation.pk).exists():
        raise Gone("This invitation does not exist.")


# Clusters


@transaction.atomic
def create_cluster(account: Account, cluster_id: str, *, enabled: bool = True) -> Cluster:
    """Create a cluster.

    Raises:
        ValidationError: the cluster ID is not a DNS label, is reserved, or is already taken.
        QuotaReached: the account has too many clusters.
        Gone, AccountSuspended: see `lock_account`.
    """
    account = lock_account(account)
    if any(fnmatchcase(cluster_id, pattern) for pattern in settings.RESERVED_CLUSTER_IDS):
        raise ValidationError({"cluster_id": ["This cluster ID is reserved. Choose another one."]})
    _check_room(account, "max_clusters", account.clusters.count())
    cluster = Cluster(account=account, cluster_id=cluster_id, enabled=enabled)
    _create(cluster, "enabled")
    return cluster


@transaction.atomic
def update_cluster(cluster: Cluster, *, enabled: bool) -> None:
    """Enable or disable a cluster. Disabling it closes its connections.

    Raises:
        Gone, AccountSuspended: see `lock_account`.
    """
    lock_account(cluster)
    _update(cluster, {"enabled": enabled})
    announce(cluster_pk=cluster.pk)


@transaction.atomic
def delete_cluster(cluster: Cluster, *, suspended_too: bool = False) -> None:
    """Delete a cluster with its keys, and close their connections.

    Args:
        cluster: the cluster.
        suspended_too: whether to delete it even if its account is suspended, which only operators may do.

    Raises:
        Gone, AccountSuspended: see `lock_account`.
    """
    lock_account(cluster, suspended_too=suspended_too)
    cluster.delete()


# API keys

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
    _check_room(account, "max_keys", ApiKey.objects.filter(cluster__account=account, revoked_at=None).count())
    secret = new_key()
    key = ApiKey(cluster=cluster, label=label, secret_ciphertext=crypto.encrypt(secret), **_normalized(settings))
    if public_key is not None:
        key.public_key = public_key
    _check_quotas(account, settings)
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
        Gone, AccountSuspended: see `lock_account`.
    """
    if not settings:
        return
    _check_quotas(lock_account(key), settings)
    _update(key, _normalized(settings))
    announce(public_key=key.public_key)


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
    defaults = default_quotas()
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
    return Account.objects.filter(is_demo=False).exists()


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
    # A tenant may have used the demo's names, so neither is a proof.
    foreign = Account.objects.filter(is_demo=False)
    in_use = Q(clusters__cluster_id=DEMO_CLUSTER_ID) | Q(clusters__keys__public_key=public_key)
    if foreign.filter(in_use).exists():
        raise DemoTaken(
            f"The cluster {DEMO_CLUSTER_ID!r} belongs to another account, so the demo tenant cannot be created."
        )
    key = ApiKey.objects.select_related("cluster").filter(public_key=public_key).first()
    if key is not None:
        return key, None
    account = Account.objects.filter(is_demo=True).first()
    if account is None:
        account = Account(name=DEMO_ACCOUNT_NAME, is_demo=True)
        _create(account, "name")
    cluster = account.clusters.filter(cluster_id=DEMO_CLUSTER_ID).first() or create_cluster(account, DEMO_CLUSTER_ID)
    return issue_key(cluster, "demo", public_key=public_key)
