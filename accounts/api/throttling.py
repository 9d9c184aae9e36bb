"""The rate limit for obtaining tokens."""

from django.views.decorators.debug import sensitive_variables
from rest_framework.request import Request
from rest_framework.throttling import BaseThrottle
from rest_framework.views import APIView

from accounts import logins


class LoginThrottle(BaseThrottle):
    """Limits the attempts for one e-mail address and from one network address."""

    @sensitive_variables()
    def allow_request(self, request: Request, view: APIView) -> bool:
        data = request.data
        # The serializer, too, reads a number as text.
        email = str(data.get("email")) if isinstance(data, dict) else ""
        self._seconds = logins.seconds_to_wait(request, email)
        return not self._seconds

    def wait(self) -> float:
        return self._seconds
