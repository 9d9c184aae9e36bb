"""How often somebody may try to log in."""

from django.views.decorators.debug import sensitive_variables
from rest_framework.request import Request
from rest_framework.throttling import BaseThrottle
from rest_framework.views import APIView

from accounts import logins


class LoginThrottle(BaseThrottle):
    """Attempts on a name and from an address."""

    @sensitive_variables()
    def allow_request(self, request: Request, view: APIView) -> bool:
        data = request.data
        # As the serializer reads it: a number is text.
        name = str(data.get("username")) if isinstance(data, dict) else ""
        self._seconds = logins.seconds_to_wait(request, name)
        return not self._seconds

    def wait(self) -> float:
        return self._seconds
