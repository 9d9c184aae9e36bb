"""Where clients come from, and how much one address may do in this process.

All limits by address stand here: TCP connections, connections to channels, requests, and wrong secrets. The values of
most are settings, see `conf.py`. Loop thread only.
"""

import logging
from collections import Counter
from collections.abc import Mapping
from functools import cache
from typing import Any

from accounts.networks import network_of
from realtime.base.attempts import Attempts
from realtime.conf import conf

logger = logging.getLogger(__name__)

# How many wrong secrets an address may send in a minute: for one key, and in all. A right secret is never refused,
# whoever else has tried; its length (357 bits) keeps it from being guessed.
MAX_GUESSES_AT_KEY = 10
MAX_GUESSES_OF_ADDRESS = 100


def client_network(scope: Mapping[str, Any], num_proxies: int) -> str | None:
    """Return whose requests count together: an IPv4 address, or the 64 bits of an IPv6 address that one customer has.

    Args:
        scope: an ASGI connection's.
        num_proxies: how many proxies of ours the client comes through. Its address stands as many entries from the end
            of `X-Forwarded-For`; the client itself may have sent the entries before.

    Returns:
        None if the address is not known, for example behind a Unix socket.
    """
    # Some proxies extend the line, others add a line of their own.
    lines = [value for name, value in scope["headers"] if name == b"x-forwarded-for"]
    if lines and not num_proxies:
        _warn_of_proxy()
    elif lines:
        forwarded = b",".join(lines).split(b",")
        return network_of(forwarded[-min(num_proxies, len(forwarded))].decode("latin-1"))
    return network_of(scope["client"][0]) if scope.get("client") else None


@cache
def _warn_of_proxy() -> None:
    logger.warning(
        "A request has the header X-Forwarded-For, but NUM_PROXIES is 0, so the limits by address count the address of "
        "the TCP connection. If the service is behind a proxy, set NUM_PROXIES."
    )


class AddressLimits:
    """Counts what each address does, and decides whether it may do more.

    An address that is not known (None) has no limits.
    """

    def __init__(self) -> None:
        self._tcp: Counter[str] = Counter()
        self._connections: Counter[str] = Counter()
        self._connects = Attempts(lambda: conf().connects_per_minute_per_address)
        self._requests = Attempts(lambda: conf().requests_per_minute_per_address)
        self._guesses = Attempts(lambda: MAX_GUESSES_OF_ADDRESS)
        self._guesses_at_key = Attempts(lambda: MAX_GUESSES_AT_KEY)

    def open_tcp(self, peer: str) -> bool:
        """Count a TCP connection that is not a WebSocket yet; return whether its peer may have one more.

        Behind proxies of ours every connection comes from them, and they limit their own clients.
        """
        self._tcp[peer] += 1
        return bool(conf().num_proxies) or self._tcp[peer] <= conf().max_http_per_address

    def close_tcp(self, peer: str) -> None:
        """Stop counting a TCP connection, since it is closed or has become a WebSocket."""
        _subtract(self._tcp, peer)

    def may_connect(self, address: str | None) -> bool:
        """Count an attempt to connect to a channel; return whether the address may."""
        if address is None:
            return True
        wait = self._connects.note(address)
        return not wait and self._connections[address] < conf().max_connections_per_address

    def open(self, address: str | None) -> None:
        """Count a connection to a channel until `close`."""
        if address is not None:
            self._connections[address] += 1

    def close(self, address: str | None) -> None:
        """Stop counting a connection to a channel."""
        if address is not None:
            _subtract(self._connections, address)

    def request(self, address: str | None) -> int:
        """Count a request to Django. Return how many seconds to wait; 0 if it may be answered."""
        return 0 if address is None else self._requests.note(address)

    def guess(self, address: str | None, key: str | None) -> int:
        """Count a wrong secret. Return how many seconds to wait; 0 if there were few.

        Args:
            address: the address that sent it.
            key: the public key it was sent with; None if no key can look like that.
        """
        wait = self._guesses.note(address)
        return wait if key is None else max(wait, self._guesses_at_key.note((address, key)))


def _subtract(counter: Counter[str], name: str) -> None:
    counter[name] -= 1
    if not counter[name]:
        del counter[name]


address_limits = AddressLimits()
