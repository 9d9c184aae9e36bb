"""The tokens of the REST API."""

from datetime import timedelta

from django.conf import settings
from django.db import transaction
from django.db.models import Q, QuerySet
from django.utils import timezone
from django.views.decorators.debug import sensitive_variables

from .audit import record_revoked_token
from .models import ApiToken
from .users import User

# The shortest time between two updates of a token's `last_used_at`.
RECORD_USE_INTERVAL = timedelta(minutes=1)


class LoginOutdated(Exception):
    """The password was changed, or the user deactivated, since the password was checked."""


def valid_tokens() -> QuerySet[ApiToken]:
    """Return the tokens that have not expired, of all users."""
    return ApiToken.objects.filter(Q(expiry=None) | Q(expiry__gt=timezone.now()))  # type: ignore[no-any-return]


@sensitive_variables()
@transaction.atomic
def create_token(user: User, name: str = "") -> tuple[ApiToken, str]:
    """Create a token for a user who has just logged in. Beyond `API_TOKENS_PER_USER`, the oldest ones end.

    Args:
        user: the user, as read when they logged in.
        name: tells the user what uses the token.

    Returns:
        The stored token, and the text that clients send, which is not stored.

    Raises:
        LoginOutdated: the user has changed since then.
    """
    # The lock lets a concurrent change of the password end this token too, and keeps the limit.
    current = User.objects.select_for_update().filter(pk=user.pk, is_active=True).first()
    if current is None or current.password != user.password:
        raise LoginOutdated
    tokens = ApiToken.objects.filter(user=user)
    tokens.filter(expiry__lte=timezone.now()).delete()
    newest = tokens.order_by("-created")[: settings.API_TOKENS_PER_USER - 1]
    tokens.exclude(pk__in=list(newest.values_list("pk", flat=True))).delete()
    token, text = ApiToken.objects.create(user, name=name)
    return token, text


def record_use(token: ApiToken) -> None:
    """Record that a token is in use, at most once a minute."""
    now = timezone.now()
    if token.last_used_at is None or token.last_used_at < now - RECORD_USE_INTERVAL:
        ApiToken.objects.filter(pk=token.pk).update(last_used_at=now)


def end_token(token: ApiToken) -> None:
    """Revoke a token for its own user."""
    token.delete()


@transaction.atomic
def revoke_token(token: ApiToken) -> None:
    """Revoke a token of any user for an operator, and record it in the audit log."""
    token.delete()
    record_revoked_token(token.user)
