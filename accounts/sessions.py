"""The sessions of users. They are Django's own; allauth's `UserSession` records the user and the client of each."""

from typing import Any

from allauth.account.adapter import get_adapter
from allauth.usersessions.models import UserSession
from django.contrib.sessions.models import Session
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils import timezone

from .users import User

# The maximum number of sessions of each user. Beyond it, the oldest end.
MAX_SESSIONS = 50

MAX_BROWSER_LENGTH: int = UserSession._meta.get_field("user_agent").max_length


def sessions_of(user: User) -> QuerySet[UserSession]:
    """Return the records of the sessions of a user that have not ended, newest first."""
    existing = Session.objects.filter(expire_date__gt=timezone.now()).values("session_key")
    return UserSession.objects.filter(user=user, session_key__in=existing).order_by("-pk")  # type: ignore[no-any-return]


def record_session(request: HttpRequest, user: User, **_: Any) -> None:
    """Record the session in which a user has just logged in, and end the oldest beyond `MAX_SESSIONS`."""
    if not request.session.session_key:  # another user's session has just ended in this browser
        request.session.save()
    browser = request.META.get("HTTP_USER_AGENT", "").replace("\0", "")  # PostgreSQL rejects NUL
    UserSession.objects.update_or_create(
        session_key=request.session.session_key,
        defaults={"user": user, "ip": get_adapter().get_client_ip(request), "user_agent": browser[:MAX_BROWSER_LENGTH]},
    )
    records = UserSession.objects.filter(user=user)
    oldest = list(records.order_by("-pk").values_list("session_key", flat=True)[MAX_SESSIONS:])
    Session.objects.filter(session_key__in=oldest).delete()
    records.filter(session_key__in=oldest).delete()
