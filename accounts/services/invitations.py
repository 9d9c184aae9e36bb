"""The services that invite people to accounts."""

import secrets

from django.core.exceptions import ValidationError
from django.db import transaction
from django.views.decorators.debug import sensitive_variables

from ..audit import record_change
from ..invitation_links import deliver
from ..invitation_rows import hash_of_token
from ..locks import Gone, lock_account
from ..models import Account, AuditVerb, Invitation, Membership, Role
from ..users import User, normalize_email
from .changes import create_recorded
from .people import add_member, check_room_for_person


@sensitive_variables()
@transaction.atomic
def invite(account: Account, email: str, role: str = Role.VIEWER) -> Invitation:
    """Invite a person to an account. The answer is the same whether the address has a user or not.

    After commit, the person gets a mail with a link that works once. If this service sends no mail, the inviter passes
    the link on.

    Returns:
        The invitation, which has the `link` if no mail was sent.

    Raises:
        ValidationError: the person already belongs to the account or is invited, or a value is invalid.
        QuotaReached: the account has too many people.
        Gone, AccountSuspended: see `lock_account`.
    """
    account = lock_account(account)
    token = secrets.token_urlsafe(32)
    invitation = Invitation(account=account, email=normalize_email(email), role=role, token_hash=hash_of_token(token))
    account.invitations.exclude(pk__in=account.invitations.pending()).delete()
    if account.memberships.filter(user__email=invitation.email).exists():
        raise ValidationError({"email": ["This person already belongs to the account."]})
    check_room_for_person(account)
    create_recorded(invitation, "role")
    invitation.link = deliver(invitation, token)
    return invitation


@transaction.atomic
def accept_invitation(invitation: Invitation, user: User, *, token: str = "") -> Membership:
    """Make the invited user a member of the account.

    Args:
        invitation: the invitation.
        user: the user, who has the invited address.
        token: the token in the link, which users whose address is not verified need.

    Raises:
        ValidationError: the user already belongs to the account.
        Gone, AccountSuspended: see `lock_account`.
    """
    account = lock_account(invitation)
    _check_is_for(invitation, user, token)
    invitation.delete()
    return add_member(account, user, invitation.role)


@transaction.atomic
def decline_invitation(invitation: Invitation, user: User, *, token: str = "") -> None:
    """Decline an invitation, in a suspended account too. See `accept_invitation` for the arguments.

    Raises:
        Gone: the invitation no longer exists, or is another user's.
    """
    lock_account(invitation, suspended_too=True)
    _check_is_for(invitation, user, token)
    record_change(AuditVerb.DECLINED, invitation)
    invitation.delete()


@transaction.atomic
def revoke_invitation(invitation: Invitation, *, suspended_too: bool = False) -> None:
    """Revoke an invitation.

    Args:
        invitation: the invitation.
        suspended_too: whether to revoke it even if the account is suspended, which only operators may do.

    Raises:
        Gone, AccountSuspended: see `lock_account`.
    """
    lock_account(invitation, suspended_too=suspended_too)
    record_change(AuditVerb.REVOKED, invitation)
    invitation.delete()


def _check_is_for(invitation: Invitation, user: User, token: str) -> None:
    own = Invitation.objects.with_token(token).filter(email=user.email) if token else Invitation.objects.for_user(user)
    if not own.filter(pk=invitation.pk).exists():
        raise Gone("This invitation does not exist.")
