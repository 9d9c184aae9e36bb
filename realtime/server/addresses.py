"""Client addresses, and limits for each address in this process.

All limits by address are here: TCP connections, connections to channels, requests, wrong secrets, and JSON that was
parsed in vain. Most of their values are settings, see `conf.py`. Loop thread only.
"""

import logging
from collections import Counter
from collections.abc import Hashable, Mapping
from functools import cache
from typing import Any

from accounts.networks import address_of, network_of
from realtime.base.attempts import Attempts
from realtime.base.debts import Debts
from realtime.conf import conf

logger = logging.getLogger(__name__)

# How many wrong secrets an address may send in a minute: for one key, and for all keys together. The correct secret is
# always accepted, however many wrong ones were sent; with 357 bits, it cannot be guessed.
MAX_GUESSES_AT_KEY = 10
MAX_GUESSES_OF_ADDRESS = 100
# How many handshakes of one client are refused in a minute with a reason, if its library connects again at once.
MAX_REFUSALS = 10
# A body of this size is always parsed, since that costs less than the rest of its request. How much JSON in larger
# bodies an address may have parsed for requests whose key or secret is wrong: in a second, and before that counts. A
# megabyte takes up to 5 ms of the loop's time.
FREE_JSON_BYTES = 16 * 1024
REJECTED_JSON_BYTES_PER_SECOND = 8 * 1024 * 1024
REJECTED_JSON_BYTES_AT_ONCE = 16 * 1024 * 1024


def client_network(scope: Mapping[str, Any], num_proxies: int) -> str | None:
    """Return the network that a client's requests count for: an IPv4 address, or the /64 of an IPv6 address.

    Args:
        scope: the ASGI scope of the connection.
        num_proxies: how many trusted proxies the client's requests pass. The client's address is that many entries
            from the end of `X-Forwarded-For`; earlier entries may come from the client itself.

    Returns:
        None if the address is unknown, for example on a Unix socket.
    """
    address = _client_address(scope, num_proxies)
    return None if address is None else network_of(address)


def client_address(scope: Mapping[str, Any], num_proxies: int) -> str:
    """Return the address of a client for people to read; empty if it is unknown."""
    address = _client_address(scope, num_proxies)
    return "" if address is None else address_of(address) or ""


def _client_address(scope: Mapping[str, Any], num_proxies: int) -> str | None:
    # Some proxies extend the existing header line, others add a line.
    lines = [value for name, value in scope["headers"] if name == b"x-forwarded-for"]
    if lines and not num_proxies:
        _warn_of_proxy()
    elif lines:
        forwarded = b",".join(lines).split(b",")
        return forwarded[-min(num_proxies, len(forwarded))].decode("latin-1")
    return str(scope["client"][0]) if scope.get("client") else None


@cache
def _warn_of_proxy() -> None:
    logger.warning(
        "A request has the header X-Forwarded-For, but NUM_PROXIES is 0, so the limits by address count the address of "
        "the TCP connection. If the service is behind a proxy, set NUM_PROXIES."
    )


class AddressLimits:
    """Counts what each address does, and decides whether it may do more.

    An unknown address (None) has no limits.
    """

    def __init__(self) -> None:
        self._tcp: Counter[str] = Counter()
        self._connections: Counter[str] = Counter()
        self._connects = Attempts(lambda: conf().connects_per_minute_per_address)
        self._requests = Attempts(lambda: conf().requests_per_minute_per_address)
        self._guesses = Attempts(lambda: MAX_GUESSES_OF_ADDRESS)
        self._guesses_at_key = Attempts(lambda: MAX_GUESSES_AT_KEY)
        self._refusals = Attempts(lambda: MAX_REFUSALS)
        self._rejected_json = Debts(REJECTED_JSON_BYTES_PER_SECOND, REJECTED_JSON_BYTES_AT_ONCE)

    def open_tcp(self, peer: str) -> bool:
        """Count a TCP connection that is not yet a WebSocket; return whether its peer may have it.

        There is no limit behind trusted proxies: all connections come from them, and they limit their own clients.
        """
        self._tcp[peer] += 1
        return bool(conf().num_proxies) or self._tcp[peer] <= conf().max_http_per_address

    def close_tcp(self, peer: str) -> None:
        """Stop counting a TCP connection that is closed or has become a WebSocket."""
        _decrement(self._tcp, peer)

    def may_connect(self, address: str | None) -> bool:
        """Count an attempt to connect to a channel; return whether the address may connect."""
        if address is None:
            return True
        wait = self._connects.note(address)
        return not wait and self._connections[address] < conf().max_connections_per_address

    def count_refusal(self, client: Hashable) -> None:
        """Count a refused handshake of a client that reconnects immediately after every refusal.

        Args:
            client: identifies the client, including its address.
        """
        self._refusals.note(client)

    def was_refused_too_often(self, client: Hashable) -> bool:
        """Return whether such a client was refused so often that its next handshakes are not looked at."""
        return self._refusals.has_made_all(client)

    def open(self, address: str | None) -> None:
        """Count a connection to a channel until `close`."""
        if address is not None:
            self._connections[address] += 1

    def close(self, address: str | None) -> None:
        """Stop counting a connection to a channel."""
        if address is not None:
            _decrement(self._connections, address)

    def count_request(self, address: str | None) -> int:
        """Count a request to Django. Return how many seconds the client must wait; 0 if it is within the limit."""
        return 0 if address is None else self._requests.note(address)

    def count_wrong_secret(self, address: str | None, key: str | None) -> int:
        """Count a wrong secret. Return how many seconds the client must wait; 0 if it is within the limits.

        Args:
            address: the address that sent the secret.
            key: the public key that was sent with it; None if the value cannot be a key.
        """
        wait = self._guesses.note(address)
        return wait if key is None else max(wait, self._guesses_at_key.note((address, key)))

    def wait_to_parse(self, address: str | None, size: int) -> int:
        """Return how many seconds an address must wait before JSON of an unknown sender is parsed for it."""
        return 0 if size <= FREE_JSON_BYTES or address is None else self._rejected_json.seconds_over_limit(address)

    def count_rejected_json(self, address: str | None, size: int) -> None:
        """Count JSON that was parsed for a request without a right key and secret."""
        if size > FREE_JSON_BYTES and address is not None:
            self._rejected_json.add(address, size)


def _decrement(counter: Counter[str], name: str) -> None:
    counter[name] -= 1
    if not counter[name]:
        del counter[name]


address_limits = AddressLimits()
