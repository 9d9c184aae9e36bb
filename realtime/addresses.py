"""Where a client comes from, as far as it counts."""

from collections.abc import Mapping
from typing import Any

from accounts.networks import network_of


def client_network(scope: Mapping[str, Any], num_proxies: int) -> str | None:
    """Whose requests count together: an IPv4 address, or the 64 bits of an IPv6 address that one customer has.

    Args:
        scope: of an ASGI connection.
        num_proxies: how many proxies of ours it comes through. So far from the end of `X-Forwarded-For` is the client;
            what stands before it is what the client says.

    Returns:
        None if it is not known, as of a Unix socket.
    """
    # Some proxies add theirs to the line, others write a line of their own.
    lines = [value for name, value in scope["headers"] if name == b"x-forwarded-for"] if num_proxies else []
    if lines:
        forwarded = b",".join(lines).split(b",")
        address = forwarded[-min(num_proxies, len(forwarded))].strip().decode("latin-1")
    elif scope.get("client"):
        address = scope["client"][0]
    else:
        return None
    return network_of(address)
