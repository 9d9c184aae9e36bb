"""The rate limits for login attempts, which the REST API and the admin share.

All limits have the rate `API_LOGIN_RATE`; these are their values by default:

- A network address may make ten attempts a minute.
- After ten attempts in a minute as the same user, from networks where that user has never logged in, each such network
  may make one attempt a minute. So guessing cannot lock a user out: the right password is accepted from any address on
  the first attempt, and a mistyped one costs a minute.
- After a hundred and a thousand such attempts in a minute, that one attempt is shared by ever wider networks, so a
  large number of addresses does not help much either.
- A network where the user has logged in has ten attempts a minute of its own, whatever happens elsewhere.

This is the protocol of M. Alsaleh, M. Mannan and P. C. van Oorschot, *Revisiting Defenses Against Large-Scale Online
Password Guessing Attacks* (IEEE TDSC 9(1), 2012), with a delay where that asks for a CAPTCHA. NIST SP 800-63B, section
5.2.2, recommends the same means: to increase the wait, and to prefer addresses from which the user has logged in.

The attempts are counted in the cache, which all nodes share. Known networks are in the database, so they outlive the
cache.
"""

import hashlib
from datetime import timedelta

from django.core.cache import cache
from django.core.exceptions import ValidationError
from django.http import HttpRequest
from django.utils import timezone
from redis.exceptions import RedisError
from rest_framework.throttling import BaseThrottle, SimpleRateThrottle

from .counters import count
from .networks import network_of, widened
from .users import KnownNetwork, User, normalize_email

# How long a network stays known after the last login from there, and how many networks each user has.
KNOWN_DAYS = 90
MAX_KNOWN_NETWORKS = 50

# Who shares one attempt: (the multiple of the rate, the length of an IPv4 prefix, the length of an IPv6 prefix).
_CROWDS = ((100, 16, 32), (10, 24, 48), (1, 32, 64))


class _LoginRate(SimpleRateThrottle):
    scope = "login"
    num_requests: int
    duration: int  # in seconds


def seconds_to_wait(request: HttpRequest, email: str) -> int:
    """Count a login attempt, and return how many seconds to wait before the next, or 0 if this attempt is allowed."""
    rate = _LoginRate()
    email, network = normalize_email(email), client_network(request)
    if _is_known(email, network):
        return rate.duration if _excess(f"login_known_{_digest(f'{network} {email}')}", rate) else 0
    # An address beyond its limit no longer counts as an attempt as the user.
    if _excess(f"login_from_{_digest(network)}", rate):
        return rate.duration
    attempts = count(f"login_as_{_digest(email)}", rate.duration)
    for multiple, ipv4_prefix, ipv6_prefix in _CROWDS:
        if attempts > multiple * rate.num_requests:
            crowd = widened(network, ipv4_prefix, ipv6_prefix)
            is_first = cache.add(f"login_crowd_{_digest(f'{crowd} {email}')}", True, rate.duration)
            return 0 if is_first else rate.duration
    return 0


def obstacle(request: HttpRequest, email: str) -> ValidationError | None:
    """Count a login attempt in a form, and return why it is not allowed; None if it is."""
    try:
        seconds = seconds_to_wait(request, email)
    except RedisError:
        return ValidationError("Redis is unavailable. Try again later.", code="unavailable")
    if seconds:
        return ValidationError(f"Too many attempts. Try again in {seconds} seconds.", code="throttled")
    return None


def remember(request: HttpRequest, user: User) -> None:
    """Remember that this user has logged in from the network of this request."""
    KnownNetwork.objects.update_or_create(
        user=user, network=client_network(request), defaults={"last_login": timezone.now()}
    )
    newest = user.known_networks.order_by("-last_login")[:MAX_KNOWN_NETWORKS]
    user.known_networks.exclude(pk__in=list(newest.values_list("pk", flat=True))).delete()


def client_network(request: HttpRequest) -> str:
    """Return the network that a request comes from: an IPv4 address, or the /64 network of an IPv6 address."""
    return network_of(client_address(request))


def client_address(request: HttpRequest) -> str:
    """Return the address that a request comes from, as the trusted proxies (`NUM_PROXIES`) report it."""
    return str(BaseThrottle().get_ident(request))  # type: ignore[arg-type]


def _is_known(email: str, network: str) -> bool:
    since = timezone.now() - timedelta(days=KNOWN_DAYS)
    # Databases reject NUL and surrogates in queries, and no e-mail address contains them.
    text = email.replace("\0", "?").encode(errors="replace").decode()
    return KnownNetwork.objects.filter(user__email=text, network=network, last_login__gte=since).exists()


def _excess(counter: str, rate: _LoginRate) -> bool:
    return count(counter, rate.duration) > rate.num_requests


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode(errors="replace")).hexdigest()
