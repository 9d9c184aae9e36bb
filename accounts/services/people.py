"""The services that change users and the memberships of accounts."""

from django.core.exceptions import ValidationError
from django.db import connection, transaction
from django.db.models import ProtectedError

from ..locks import Gone, lock_account, lock_accounts
from ..models import Account, Membership, Role
from ..usage import inherit
from ..users import User
from .changes import check_room, create_recorded, update_recorded

ONLY_OWNER = (
    "This user is the only active owner of an account. Make another person its owner first, or delete the account."
)


LAST_OWNER = "An account needs an owner. Make someone else an owner first."


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
    lock_user(user, to_delete=True)
    try:
        user.delete()
    except ProtectedError:
        raise ValidationError(ONLY_OWNER) from None


def _lock_owned_accounts(user: User) -> list[int]:
    owned = list(user.memberships.filter(role=Role.OWNER).values_list("account", flat=True))
    if connection.in_atomic_block:  # otherwise a lock would end immediately
        lock_accounts(owned)
    return owned


def lock_user(user: User, *, to_delete: bool = False) -> None:
    """Lock a user's row, after the accounts that are to be locked, until the end of the transaction.

    Raises:
        Gone: the user was deleted in the meantime.
    """
    if not User.objects.select_for_update(no_key=not to_delete).filter(pk=user.pk).values("pk").first():
        raise Gone("This user was deleted in the meantime.")


@transaction.atomic
def add_member(account: Account, user: User, role: str = Role.VIEWER) -> Membership:
    """Add a user to an account without asking them. Owners invite people instead.

    Raises:
        ValidationError: the user already belongs to the account, or the role does not exist.
        QuotaReached: the account has too many people.
        Gone, AccountSuspended: see `lock_account`.
    """
    account = lock_account(account)
    lock_user(user)
    account.invitations.filter(email=user.email).delete()
    check_room_for_person(account)
    membership = Membership(account=account, user=user, role=role)
    create_recorded(membership, "role")
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
    update_recorded(membership, {"role": role})
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
        raise ValidationError(LAST_OWNER)


def check_room_for_person(account: Account) -> None:
    check_room(account, "max_members", account.memberships.count() + account.invitations.pending().count())
