"""The address family of listeners that the server gets as a file descriptor."""

import socket
from typing import Any

from twisted.internet import endpoints


class AdoptedEndpoint(endpoints.AdoptedStreamServerEndpoint):
    """Listens on a socket with the socket's own address family.

    Daphne's endpoints take every descriptor for a socket of IPv4. Python would then read the addresses of IPv6 clients
    from memory that nobody has written, so the limits by address would not hold.
    """

    def __init__(self, reactor: Any, fileno: int, address_family: int) -> None:
        listener = socket.socket(fileno=fileno)
        super().__init__(reactor, fileno, listener.family)  # type: ignore[no-untyped-call]
        listener.detach()


def install() -> None:
    """Use these endpoints in this process."""
    endpoints.AdoptedStreamServerEndpoint = AdoptedEndpoint  # type: ignore[misc]
