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
        name = data.get("username") if isinstance(data, dict) else None
        if not isinstance(name, str):
            return None
        ident = hashlib.sha256(name.lower().encode(errors="replace")).hexdigest()
        return f"throttle_login_name_{ident}"
