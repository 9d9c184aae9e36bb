"""Whose attempts count together."""

import ipaddress


def network_of(address: str) -> str:
    """An IPv4 address, or the 64 bits of an IPv6 address that one customer has; what is neither stays as it is."""
    if ":" not in address:
        return address
    try:
        parsed = ipaddress.IPv6Address(address)
    except ValueError:
        return address
    return str(parsed.ipv4_mapped or ipaddress.ip_network((parsed, 64), strict=False))
