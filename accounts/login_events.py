"""What follows when people sign up or change how they log in: their first account, and audit entries."""

import contextlib
from typing import Any

from django.conf import settings
from django.core.exceptions import ValidationError
from django.http import HttpRequest

from . import services
from .audit import record_login_change
from .audit_log import AuditVerb, ResourceKind
from .invitation_links import invitation_in
from .locks import Refused
from .users import User


def signed_up(request: HttpRequest, user: User, **_: Any) -> None:
    """Let a person who has just signed up join the account that has invited them, or create their first account.

    Without an invitation, the account is created as soon as the e-mail address needs no verification any more.
    """
    record_login_change(AuditVerb.CREATED, ResourceKind.USER, user, user.email)
    if invited := invitation_in(request):
        invitation, token = invited
        with contextlib.suppress(Refused, ValidationError):  # the account was suspended in the meantime
            services.accept_invitation(invitation, user, token=token)
    elif not settings.SENDS_MAIL:
        _create_first_account(user)


def address_verified(email_address: Any, **_: Any) -> None:
    """Create the first account of a person who has just verified their address."""
    if email_address.user.last_login is None:
        _create_first_account(email_address.user)


def password_changed(user: User, **_: Any) -> None:
    """Record that a password was changed or removed."""
    record_login_change(AuditVerb.CHANGED, ResourceKind.USER, user, f"Password of {user.email}")


def second_factor_added(user: User, authenticator: Any, **_: Any) -> None:
    """Record that a user can log in with another second factor."""
    record_login_change(AuditVerb.CREATED, ResourceKind.FACTOR, user, _name(user, authenticator))


def second_factor_removed(user: User, authenticator: Any, **_: Any) -> None:
    """Record that a user can no longer log in with a second factor."""
    record_login_change(AuditVerb.DELETED, ResourceKind.FACTOR, user, _name(user, authenticator))


def _name(user: User, authenticator: Any) -> str:
    return f"{authenticator.get_type_display()} of {user.email}"


def _create_first_account(user: User) -> None:
    if not user.memberships.exists():
        with contextlib.suppress(Refused):  # only operators create accounts
            services.create_own_account(user, user.email.partition("@")[0])
