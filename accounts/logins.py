"""How often somebody may try to log in, in the REST API and in the admin together.

Attempts are counted in the cache, and so by all nodes: those from one address, and those on one name from whatever
addresses. Where a name has logged in before, its attempts there are counted by the address alone, so that nobody locks
a person out by trying their name from elsewhere.
"""

import hashlib
import unicodedata

from django.core.cache import cache
from django.http import HttpRequest
from rest_framework.throttling import BaseThrottle, SimpleRateThrottle

from .networks import network_of

REMEMBER_SECONDS = 90 * 86400


class _LoginRate(SimpleRateThrottle):
    scope = "login"
    num_requests: int
    duration: int  # in seconds


def seconds_to_wait(request: HttpRequest, name: str) -> int:
    """Count an attempt to log in; return how long to wait at most, or 0 if it may be made."""
    rate = _LoginRate()
    address = client_network(request)
    counters = [f"login_from_{_digest(address)}"]
    if cache.get(_known(name, address)) is None:
        counters.append(f"login_as_{_digest(_normal(name))}")
    # Each is counted, whatever the others say.
    counts = [_count(counter, rate.duration) for counter in counters]
    return rate.duration if max(counts) > rate.num_requests else 0


def remember(request: HttpRequest, name: str) -> None:
    """Take note that somebody has logged in from this address."""
    cache.set(_known(name, client_network(request)), True, REMEMBER_SECONDS)


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


def _known(name: str, address: str) -> str:
    return f"login_known_{_digest(f'{address} {_normal(name)}')}"


def _normal(name: str) -> str:
    # As the admin's form reads it (NFKC), and as a serializer does (spaces around it do not count).
    return unicodedata.normalize("NFKC", name).strip().lower()


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode(errors="replace")).hexdigest()
