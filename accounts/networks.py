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
