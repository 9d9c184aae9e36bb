"""Client addresses that are counted together."""

from typing import Any

import pytest
from rest_framework.test import APIClient

from accounts.networks import address_of, network_of, widened


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("198.51.100.7", "198.51.100.7"),
        ("198.51.100.7:40000", "198.51.100.7"),
        (" 198.51.100.7:40001 ", "198.51.100.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("[2001:db8:1:2::9]:40000", "2001:db8:1:2::/64"),
        ("[2001:db8:1:2::9]", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("::ffff:198.51.100.7", "198.51.100.7"),
        ("[::ffff:198.51.100.7]:443", "198.51.100.7"),
        *(
            (text, "unknown")
            for text in ("", "unknown", "_hidden", "198.51.100", "198.51.100.7:x", "[::1", "a:b:c", "é")
        ),
    ],
)
def test_the_network_of_an_address_does_not_depend_on_its_port(address: str, network: str) -> None:
    assert network_of(address) == network


@pytest.mark.parametrize(
    ("address", "found"),
    [("198.51.100.7:40000", "198.51.100.7"), ("[2001:DB8::0:1]:1", "2001:db8::1"), ("_hidden", None), ("", None)],
)
def test_an_address_is_found_in_its_usual_spelling(address: str, found: str | None) -> None:
    assert address_of(address) == found


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("198.51.100.7", "198.51.0.0/16"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1::/48"),
        ("::ffff:198.51.100.7", "198.51.0.0/16"),
        ("_hidden", "unknown"),
    ],
)
def test_a_network_is_widened_to_the_prefix_of_its_family(address: str, network: str) -> None:
    assert widened(network_of(address), 16, 48) == network


@pytest.mark.django_db
@pytest.mark.parametrize("spelling", ["198.51.100.7:{}", "[2001:db8::{}]:1", "nonsense {}"])
def test_a_new_port_a_new_ipv6_address_or_nonsense_allows_no_more_requests(spelling: str, settings: Any) -> None:
    settings.REST_FRAMEWORK = {**settings.REST_FRAMEWORK, "NUM_PROXIES": 1}
    limit = 60
    addresses = [spelling.format(number) for number in range(1, limit + 2)]
    client = APIClient()
    answers = [client.get("/api/v1/docs/", headers={"x-forwarded-for": address}) for address in addresses]
    assert [answer.status_code for answer in answers] == [200] * limit + [429]
