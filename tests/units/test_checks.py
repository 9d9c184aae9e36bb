"""System checks: each invalid setting is reported."""

from datetime import timedelta
from typing import Any

import pytest
from pytest_django import Settings

from accounts.checks import (
    check_proxies,
    check_rates,
    check_secret_key,
    check_token_lifetime,
    check_webhook_proxy,
)
from piesite.checks import check_allowed_hosts, check_database, check_trusted_origins
from piesite.checks import check_secret_key as check_generated_key
from realtime.checks import check_cluster_domains, check_metrics_allowed, check_numbers, check_redis_urls
from realtime.conf import MAX_BATCH_BYTES, conf


@pytest.mark.parametrize(
    ("given", "ids"),
    [
        ({}, []),
        ({"MAX_MESSAGE_BYTES": None}, []),
        ({"MAX_CONNECTIONS": 0}, []),
        ({"MAX_MESSAGE_BYTES": 0}, ["realtime.E002"]),
        ({"MAX_BACKLOG_BYTES": -1, "KEY_CACHE_SECONDS": -1}, ["realtime.E002", "realtime.E002"]),
        ({"USAGE_SECONDS": 0}, ["realtime.E002"]),
        ({"MAX_MESAGE_BYTES": 1}, ["realtime.E001"]),
    ],
)
def test_invalid_numbers_and_unknown_names_are_reported(
    settings: Settings, given: dict[str, Any], ids: list[str]
) -> None:
    settings.REALTIME = given
    assert [error.id for error in check_numbers(None)] == ids


BAD_DOMAINS = ["", "http://a.org", "a.org:80", "*.a.org", "-a.org", "a-.org", "a_b", "A.org", "127.0.0.1", "a" * 64]


@pytest.mark.parametrize("domain", BAD_DOMAINS)
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


@pytest.mark.parametrize(
    ("domains", "messages"),
    [
        (["a.org", "b.org", "xa.org"], []),
        ([], ["CLUSTER_DOMAINS is empty."]),
        (["a.org", "ws.a.org"], ["'ws.a.org' in CLUSTER_DOMAINS is already a host name of 'a.org'."]),
        (["x.ws.a.org", "a.org"], ["'x.ws.a.org' in CLUSTER_DOMAINS is already a host name of 'a.org'."]),
        (["a.org", "a.org"], ["'a.org' in CLUSTER_DOMAINS is already a host name of 'a.org'."]),
    ],
)
def test_cluster_domains_must_not_overlap(settings: Settings, domains: list[str], messages: list[str]) -> None:
    settings.CLUSTER_DOMAINS = domains
    assert [error.msg for error in check_cluster_domains(None)] == messages


@pytest.mark.parametrize(
    "url",
    [
        "redis://h",
        "redis://h/",
        "redis://h:6379/15",
        "redis://:p%40ss@[::1]:6379/0",
        "rediss://u:p@h:6379/0?ssl_ca_certs=/etc/ca.pem",
        "unix:///run/redis.sock?db=3",
        "unix://user:p@/run/redis.sock",
    ],
)
def test_every_kind_of_redis_url_is_accepted(settings: Settings, url: str) -> None:
    settings.REDIS_URLS = ["redis://h", url]
    assert check_redis_urls(None) == []


@pytest.mark.parametrize(
    "url",
    [
        "foo",
        "h:6379",
        "redis:h",
        "http://:hidden@h",
        "redis://:hidden@h:six/0",
        "redis://:hid#den@h:1/0",
        "redis://:hidden@h:65536",
        "redis://:hidden@h/name",
        "redis://:hidden@h/0?unknown=1",
        "redis://:hidden@h/0?socket_timeout=soon",
        "unix://",
    ],
)
def test_a_wrong_redis_url_is_reported_without_its_password(settings: Settings, url: str) -> None:
    settings.REDIS_URLS = ["redis://h", url]
    (error,) = check_redis_urls(None)
    assert error.id == "realtime.E006"
    assert error.msg.startswith("URL 2 of REDIS_URL is not valid: ")
    assert "hid" not in error.msg


@pytest.mark.parametrize("rate", ["10/min", "1/s", "5/second", "100/h", "7/hour", "2/d", "2/day"])
def test_every_kind_of_rate_is_accepted(settings: Settings, rate: str) -> None:
    settings.REST_FRAMEWORK = with_login_rate(settings, rate)
    assert check_rates(None) == []


@pytest.mark.parametrize(
    "rate", ["ten", "", "10", "5/10m", "/min", "0/min", "-1/min", "1.5/min", "10/fortnight", "1/m/s"]
)
def test_a_wrong_rate_is_reported(settings: Settings, rate: str) -> None:
    settings.REST_FRAMEWORK = with_login_rate(settings, rate)
    (error,) = check_rates(None)
    assert error.id == "accounts.E004"
    assert error.msg == f"API_LOGIN_RATE is {rate!r}, which is not a number of requests in a period."


