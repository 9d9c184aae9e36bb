"""System checks: each invalid setting is reported."""

from typing import Any

import pytest
from pytest_django import Settings

from realtime.checks import check_cluster_domains, check_metrics_allowed, check_numbers
from realtime.conf import MAX_BATCH_BYTES, conf


@pytest.mark.parametrize(
    ("given", "ids"),
    [
        ({}, []),
        ({"MAX_MESSAGE_BYTES": None}, []),
        ({"MAX_CONNECTIONS": 0}, []),
        ({"MAX_MESSAGE_BYTES": 0}, ["realtime.E002"]),
        ({"MAX_BACKLOG_BYTES": -1, "KEY_CACHE_SECONDS": -1}, ["realtime.E002", "realtime.E002"]),
        ({"MAX_MESAGE_BYTES": 1}, ["realtime.E001"]),
    ],
)
def test_invalid_numbers_and_unknown_names_are_reported(
    settings: Settings, given: dict[str, Any], ids: list[str]
) -> None:
    settings.REALTIME = given
    assert [error.id for error in check_numbers(None)] == ids


@pytest.mark.parametrize("domain", ["", "http://a.org", "a.org:80", "*.a.org", "-a.org", "a_b", "A.org"])
def test_an_invalid_cluster_domain_is_reported(settings: Settings, domain: str) -> None:
    settings.CLUSTER_DOMAINS = ["localhost", "example.com", domain]
    (error,) = check_cluster_domains(None)
    assert error.id == "realtime.E003"
    assert repr(domain) in error.msg


def test_invalid_networks_are_reported(settings: Settings) -> None:
    settings.REALTIME = {"METRICS_ALLOWED": ["10.0.0.5/8", "::1", "fe80::/10", "monitor", "10.0.0.256"]}
    assert [error.msg for error in check_metrics_allowed(None)] == [
        "'monitor' in METRICS_ALLOWED is neither an IP address nor a network.",
        "'10.0.0.256' in METRICS_ALLOWED is neither an IP address nor a network.",
    ]
    settings.REALTIME = {"METRICS_ALLOWED": None}
    assert check_metrics_allowed(None) == []


def test_the_metrics_token_is_hidden_in_the_representation(settings: Settings) -> None:
    settings.REALTIME = {"METRICS_TOKEN": "hidden"}
    assert conf().metrics_token == "hidden"
    assert "hidden" not in repr(conf())


def test_settings_are_read_when_they_are_used(settings: Settings) -> None:
    settings.REALTIME = {"MAX_MESSAGE_BYTES": 10}
    settings.CLUSTER_DOMAINS = ["example.com"]
    assert (conf().max_message_bytes, conf().max_backlog_bytes) == (10, MAX_BATCH_BYTES)
    assert conf().cluster_domains == ("example.com",)
    assert conf().max_connections > 0
