"""The networks by which per-address limits group addresses."""

import ipaddress
import re
from functools import lru_cache

UNKNOWN = "unknown"
"""Stands for every text that is not an address, so that inventing such texts does not circumvent a limit."""
_WITH_PORT = re.compile(r"\[([^\]]*)\](?::[0-9]*)?|([^:]*):[0-9]*")


@lru_cache(maxsize=10_000)
def network_of(address: str) -> str:
    """Return the network that an address belongs to: an IPv4 address itself, or the /64 network of an IPv6 address.

    Providers assign at least a /64 network of IPv6 addresses to each customer. A port, which some proxies append to the
    address (`198.51.100.7:40000`, `[2001:db8::1]:40000`), is ignored.
    """
    parsed = _parsed(address)
    if isinstance(parsed, ipaddress.IPv6Address):
        return str(ipaddress.ip_network((parsed, 64), strict=False))
    return UNKNOWN if parsed is None else str(parsed)


def address_of(address: str) -> str | None:
    """Return an address without its port, in the usual spelling, or None if it is not an address."""
    parsed = _parsed(address)
    return None if parsed is None else str(parsed)


def widened(network: str, ipv4_prefix: int, ipv6_prefix: int) -> str:
    """Return the wider network that a network belongs to, which has a prefix of the length for its family, in bits.

    Args:
        network: a value that `network_of` has returned.
        ipv4_prefix: the length of the prefix of an IPv4 address.
        ipv6_prefix: the length of the prefix of an IPv6 address, 64 at most.
    """
    if network == UNKNOWN:
        return UNKNOWN
    parsed = ipaddress.ip_network(network)
    return str(parsed.supernet(new_prefix=ipv4_prefix if parsed.version == 4 else ipv6_prefix))


def _parsed(address: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    address = address.strip()
    if match := _WITH_PORT.fullmatch(address):
        address = match[1] or match[2]
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return None
    return parsed.ipv4_mapped or parsed if isinstance(parsed, ipaddress.IPv6Address) else parsed
