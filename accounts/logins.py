"""The rate limit for login attempts, which the REST API and the admin share.

Attempts are counted in the cache, which all nodes share: one counter per network address, and one per e-mail address.
If the user has logged in from this network address before, an attempt counts only for the network address, so nobody
can lock a user out by guessing from elsewhere.
"""

import hashlib

from django.core.cache import cache
from django.http import HttpRequest
from rest_framework.throttling import BaseThrottle, SimpleRateThrottle

from .networks import network_of
from .users import normalize_email

REMEMBER_SECONDS = 90 * 86400


class _LoginRate(SimpleRateThrottle):
    scope = "login"
    num_requests: int
    duration: int  # in seconds


def seconds_to_wait(request: HttpRequest, email: str) -> int:
    """Count a login attempt, and return how many seconds to wait before the next, or 0 if this attempt is allowed."""
    rate = _LoginRate()
    address = client_network(request)
    counters = [f"login_from_{_digest(address)}"]
    if cache.get(_known(email, address)) is None:
        counters.append(f"login_as_{_digest(normalize_email(email))}")
    # Every counter is incremented, even if another has already reached the limit.
    counts = [_count(counter, rate.duration) for counter in counters]
    return rate.duration if max(counts) > rate.num_requests else 0


def remember(request: HttpRequest, email: str) -> None:
    """Remember that this user has logged in from this network address."""
    cache.set(_known(email, client_network(request)), True, REMEMBER_SECONDS)


def client_network(request: HttpRequest) -> str:
    """Return the network that a request comes from: an IPv4 address, or the /64 network of an IPv6 address."""
    return network_of(str(BaseThrottle().get_ident(request)))  # type: ignore[arg-type]


def _count(key: str, seconds: int) -> int:
    """Increment a counter that expires some seconds after its first increment. Safe for concurrent requests."""
    cache.add(key, 0, seconds)
    try:
        return cache.incr(key)
    except ValueError:  # the counter has just expired
        cache.add(key, 1, seconds)
        return 1


def _known(email: str, address: str) -> str:
    return f"login_known_{_digest(f'{address} {normalize_email(email)}')}"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode(errors="replace")).hexdigest()
