"""Rate limits per network address and per user."""

from typing import Any

from django.views.decorators.debug import sensitive_variables
from rest_framework.request import Request
from rest_framework.throttling import AnonRateThrottle, BaseThrottle, UserRateThrottle

from accounts import logins


class LoginThrottle(BaseThrottle):
    """Limits the attempts for one e-mail address and from one network address."""

    @sensitive_variables()
    def allow_request(self, request: Request, view: Any) -> bool:
        data = request.data
        # str(), because the serializer also accepts numbers as text.
        email = str(data.get("email")) if isinstance(data, dict) else ""
        self._seconds = logins.seconds_to_wait(request, email)
        return not self._seconds

    def wait(self) -> float:
        return self._seconds


class OwnPasswordThrottle(BaseThrottle):
    """Limits how often the logged-in user can try their current password, together with their login attempts."""

    def allow_request(self, request: Request, view: Any) -> bool:
        self._seconds = logins.seconds_to_wait(request, request.user.get_username())
        return not self._seconds

    def wait(self) -> float:
        return self._seconds


class _ByNetwork(BaseThrottle):
    """Identifies clients by their network, so that all IPv6 addresses of one client count together."""

    def get_ident(self, request: Request) -> str:
        return logins.client_network(request)


class AddressThrottle(_ByNetwork, AnonRateThrottle):
    """Limits the requests of users who are not logged in."""


class UserThrottle(_ByNetwork, UserRateThrottle):
    """Limits the requests of users who are logged in."""
