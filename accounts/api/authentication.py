"""Authentication with the tokens of the REST API, which limits the number of wrong ones."""

from typing import Any

from django.core.cache import cache
from django.views.decorators.debug import sensitive_variables
from knox import auth
from knox.crypto import hash_token
from rest_framework.exceptions import AuthenticationFailed, Throttled
from rest_framework.request import Request
from rest_framework.throttling import SimpleRateThrottle

from accounts.counters import count, counted
from accounts.logins import client_network
from accounts.second_factors import MISSING, lacks_second_factor
from accounts.tokens import record_use, valid_tokens

# How long a token that was used is accepted despite wrong ones from the same address.
USED_SECONDS = 3600


class _WrongTokenRate(SimpleRateThrottle):
    scope = "anon"
    num_requests: int
    duration: int  # in seconds


class TokenAuthentication(auth.TokenAuthentication):  # type: ignore[misc]
    """Finds a token with one query, and rejects addresses that send too many wrong ones without any.

    Each address may send as many wrong tokens as it may send requests without a token (`API_ANON_RATE`). Beyond that,
    only tokens that were used recently are looked up, so that a client with an expired token does not keep others
    behind the same address out.
    """

    def authenticate(self, request: Request) -> Any:
        self._network = client_network(request)
        return super().authenticate(request)

    @sensitive_variables()
    def authenticate_credentials(self, token: bytes) -> Any:
        """Return the user and the token.

        Raises:
            AuthenticationFailed: the token is wrong or has expired, or its user is inactive or lacks a second factor.
            Throttled: too many wrong tokens came from the address.
        """
        rate, digest = _WrongTokenRate(), hash_token(token.decode("latin-1"))
        wrong, used = f"wrong_tokens_from_{self._network}", f"used_token_{digest[:64]}"
        if counted(wrong) >= rate.num_requests and cache.get(used) is None:
            raise Throttled(wait=rate.duration)
        found = valid_tokens().select_related("user").filter(digest=digest, user__is_active=True).first()
        if found is None:
            count(wrong, rate.duration)
            cache.delete(used)
            raise AuthenticationFailed("Invalid token.")
        if lacks_second_factor(found.user):
            raise AuthenticationFailed(MISSING)
        cache.add(used, True, USED_SECONDS)
        record_use(found)
        return found.user, found
