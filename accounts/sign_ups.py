"""What begins when a person has signed up: an account of their own."""

import contextlib
from typing import Any

from allauth.account.utils import has_verified_email
from django.conf import settings

from . import services
from .locks import Refused
from .users import User


def signed_up(user: User, **_: Any) -> None:
    """Create the first account of a person who has just signed up, unless their address must be verified first."""
    if not settings.SENDS_MAIL or has_verified_email(user):
        _create_first_account(user)


def address_verified(email_address: Any, **_: Any) -> None:
    """Create the first account of a person who has just verified their address."""
    if email_address.user.last_login is None:
        _create_first_account(email_address.user)


def _create_first_account(user: User) -> None:
    if not user.memberships.exists():
        with contextlib.suppress(Refused):  # only operators create accounts
            services.create_own_account(user, user.email.partition("@")[0])
