"""Guessing passwords at the admin and through the REST API."""

import json
from datetime import timedelta

import pytest
from django.core.cache import cache
from django.db.models import F
from django.test import Client
from pytest_django import Settings

from accounts.logins import MAX_KNOWN_NETWORKS
from accounts.users import KnownNetwork, User
from tests.servers import free_port

JSON = "application/json"


def log_in(client: Client, email: str, password: str, address: str) -> bool:
    """Log in to the admin and return whether that succeeds."""
    client.logout()
    answer = client.post("/console/you/login/", {"login": email, "password": password}, REMOTE_ADDR=address)
    return answer.status_code == 302


def test_one_network_address_gets_ten_attempts_a_minute(client: Client, admin_user: User) -> None:
    for number in range(10):
        assert not log_in(client, f"name-{number}@example.com", "wrong", "192.0.2.1")
    assert not log_in(client, "admin@example.com", "password", "192.0.2.1")
    page = client.post(
        "/console/you/login/", {"login": "admin@example.com", "password": "password"}, REMOTE_ADDR="192.0.2.1"
    )
    assert "Too many attempts. Try again in 60 seconds." in page.content.decode()
    assert log_in(client, "admin@example.com", "password", "192.0.2.2")


@pytest.mark.parametrize(
    "spelling", ["admin@example.com", "ADMIN@Example.COM", " admin@example.com", "\uff41dmin@example.com"]
)
def test_after_ten_attempts_in_all_spellings_each_network_gets_one_a_minute(
    client: Client, admin_user: User, spelling: str
) -> None:
    for number in range(11):
        assert not log_in(client, spelling, "wrong", f"192.0.2.{number}")
    assert not log_in(client, "admin@example.com", "password", "192.0.2.10")
    assert log_in(client, "admin@example.com", "password", "192.0.2.99")


@pytest.mark.parametrize("guesses", [10, 99, 300])
def test_guessing_does_not_lock_the_right_password_out_from_a_new_address(
    client: Client, admin_user: User, guesses: int
) -> None:
    for number in range(guesses):
        log_in(client, "admin@example.com", "wrong", f"10.{number}.0.1")
    assert log_in(client, "admin@example.com", "password", "198.51.100.1")


