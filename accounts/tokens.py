"""The tokens of the REST API."""

from django.conf import settings
from django.db import transaction
from django.db.models import Q, QuerySet
from django.utils import timezone
from django.views.decorators.debug import sensitive_variables
from knox.models import AuthToken

from .audit import record_revoked_token
from .users import User


class LoginOutdated(Exception):
    """The password was changed, or the user deactivated, since the password was checked."""


def valid_tokens() -> QuerySet[AuthToken]:
    """Return the tokens that have not expired, of all users."""
    return AuthToken.objects.filter(Q(expiry=None) | Q(expiry__gt=timezone.now()))  # type: ignore[no-any-return]


@sensitive_variables()
@transaction.atomic
def create_token(user: User) -> tuple[AuthToken, str]:
    """Create a token for a user whose password was just checked. Beyond `API_TOKENS_PER_USER`, the oldest ones end.

    Returns:
        The stored token, and the text that clients send, which is not stored.

    Raises:
        LoginOutdated: the user has changed since then.
    """
    # The lock lets a concurrent change of the password end this token too, and keeps the limit.
    current = User.objects.select_for_update().filter(pk=user.pk, is_active=True).first()
    if current is None or current.password != user.password:
        raise LoginOutdated
    tokens = AuthToken.objects.filter(user=user)
    tokens.filter(expiry__lte=timezone.now()).delete()
    newest = tokens.order_by("-created")[: settings.API_TOKENS_PER_USER - 1]
    tokens.exclude(pk__in=list(newest.values_list("pk", flat=True))).delete()
    token, text = AuthToken.objects.create(user)
    return token, text


@transaction.atomic
def revoke_token(token: AuthToken) -> None:
    """Revoke a token of any user, and record it in the audit log."""
    token.delete()
    record_revoked_token(token.user)
