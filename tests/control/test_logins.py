"""Guessing passwords at the admin and through the REST API."""

import pytest
from django.test import Client
from pytest_django import Settings

from accounts.users import User
from tests.servers import free_port

JSON = "application/json"


def log_in(client: Client, email: str, password: str, address: str) -> bool:
    """Log in to the admin and return whether that succeeds."""
    client.logout()
    answer = client.post("/admin/login/", {"username": email, "password": password}, REMOTE_ADDR=address)
    return answer.status_code == 302


def test_one_network_address_gets_ten_attempts_a_minute(client: Client, admin_user: User) -> None:
    for number in range(10):
        assert not log_in(client, f"name-{number}@example.com", "wrong", "192.0.2.1")
    assert not log_in(client, "admin@example.com", "password", "192.0.2.1")
    page = client.post(
        "/admin/login/", {"username": "admin@example.com", "password": "password"}, REMOTE_ADDR="192.0.2.1"
    )
    assert "Too many attempts. Try again in 60 seconds." in page.content.decode()
    assert log_in(client, "admin@example.com", "password", "192.0.2.2")


@pytest.mark.parametrize(
    "spelling", ["admin@example.com", "ADMIN@Example.COM", " admin@example.com", "\uff41dmin@example.com"]
)
def test_one_email_address_gets_ten_attempts_a_minute_in_all_spellings(
    client: Client, admin_user: User, spelling: str
) -> None:
    for number in range(10):
        assert not log_in(client, spelling, "wrong", f"192.0.2.{number}")
    assert not log_in(client, "admin@example.com", "password", "192.0.2.99")


def test_guesses_from_elsewhere_do_not_lock_users_out_of_a_known_address(client: Client, admin_user: User) -> None:
    assert log_in(client, "admin@example.com", "password", "198.51.100.1")
    for number in range(30):
        assert not log_in(client, "admin@example.com", "wrong", f"192.0.2.{number}")
    assert log_in(client, "admin@example.com", "password", "198.51.100.1")
    assert not log_in(client, "admin@example.com", "password", "198.51.100.2")


def test_guesses_from_a_known_address_are_limited_too(client: Client, admin_user: User) -> None:
    assert log_in(client, "admin@example.com", "password", "192.0.2.1")
    for _ in range(9):
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
    page = client.post("/admin/login/", {"username": credentials["email"], "password": credentials["password"]})
    assert "Redis is unavailable. Try again later." in page.content.decode()
    assert "sessionid" not in client.cookies