def with_login_rate(settings: Settings, rate: str) -> dict[str, Any]:
    rates = {**settings.REST_FRAMEWORK["DEFAULT_THROTTLE_RATES"], "login": rate}
    return {**settings.REST_FRAMEWORK, "DEFAULT_THROTTLE_RATES": rates}


@pytest.mark.parametrize(("lifetime", "ids"), [(1, []), (0, ["accounts.E005"]), (-60, ["accounts.E005"])])
def test_a_token_must_not_expire_before_it_can_be_used(settings: Settings, lifetime: int, ids: list[str]) -> None:
    settings.REST_KNOX = {"TOKEN_TTL": timedelta(seconds=lifetime)}
    assert [error.id for error in check_token_lifetime(None)] == ids


@pytest.mark.parametrize(("number", "ids"), [(0, []), (2, []), (-1, ["accounts.E006"])])
def test_the_number_of_proxies_must_not_be_negative(settings: Settings, number: int, ids: list[str]) -> None:
    settings.REST_FRAMEWORK = {**settings.REST_FRAMEWORK, "NUM_PROXIES": number}
    assert [error.id for error in check_proxies(None)] == ids


def test_short_secret_keys_are_reported_by_their_place(settings: Settings) -> None:
    settings.SECRET_KEY = "x" * 32
    settings.SECRET_KEY_FALLBACKS = ["y" * 32, "hidden"]
    assert [error.msg for error in check_secret_key(None)] == [
        "Key 2 of SECRET_KEY_FALLBACKS has fewer than 32 characters."
    ]
    settings.SECRET_KEY, settings.SECRET_KEY_FALLBACKS = "x" * 31, []
    assert [error.msg for error in check_secret_key(None)] == ["SECRET_KEY has fewer than 32 characters."]


@pytest.mark.parametrize(
    ("engine", "redis_urls", "generated", "ids"),
    [
        ("sqlite3", [], True, []),
        ("sqlite3", ["redis://h"], True, ["piesite.E001"]),
        ("postgresql", [], True, ["piesite.E001"]),
        ("postgresql", ["redis://h"], False, []),
    ],
)
def test_several_machines_must_not_generate_a_secret_key_each(
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
    engine: str,
    redis_urls: list[str],
    generated: bool,
    ids: list[str],
) -> None:
    monkeypatch.setitem(settings.DATABASES["default"], "ENGINE", f"django.db.backends.{engine}")
    settings.REDIS_URLS = redis_urls
    settings.SECRET_KEY_IS_GENERATED = generated
    assert [error.id for error in check_generated_key(None)] == ids


def test_hosts_that_can_never_match_are_reported(settings: Settings) -> None:
    wrong = ["https://a.org", "a.org:80", "a.org/", "::1", "[::g]", "A.org", "*.a.org", ""]
    settings.ALLOWED_HOSTS = ["a.org", ".a.org", "*", "10.0.0.1", "[::1]", "my_host", *wrong]
    assert [error.msg for error in check_allowed_hosts(None)] == [
        f"{host!r} in ALLOWED_HOSTS is not a host name." for host in wrong
    ]


def test_origins_that_can_never_match_are_reported(settings: Settings) -> None:
    wrong = ["a.org", "https://a.org/", "https://A.org", "ftp://a.org", "https://a.org:port"]
    settings.CSRF_TRUSTED_ORIGINS = ["https://a.org", "http://*.a.org:8080", "https://[::1]:8000", *wrong]
    assert [error.msg for error in check_trusted_origins(None)] == [
        f"{origin!r} in CSRF_TRUSTED_ORIGINS is not an origin." for origin in wrong
    ]


@pytest.mark.parametrize(("name", "ids"), [(":memory:", ["piesite.E004"]), ("/srv/db.sqlite3", [])])
def test_a_database_in_memory_is_reported(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, name: str, ids: list[str]
) -> None:
    monkeypatch.setitem(settings.DATABASES["default"], "NAME", name)
    assert [error.id for error in check_database(None)] == ids


@pytest.mark.parametrize(
    "url", ["", "http://proxy", "http://10.0.0.5:4750", "https://p.example.com/", "http://[::1]:80"]
)
def test_usable_proxies_of_webhooks_are_accepted(settings: Settings, url: str) -> None:
    settings.WEBHOOK_PROXY = url
    assert check_webhook_proxy(None) == []


@pytest.mark.parametrize(
    "url",
    [
        *("proxy", "10.0.0.5:4750", "socks5://10.0.0.5", "http://", "http://a b", "http://10.0.0.5:port"),
        *("http://user:hidden@10.0.0.5:4750", "http://10.0.0.5:4750/path", "http://10.0.0.5\n"),
    ],
)
def test_other_proxies_of_webhooks_are_reported_without_their_passwords(settings: Settings, url: str) -> None:
    settings.WEBHOOK_PROXY = url
    (error,) = check_webhook_proxy(None)
    assert error.id == "accounts.E023"
    assert "hidden" not in str(error)
