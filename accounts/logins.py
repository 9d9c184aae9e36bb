"""The rate limit for login attempts, in the REST API and in the admin together.

Attempts are counted in the cache, which all nodes share: those from one network address, and those for one e-mail
address from anywhere. Attempts from a network address from which this user has logged in before count only for the
network address. This way nobody can lock a user out by guessing from elsewhere.
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
    """Count a login attempt; return the longest time to wait before another one, or 0 if this one is allowed."""
    rate = _LoginRate()
    address = client_network(request)
    counters = [f"login_from_{_digest(address)}"]
    if cache.get(_known(email, address)) is None:
        counters.append(f"login_as_{_digest(normalize_email(email))}")
    # Each is counted, whatever the others say.
    counts = [_count(counter, rate.duration) for counter in counters]
    return rate.duration if max(counts) > rate.num_requests else 0


def remember(request: HttpRequest, email: str) -> None:
    """Remember that this user has logged in from this network address."""
    cache.set(_known(email, client_network(request)), True, REMEMBER_SECONDS)


def client_network(request: HttpRequest) -> str:
    """Whose attempts count together: an IPv4 address, or the 64 bits of an IPv6 address that one customer has."""
    return network_of(str(BaseThrottle().get_ident(request)))  # type: ignore[arg-type]


def _count(key: str, seconds: int) -> int:
    """Count one more within a span of time that begins with the first one; safe with many at once."""
    cache.add(key, 0, seconds)
    try:
        return cache.incr(key)
    except ValueError:  # it has just ended
        cache.add(key, 1, seconds)
        return 1


def _known(email: str, address: str) -> str:
    return f"login_known_{_digest(f'{address} {normalize_email(email)}')}"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode(errors="replace")).hexdigest()
