"""Which addresses count together where something is limited by address."""

import ipaddress
import re

UNKNOWN = "unknown"
"""Stands for every text that is not an address, so that inventing such texts gains nothing."""
_WITH_PORT = re.compile(r"\[([^\]]*)\](?::[0-9]*)?|([^:]*):[0-9]*")


def network_of(address: str) -> str:
    """Return the network that an address belongs to: an IPv4 address itself, the /64 of an IPv6 address.

    A customer of a provider has at least 64 bits of IPv6 addresses. A port, which some proxies write behind the address
    (`198.51.100.7:40000`, `[2001:db8::1]:40000`), does not count.
    """
    address = address.strip()
    if match := _WITH_PORT.fullmatch(address):
        address = match[1] or match[2]
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return UNKNOWN
    if isinstance(parsed, ipaddress.IPv4Address):
        return str(parsed)
    return str(parsed.ipv4_mapped or ipaddress.ip_network((parsed, 64), strict=False))
