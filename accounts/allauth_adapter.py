"""How django-allauth, with which people sign up and log in, behaves in this project."""

from typing import Any

from allauth.account.adapter import DefaultAccountAdapter
from allauth.mfa.adapter import DefaultMFAAdapter
from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.utils.http import url_has_allowed_host_and_scheme
from redis.exceptions import RedisError

from . import attempts, crypto, logins
from .invitation_links import invitation_in
from .networks import address_of
from .users import User

# What people are told by mail after a change of how they log in.
NOTICES = {
    "account/email/password_changed": "Your password was changed.",
    "account/email/password_set": "Your password was set.",
    "account/email/password_reset": "Your password was reset.",
    "mfa/email/totp_activated": "An authenticator app was added to your log-in.",
    "mfa/email/totp_deactivated": "The authenticator app was removed from your log-in.",
    "mfa/email/webauthn_added": "A passkey was added to your log-in.",
    "mfa/email/webauthn_removed": "A passkey was removed from your log-in.",
    "mfa/email/recovery_codes_generated": "New recovery codes were made for your log-in. The old ones are void.",
}
# The next page shows these anyway.
_NO_MESSAGES = ("account/messages/logged_in.txt", "account/messages/logged_out.txt")


def takes_invited() -> bool:
    """Return whether people with an invitation can sign up."""
    return settings.SIGN_UP != "closed"


class AccountAdapter(DefaultAccountAdapter):  # type: ignore[misc]
    """Decides who can sign up, limits attempts and mails, and trusts the same proxies as the REST API."""

    error_messages = {
        **DefaultAccountAdapter.error_messages,
        "email_password_mismatch": "The e-mail address or the password is wrong.",
        "email_taken": "A user with this e-mail address already exists. Log in instead.",
        "enter_current_password": "This is not your current password.",
        "incorrect_password": "The password is wrong.",
        "invalid_password_reset": "The link is not valid any more. Ask for another one.",
    }

    def is_open_for_signup(self, request: HttpRequest) -> bool:
        return settings.SIGN_UP == "open" or (takes_invited() and invitation_in(request) is not None)

    def is_email_verified(self, request: HttpRequest, email: str) -> bool:
        # Whoever has the link of an invitation has got the mail.
        invited = invitation_in(request)
        return settings.SENDS_MAIL and invited is not None and invited[0].email == email

    def get_client_ip(self, request: HttpRequest) -> str:
        # The field for the address cannot be empty. "::" is the unspecified address (RFC 4291).
        return address_of(logins.client_address(request)) or "::"

    def pre_authenticate(self, request: HttpRequest, **credentials: Any) -> None:
        if obstacle := logins.obstacle(request, credentials.get("email", "")):
            raise obstacle

    def post_login(self, request: HttpRequest, user: User, **login: Any) -> HttpResponse:
        logins.remember(request, user)
        if login["signup"]:
            login["redirect_url"] = reverse("console:home")  # an invitation is accepted by now
        response: HttpResponse = super().post_login(request, user, **login)
        return response

    def new_user(self, request: HttpRequest) -> User:
        user: User = super().new_user(request)
        user.signs_up = True
        return user

    def is_safe_url(self, url: str) -> bool:
        # The other hosts in ALLOWED_HOSTS are those of clusters, which tenants name.
        request: HttpRequest = self.request
        return url_has_allowed_host_and_scheme(url, {request.get_host()}, require_https=request.is_secure())

    def get_password_change_redirect_url(self, request: HttpRequest) -> str:
        return reverse("console:security")

    def add_message(
        self, request: HttpRequest, level: int, message_template: str | None = None, *args: Any, **kwargs: Any
    ) -> None:
        if message_template not in _NO_MESSAGES:
            super().add_message(request, level, message_template, *args, **kwargs)

    def send_mail(self, template_prefix: str, email: str, context: dict[str, Any]) -> None:
        """Send a mail, unless the address got too many. The answer to the request is the same, so it tells nothing."""
        try:
            if attempts.attempt(attempts.MAILS, f"{template_prefix} {email}"):
                return
        except RedisError:
            return
        super().send_mail(template_prefix, email, {"site_name": settings.SITE_NAME, **context})

    def send_notification_mail(
        self, template_prefix: str, user: User, context: dict[str, Any] | None = None, email: str | None = None
    ) -> None:
        if settings.SENDS_MAIL:
            values = {"sentence": NOTICES[template_prefix], "ip": self.get_client_ip(self.request)}
            super().send_mail("account/email/notice", email or user.email, {"site_name": settings.SITE_NAME, **values})

    def respond_user_inactive(self, request: HttpRequest, user: User) -> HttpResponse:
        return render(request, "account/account_inactive.html", status=403)


class SecondFactorAdapter(DefaultMFAAdapter):  # type: ignore[misc]
    """Encrypts the secrets of second factors, and names this service in authenticator apps and passkeys."""

    error_messages = {
        **DefaultMFAAdapter.error_messages,
        "incorrect_code": "The code is wrong or was used already.",
        "unverified_email": "Verify your e-mail address first.",
    }

    def encrypt(self, text: str) -> str:
        return crypto.encrypt(text)

    def decrypt(self, encrypted_text: str) -> str:
        return crypto.decrypt(encrypted_text)

    def generate_authenticator_name(self, user: User, type: str) -> str:
        return "Passkey"

    def _get_site_name(self) -> str:
        return str(settings.SITE_NAME)
