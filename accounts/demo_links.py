"""The link with which the reader of a terminal logs in as the owner of the demo tenant: signed, for an hour, once."""

from typing import Any

from django.core import signing
from django.views.decorators.debug import sensitive_variables

from . import services
from .demo import DEMO_OWNER
from .users import User

SECONDS = 3600
_SALT = "accounts.demo_links"


def new_demo_token() -> str | None:
    """Return the token of a new link; None if the database has other accounts, or the demo tenant has no owner."""
    owner = User.objects.filter(email=DEMO_OWNER, is_active=True).first()
    if owner is None or services.has_other_accounts():
        return None
    return signing.dumps(_state(owner), salt=_SALT)


@sensitive_variables()
def owner_of(token: str) -> User | None:
    """Return the owner of the demo tenant if the token is valid. Locks the owner until the end of the transaction.

    A log-in makes all tokens from before it void.
    """
    try:
        state: Any = signing.loads(token, salt=_SALT, max_age=SECONDS)
    except signing.BadSignature:
        return None
    owner = User.objects.select_for_update().filter(email=DEMO_OWNER, is_active=True).first()
    if owner is None or state != _state(owner) or services.has_other_accounts():
        return None
    return owner


def _state(owner: User) -> list[Any]:
    return [owner.pk, owner.last_login and owner.last_login.isoformat()]
