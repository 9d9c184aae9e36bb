"""Where a client comes from."""

import pytest

from realtime.server import addresses
from realtime.server.addresses import client_network


def scope(*forwarded: bytes, client: str = "192.0.2.1") -> dict[str, object]:
    return {"headers": [(b"x-forwarded-for", line) for line in forwarded], "client": (client, 50_000)}


@pytest.mark.parametrize(
    ("forwarded", "proxies", "network"),
    [
        ([b"203.0.113.9:40000"], 1, "203.0.113.9"),
        ([b"203.0.113.9:40000, 198.51.100.7:40001"], 1, "198.51.100.7"),
        ([b"203.0.113.9:40000", b"[2001:db8::9]:40001"], 1, "2001:db8::/64"),
        ([b"203.0.113.9:40000", b"[2001:db8::9]:40001"], 2, "203.0.113.9"),
        ([b"no address"], 1, "unknown"),
        ([b"\xff"], 1, "unknown"),
        ([b"203.0.113.9"], 0, "192.0.2.1"),
        ([], 1, "192.0.2.1"),
    ],
)
def test_the_entry_of_the_outermost_proxy_counts_without_its_port(
    forwarded: list[bytes], proxies: int, network: str
) -> None:
    assert client_network(scope(*forwarded), proxies) == network


def test_a_forwarded_address_that_is_not_believed_is_reported_once(caplog: pytest.LogCaptureFixture) -> None:
    addresses._warn_of_proxy.cache_clear()
    for _ in range(3):
        client_network(scope(b"203.0.113.9"), 0)
    client_network(scope(), 0)
    assert ["NUM_PROXIES is 0" in record.getMessage() for record in caplog.records] == [True]
