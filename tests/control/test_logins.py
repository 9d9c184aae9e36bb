"""Guessing passwords at the admin and at the REST API."""

import pytest
from django.test import Client
from pytest_django import Settings

from accounts.users import User
from tests.servers import free_port

JSON = "application/json"


def log_in(client: Client, email: str, password: str, address: str) -> bool:
    """Whether a login at the admin succeeds."""
    client.logout()
    answer = client.post("/admin/login/", {"username": email, "password": password}, REMOTE_ADDR=address)
    return answer.status_code == 302


def test_ten_a_minute_from_one_address_are_tried(client: Client, admin_user: User) -> None:
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
def test_ten_a_minute_for_one_email_address_are_tried_however_it_is_spelt(
    client: Client, admin_user: User, spelling: str
) -> None:
    for number in range(10):
        assert not log_in(client, spelling, "wrong", f"192.0.2.{number}")
    assert not log_in(client, "admin@example.com", "password", "192.0.2.99")


def test_nobody_is_locked_out_from_elsewhere_of_where_they_have_logged_in(client: Client, admin_user: User) -> None:
    assert log_in(client, "admin@example.com", "password", "198.51.100.1")
    for number in range(30):
        assert not log_in(client, "admin@example.com", "wrong", f"192.0.2.{number}")
    assert log_in(client, "admin@example.com", "password", "198.51.100.1")
    assert not log_in(client, "admin@example.com", "password", "198.51.100.2")


def test_who_is_known_somewhere_may_not_guess_there_for_ever(client: Client, admin_user: User) -> None:
    assert log_in(client, "admin@example.com", "password", "192.0.2.1")
    for _ in range(9):
        assert not log_in(client, "admin@example.com", "wrong", "192.0.2.1")
    assert not log_in(client, "admin@example.com", "password", "192.0.2.1")


def test_another_address_of_the_same_ipv6_network_buys_no_more(client: Client, admin_user: User) -> None:
    for number in range(10):
        log_in(client, f"name-{number}@example.com", "wrong", f"2001:db8::{number:x}")
    assert not log_in(client, "admin@example.com", "password", "2001:db8::ffff:1")
    assert log_in(client, "admin@example.com", "password", "2001:db8:0:1::1")


def test_an_attempt_counts_at_whichever_door(client: Client, admin_user: User) -> None:
    person = {"email": "admin@example.com", "password": "wrong"}
    for _ in range(5):
        assert not log_in(client, "admin@example.com", "wrong", "192.0.2.1")
        assert client.post("/api/v1/token/", person, content_type=JSON, REMOTE_ADDR="192.0.2.2").status_code == 400
    assert client.post("/api/v1/token/", person, content_type=JSON, REMOTE_ADDR="192.0.2.3").status_code == 429
    assert not log_in(client, "admin@example.com", "password", "192.0.2.3")


def test_nobody_guesses_while_attempts_cannot_be_counted(client: Client, admin_user: User, settings: Settings) -> None:
    redis = f"redis://127.0.0.1:{free_port()}/0"
    settings.CACHES = {"default": {"BACKEND": "django.core.cache.backends.redis.RedisCache", "LOCATION": redis}}
    person = {"email": "admin@example.com", "password": "password"}
    answer = client.post("/api/v1/token/", person, content_type=JSON)
    assert (answer.status_code, answer.json()) == (503, {"detail": "Redis is unavailable. Try again later."})
    page = client.post("/admin/login/", {"username": person["email"], "password": person["password"]})
    assert "Redis is unavailable. Try again later." in page.content.decode()
    assert "sessionid" not in client.cookies
