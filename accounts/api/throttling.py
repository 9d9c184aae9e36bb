"""How often an address may log in, or send requests without having logged in."""

from typing import Any

from django.views.decorators.debug import sensitive_variables
from rest_framework.request import Request
from rest_framework.throttling import AnonRateThrottle, BaseThrottle, UserRateThrottle

from accounts import logins


class LoginThrottle(BaseThrottle):
    """Attempts on a name and from an address."""

    @sensitive_variables()
    def allow_request(self, request: Request, view: Any) -> bool:
        data = request.data
        # As the serializer reads it: a number is text.
        name = str(data.get("username")) if isinstance(data, dict) else ""
        self._seconds = logins.seconds_to_wait(request, name)
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
