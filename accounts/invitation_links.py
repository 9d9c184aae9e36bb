"""The links in invitations. Each contains a token that works once; the database has only its hash."""

from functools import partial

from allauth.account.utils import get_next_redirect_url
from allauth.core import context
from django.conf import settings
from django.core.mail import send_mail
from django.db import transaction
from django.http import HttpRequest
from django.template.loader import render_to_string
from django.urls import Resolver404, resolve, reverse
from django.views.decorators.debug import sensitive_variables
from redis.exceptions import RedisError

from . import attempts
from .audit import is_operator
from .models import Invitation


@sensitive_variables()
def deliver(invitation: Invitation, token: str) -> str | None:
    """Send an invitation by mail after commit, unless the address got too many of them.

    Args:
        invitation: the invitation.
        token: the token in its link.

    Returns:
        The link for the inviter to pass on if this service sends no mail; otherwise None, as in a command, which does
        not know the host.
    """
    request = context.request
    if request is None:
        return None
    link: str = request.build_absolute_uri(reverse("console:invitation", args=[token]))
    if not settings.SENDS_MAIL:
        return link
    is_by_operator = is_operator(request.user, invitation.account)
    inviter = f"An operator of {settings.SITE_NAME}" if is_by_operator else request.user.get_username()
    transaction.on_commit(partial(_send, invitation, link, inviter))
    return None


@sensitive_variables()
def _send(invitation: Invitation, link: str, inviter: str) -> None:
    try:
        if attempts.attempt(attempts.MAILS, f"invitation {invitation.email}"):
            return
    except RedisError:
        return
    values = {"invitation": invitation, "link": link, "site_name": settings.SITE_NAME, "inviter": inviter}
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
