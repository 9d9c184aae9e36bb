"""Rate limits by address and by person."""

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
        # The serializer, too, reads a number as text.
        email = str(data.get("email")) if isinstance(data, dict) else ""
        self._seconds = logins.seconds_to_wait(request, email)
        return not self._seconds

    def wait(self) -> float:
        return self._seconds


class _ByNetwork(BaseThrottle):
    """Identifies an address by its network, whatever port a proxy adds and which of its IPv6 addresses it uses."""

    def get_ident(self, request: Request) -> str:
        return logins.client_network(request)


class AddressThrottle(_ByNetwork, AnonRateThrottle):
    """Requests of people who are not logged in."""


class PersonThrottle(_ByNetwork, UserRateThrottle):
    """Requests of people who are logged in."""
