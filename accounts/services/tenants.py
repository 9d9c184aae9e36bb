"""The services that change accounts."""

from datetime import datetime

from django.conf import settings
from django.db import transaction
from django.db.models import Q
from django.utils import timezone

from ..audit import record_change
from ..locks import lock_account, lock_webhooks
from ..models import Account, AuditVerb, Role
from ..quotas import default_quotas
from ..signals import announce
from ..usage import deleted_today, leave_behind
from ..users import User, may_operate
from .changes import NotAllowed, create_recorded, update_recorded
from .people import add_member, lock_user

# How many of the accounts that a person deletes in a day can be replaced on the same day.
MAX_DELETED_PER_DAY = 10


@transaction.atomic
def create_account(name: str, owner: User | None = None) -> Account:
    """Create an account for an operator, with its first owner if one is given.

    Raises:
        ValidationError: the name is empty or too long.
    """
    account = Account(name=name)
    create_recorded(account, "name")
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
    lock_user(user)  # its other requests wait, so that each counts the accounts of all
    check_may_create_account(user)
    account = Account(name=name, creator=user)
    create_recorded(account, "name")
    add_member(account, user, Role.OWNER)
    return account


def check_may_create_account(user: User) -> None:
    """Check that a user may create an account for themselves now.

    Raises:
        NotAllowed: they may not.
    """
    if may_operate(user, "add", Account):
        return
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
    update_recorded(account, {"name": name})


@transaction.atomic
def set_quota_notices(account: Account, sent: bool) -> None:
    """Switch the e-mails on or off that the owners get when their account has nearly used up a quota.

    Raises:
        Gone, AccountSuspended: see `lock_account`.
    """
    lock_account(account)
    update_recorded(account, {"sends_quota_notices": sent})


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
    update_recorded(account, quotas)
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
    lock_webhooks(cluster__account=locked)
    leave_behind(locked)
    locked.delete()
