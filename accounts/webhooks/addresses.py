"""Where webhooks may be sent: a tenant must not reach the operator's own network through this service.

A URL is checked when it is saved. The addresses of its host are checked again for each connection, which then goes to
the very address that was checked, so a name server cannot give another answer in between.
"""

import asyncio
import ipaddress
import socket
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from threading import Lock
from urllib.parse import urlsplit

from django.conf import settings
from django.core.exceptions import ValidationError

NOT_PUBLIC = "Webhooks can only be sent to public addresses."
_PORTS = "Use port 443 or 80, or a port from 1024 to 65535."
_GLOBAL_IPV6 = ipaddress.ip_network("2000::/3")
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
# Reserved networks that some versions of Python take for public ones.
_RESERVED = [
    ipaddress.ip_network(network)
    for network in ("192.0.0.0/24", "192.88.99.0/24", "2001::/23", "2001:db8::/32", "3fff::/20")
]
# How long a person who saves a webhook waits for a name server, in seconds.
LOOK_UP_SECONDS = 2.0
# A name server of a tenant that does not answer holds a thread for some time, which others must not wait for.
_resolvers = ThreadPoolExecutor(64, thread_name_prefix="webhook-names")
LOOK_UPS = 4
_resolvers_of_people = ThreadPoolExecutor(LOOK_UPS, thread_name_prefix="saved-webhook-names")
# The accounts whose names are being looked up, until their name servers have answered.
_looking_up: set[int] = set()
_lock = Lock()

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class NotPublic(Exception):
    """A host has an address that webhooks may not be sent to."""

    def __init__(self) -> None:
        super().__init__(NOT_PUBLIC)


class NoSuchHost(Exception):
    """The name of a host has no address."""

    def __init__(self) -> None:
        super().__init__("The host name cannot be resolved.")


def validate_url(url: str) -> None:
    """Check that webhooks may be sent to a URL, as far as this can be known without asking a name server.

    Raises:
        ValidationError: they may not.
    """
    if any(character <= " " or character > "~" for character in url):
        raise ValidationError(
            "A URL has only ASCII characters and no spaces. Write an international host name as xn--…, and encode "
            "other characters with percent signs."
        )
    try:
        parts = urlsplit(url)
        host = (parts.hostname or "").rstrip(".")
        host.encode("idna" if not _address(host) else "ascii")
    except ValueError:
        raise ValidationError("The host name of this URL is not valid.") from None
    try:
        port = parts.port
    except ValueError:
        raise ValidationError(_PORTS) from None
    schemes = ("https", "http") if settings.WEBHOOK_ALLOWS_HTTP else ("https",)
    if parts.scheme not in schemes:
        raise ValidationError(f"Enter a URL that begins with {' or '.join(f'{scheme}://' for scheme in schemes)}.")
    if not host:
        raise ValidationError("Enter a URL with a host name, such as https://example.com/webhooks.")
    if parts.username is not None or parts.password is not None:
        raise ValidationError("A URL cannot contain a user or a password. Use extra headers instead.")
    if parts.fragment or "#" in url:
        raise ValidationError("A URL cannot contain a fragment.")
    if port is not None and port not in (80, 443) and port < 1024:
        raise ValidationError(_PORTS)
    if _is_own(host):
        raise ValidationError("Webhooks cannot be sent to this service itself.")
    address = _address(host)
    if address is not None and not is_allowed(address):
        raise ValidationError(NOT_PUBLIC)


def check_host(url: str, account_pk: int) -> None:
    """Check the addresses of the host of a URL, if a name server knows it now. They are checked again when it is used.

    This may take some time, so never call it in a transaction. It does nothing while a name of the same account is
    looked up, or too many are: otherwise, name servers that do not answer would hold all threads that serve people.

    Args:
        url: a valid URL.
        account_pk: the account that wants to use it.

    Raises:
        ValidationError: webhooks may not be sent to one of them.
    """
    if settings.WEBHOOK_PROXY:
        return
    with _lock:
        if account_pk in _looking_up or len(_looking_up) >= LOOK_UPS:
            return
        _looking_up.add(account_pk)
    looking_up = _resolvers_of_people.submit(_look_up_for, account_pk, urlsplit(url).hostname or "")
    try:
        found = looking_up.result(LOOK_UP_SECONDS)
    except (OSError, UnicodeError, TimeoutError):
        return
    if not _are_allowed(found):
        raise ValidationError({"url": [NOT_PUBLIC]})


def _look_up_for(account_pk: int, host: str) -> list[str]:
    try:
        return _look_up(host, None)
    finally:
        # Here, before the result is known: the account may be waiting for it, and then look up the next name.
        _looking_up.discard(account_pk)


def is_allowed(address: Address) -> bool:
    """Return whether webhooks may be sent to an address: a public one, or one that the operator allows."""
    if any(address in network for network in settings.WEBHOOK_ALLOWED_NETWORKS):
        return True
    return all(_is_public(each) for each in _contained(address))


def _contained(address: Address) -> Iterable[Address]:
    """Yield the address that packets reach: an IPv6 address may contain an IPv4 address, or two."""
    if isinstance(address, ipaddress.IPv4Address):
        return (address,)
    if address.ipv4_mapped:
        return (address.ipv4_mapped,)
    if address in _NAT64:
        return (ipaddress.IPv4Address(address.packed[-4:]),)
    if address.sixtofour:
        return (address.sixtofour,)
    return address.teredo or (address,)


def _is_public(address: Address) -> bool:
    return (
        address.is_global
        and not address.is_multicast
        and (address.version == 4 or address in _GLOBAL_IPV6)
        and not any(address in network for network in _RESERVED)
    )


def _address(host: str) -> Address | None:
    """Return the address that a host is written as, also in the odd spellings that resolvers understand."""
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        pass
    try:
        return ipaddress.IPv4Address(socket.inet_aton(host)) if host and host[0].isdigit() else None
    except (OSError, ValueError):
        return None


def _is_own(host: str) -> bool:
    if host == "localhost" and is_allowed(ipaddress.IPv4Address("127.0.0.1")):
        return False  # the operator allows other servers on this machine
    own = [*settings.CLUSTER_DOMAINS, *(name.lstrip(".") for name in settings.ALLOWED_HOSTS)]
    return any(host == name or host.endswith(f".{name}") for name in own if _address(name) is None)


async def resolve(host: str, port: int) -> list[str]:
    """Return the addresses of a host, all of which webhooks may be sent to.

    Raises:
        NoSuchHost: it has none.
        NotPublic: webhooks may not be sent to one of them.
    """
    loop = asyncio.get_running_loop()
    try:
        found = await loop.run_in_executor(_resolvers, _look_up, host, port)
    except (OSError, UnicodeError):
        raise NoSuchHost from None
    if not _are_allowed(found):
        raise NotPublic
    return found


def _are_allowed(addresses: Iterable[str]) -> bool:
    return all(is_allowed(ipaddress.ip_address(address.partition("%")[0])) for address in addresses)


def _look_up(host: str, port: int | None) -> list[str]:
    answers = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]) for *_, address in answers))