@pytest.mark.parametrize("address", ["10.0.{}.{}", "2001:db8:1:{}{:02x}::1"])
def test_many_addresses_of_one_network_allow_few_guesses(client: Client, admin_user: User, address: str) -> None:
    checked = 0
    for number in range(400):
        form = {"email": "admin@example.com", "password": "wrong"}
        client.defaults["REMOTE_ADDR"] = address.format(number // 200, number % 200)
        checked += client.post("/api/v1/token/", form, content_type=JSON).status_code == 400
    assert 100 <= checked <= 103


def test_an_address_beyond_its_limit_does_not_slow_others_down(client: Client, admin_user: User) -> None:
    for _ in range(200):
        log_in(client, "admin@example.com", "wrong", "192.0.2.1")
    assert not log_in(client, "admin@example.com", "wrong", "192.0.2.2")  # the eleventh attempt that counts
    assert log_in(client, "admin@example.com", "password", "192.0.2.3")


def test_known_networks_outlive_the_cache(client: Client, admin_user: User) -> None:
    assert log_in(client, "admin@example.com", "password", "198.51.100.1")
    cache.clear()
    for number in range(11):
        log_in(client, "admin@example.com", "wrong", f"192.0.2.{number}")
        log_in(client, f"name-{number}@example.com", "wrong", "198.51.100.1")
    assert not log_in(client, "admin@example.com", "wrong", "198.51.100.1")
    assert log_in(client, "admin@example.com", "password", "198.51.100.1")


def test_the_oldest_known_networks_are_forgotten(client: Client, admin_user: User) -> None:
    for number in range(MAX_KNOWN_NETWORKS + 2):
        assert log_in(client, "admin@example.com", "password", f"192.0.2.{number}")
    known = list(admin_user.known_networks.order_by("pk").values_list("network", flat=True))
    assert known == [f"192.0.2.{number}" for number in range(2, MAX_KNOWN_NETWORKS + 2)]


def test_networks_are_known_for_ninety_days(client: Client, admin_user: User) -> None:
    assert log_in(client, "admin@example.com", "password", "198.51.100.1")
    KnownNetwork.objects.update(last_login=F("last_login") - timedelta(days=91))
    for number in range(10):
        log_in(client, "admin@example.com", "wrong", f"192.0.2.{number}")
    assert not log_in(client, "admin@example.com", "wrong", "198.51.100.1")
    assert not log_in(client, "admin@example.com", "password", "198.51.100.1")


@pytest.mark.parametrize("email", ["a\0dmin@example.com", "\ud800", "x" * 100_000])
def test_unusual_text_as_email_address_is_counted_too(client: Client, admin_user: User, email: str) -> None:
    body = json.dumps({"email": email, "password": "wrong"})
    for _ in range(10):
        assert client.post("/api/v1/token/", body, content_type=JSON).status_code == 400
    assert client.post("/api/v1/token/", body, content_type=JSON).status_code == 429


def test_guesses_from_elsewhere_do_not_lock_users_out_of_a_known_address(client: Client, admin_user: User) -> None:
    assert log_in(client, "admin@example.com", "password", "198.51.100.1")
    for number in range(30):
        assert not log_in(client, "admin@example.com", "wrong", f"192.0.2.{number}")
    for _ in range(10):
        assert log_in(client, "admin@example.com", "password", "198.51.100.1")


def test_guesses_from_a_known_address_are_limited_too(client: Client, admin_user: User) -> None:
    assert log_in(client, "admin@example.com", "password", "192.0.2.1")
    for _ in range(10):
        assert not log_in(client, "admin@example.com", "wrong", "192.0.2.1")
    assert not log_in(client, "admin@example.com", "password", "192.0.2.1")


def test_addresses_in_one_ipv6_network_share_their_attempts(client: Client, admin_user: User) -> None:
    for number in range(10):
        log_in(client, f"name-{number}@example.com", "wrong", f"2001:db8::{number:x}")
    assert not log_in(client, "admin@example.com", "password", "2001:db8::ffff:1")
    assert log_in(client, "admin@example.com", "password", "2001:db8:0:1::1")


def test_attempts_at_the_admin_and_the_rest_api_count_together(client: Client, admin_user: User) -> None:
    credentials = {"email": "admin@example.com", "password": "wrong"}
    for _ in range(5):
        assert not log_in(client, "admin@example.com", "wrong", "192.0.2.1")
        assert client.post("/api/v1/token/", credentials, content_type=JSON, REMOTE_ADDR="192.0.2.2").status_code == 400
    assert client.post("/api/v1/token/", credentials, content_type=JSON, REMOTE_ADDR="192.0.2.3").status_code == 400
    assert client.post("/api/v1/token/", credentials, content_type=JSON, REMOTE_ADDR="192.0.2.3").status_code == 429
    assert not log_in(client, "admin@example.com", "password", "192.0.2.3")


def test_logins_are_rejected_while_attempts_cannot_be_counted(
    client: Client, admin_user: User, settings: Settings
) -> None:
    redis = f"redis://127.0.0.1:{free_port()}/0"
    settings.CACHES = {"default": {"BACKEND": "django.core.cache.backends.redis.RedisCache", "LOCATION": redis}}
    credentials = {"email": "admin@example.com", "password": "password"}
    answer = client.post("/api/v1/token/", credentials, content_type=JSON)
    assert (answer.status_code, answer.json()) == (503, {"detail": "Redis is unavailable. Try again later."})
    page = client.post("/console/you/login/", {"login": credentials["email"], "password": credentials["password"]})
    assert "Redis is unavailable. Try again later." in page.content.decode()
    assert "sessionid" not in client.cookies
