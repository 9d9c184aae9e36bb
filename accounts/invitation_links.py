"""The links in invitations. Each contains a token that works once; the database has only its hash."""

from allauth.account.utils import get_next_redirect_url
from allauth.core import context
from django.conf import settings
from django.core.mail import send_mail
from django.http import HttpRequest
from django.template.loader import render_to_string
from django.urls import Resolver404, resolve, reverse
from django.views.decorators.debug import sensitive_variables
from redis.exceptions import RedisError

from . import attempts
from .models import Invitation


@sensitive_variables()
def invitation_link(token: str) -> str | None:
    """Return the link with a token, on the host of the current request; None if there is no request."""
    request = context.request
    return request.build_absolute_uri(reverse("console:invitation", args=[token])) if request else None


@sensitive_variables()
def send_invitation(invitation: Invitation, token: str) -> None:
    """Send the mail of an invitation, unless the address got too many of them.

    Args:
        invitation: the invitation.
        token: the token in its link.
    """
    link = invitation_link(token)
    try:
        if link is None or attempts.attempt(attempts.MAILS, f"invitation {invitation.email}"):
            return
    except RedisError:
        return
    values = {"invitation": invitation, "link": link, "site_name": settings.SITE_NAME, "inviter": context.request.user}
    subject = f"Invitation to {invitation.account.name} at {settings.SITE_NAME}"
    message = render_to_string("console/mail/invitation.txt", values)
    send_mail(" ".join(subject.split()), message, None, [invitation.email])


def invitation_in(request: HttpRequest) -> tuple[Invitation, str] | None:
    """Return the invitation that a person is answering by signing up, and its token; None if there is none.

    It is the page to which the sign-up leads.
    """
    try:
        match = resolve(get_next_redirect_url(request) or "")
    except Resolver404:
        return None
    if match.view_name != "console:invitation":
        return None
    token: str = match.kwargs["token"]
    invitation = Invitation.objects.with_token(token).select_related("account").first()
    return (invitation, token) if invitation else None
