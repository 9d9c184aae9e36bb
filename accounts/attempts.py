"""The rate limits of forms that can be sent without being logged in, of the codes of second factors, and of exports.

The attempts are counted in the cache, which all nodes share. Passwords have limits of their own: see `logins`.
"""

import hashlib
from typing import NamedTuple

from django.core.cache import cache
from django.core.exceptions import ValidationError
from django.http import HttpRequest
from redis.exceptions import RedisError

from .counters import count
from .logins import client_network


class Limit(NamedTuple):
    """How often something can be attempted."""

    name: str
    attempts: int
    seconds: int


SIGN_UPS = Limit("sign_up", 20, 3600)
"""Sign-ups from one network."""
RESETS = Limit("reset", 20, 3600)
"""Requests to reset a password from one network."""
PASSKEY_LOGINS = Limit("passkey", 60, 60)
"""Log-ins with a passkey from one network; each begins a session."""
MAILS = Limit("mail", 5, 3600)
"""Mails to one address that anybody can cause."""
CODES = Limit("code", 10, 900)
"""Codes of one user's second factors. Guessing a code of six digits takes years."""
EXPORTS = Limit("export", 10, 600)
"""Exports of one account. Each reads everything that is stored about it."""


def attempt(limit: Limit, key: str) -> int:
    """Count an attempt, and return how many seconds to wait before the next, or 0 if this attempt is allowed.

    Args:
        limit: the limit.
        key: whose attempts are counted together.
    """
    return 0 if count(_counter(limit, key), limit.seconds) <= limit.attempts else limit.seconds


def forget(limit: Limit, key: str) -> None:
    """Forget the attempts that were counted, because the last has succeeded."""
    cache.delete(_counter(limit, key))


def check(limit: Limit, key: str) -> None:
    """Count an attempt in a form.

    Raises:
        ValidationError: it is not allowed.
    """
    try:
        seconds = attempt(limit, key)
    except RedisError:
        raise ValidationError("Redis is unavailable. Try again later.", code="unavailable") from None
    if seconds:
        raise ValidationError(f"Too many attempts. Try again in {seconds // 60} minutes.", code="throttled")


def check_network(limit: Limit, request: HttpRequest) -> None:
    """Count an attempt in a form for the network that the request comes from.

    Raises:
        ValidationError: it is not allowed.
    """
    check(limit, client_network(request))


def _counter(limit: Limit, key: str) -> str:
    return f"attempts_{limit.name}_{hashlib.sha256(key.encode(errors='replace')).hexdigest()}"
