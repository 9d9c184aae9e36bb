"""How often somebody may try to log in."""

import hashlib

from rest_framework.request import Request
from rest_framework.throttling import AnonRateThrottle, SimpleRateThrottle
from rest_framework.views import APIView


class LoginByAddress(AnonRateThrottle):
    """Attempts from one address."""

    scope = "login"


class LoginByName(SimpleRateThrottle):
    """Attempts on one name, from whatever addresses."""

    scope = "login"

    def get_cache_key(self, request: Request, view: APIView) -> str | None:
        data = request.data
        if not isinstance(data, dict):
            return None
        # As the serializer reads it: a number is text, and spaces around it do not count.
        name = str(data.get("username")).strip().lower()
        ident = hashlib.sha256(name.encode(errors="replace")).hexdigest()
        return f"throttle_login_name_{ident}"
