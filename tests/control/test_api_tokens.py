"""Logging in to the management API and logging out."""

import json
from typing import Any

import pytest
from django.test import Client

from accounts.models import Account
from accounts.users import User

pytestmark = pytest.mark.django_db


def login(client: Client, email: str = "owner@example.com", password: str = "owner-password") -> Any:
    return client.post("/api/v1/token/", {"email": email, "password": password}, content_type="application/json")


def test_a_token_gives_access_until_it_is_revoked(client: Client, account: Account) -> None:
    answer = login(client)
    assert answer.status_code == 200
    assert answer.headers["Cache-Control"] == "no-store"
    assert set(answer.json()) == {"token", "expiry"}
    headers = {"Authorization": f"Token {answer.json()['token']}"}
    assert client.get("/api/v1/accounts/", headers=headers).json()["count"] == 1
    assert client.delete("/api/v1/token/", headers=headers).status_code == 204
    assert client.get("/api/v1/accounts/", headers=headers).status_code == 401


def test_a_token_is_not_stored_in_plain_text(client: Client, owner: User) -> None:
    from accounts.models import ApiToken

    token = login(client).json()["token"]
    assert token not in str(list(ApiToken.objects.values()))


def test_all_failed_logins_get_the_same_answer(client: Client, owner: User) -> None:
    answers = [login(client, "owner@example.com", "wrong"), login(client, "nobody@example.com", "wrong")]
    assert [answer.status_code for answer in answers] == [400, 400]
    assert answers[0].json() == {"non_field_errors": ["No active user has this e-mail address and password."]}
    assert answers[1].json() == answers[0].json()
    User.objects.update(is_active=False)
    assert login(client).json() == answers[0].json()


def test_guesses_for_one_email_address_are_throttled_across_network_addresses(client: Client, owner: User) -> None:
    for number in range(11):
        client.defaults["REMOTE_ADDR"] = f"10.0.0.{number}"
        assert login(client, "owner@example.com", "wrong").status_code == 400
    throttled = login(client, "Owner@Example.com", "wrong")
    assert throttled.status_code == 429
    assert int(throttled.headers["Retry-After"]) > 0


def test_guesses_for_many_email_addresses_are_throttled_from_one_network_address(client: Client, owner: User) -> None:
    for number in range(10):
        login(client, f"name-{number}@example.com", "wrong")
    assert login(client).status_code == 429


def test_a_session_has_no_token_to_revoke(client: Client, owner: User) -> None:
    client.force_login(owner)
    assert client.delete("/api/v1/token/").status_code == 404


@pytest.mark.parametrize("body", ["", "[]", "{", '"x"', '{"email": {}}', '{"email": "a\\u0000", "password": "b"}'])
def test_invalid_bodies_get_400(client: Client, db: None, body: str) -> None:
    assert client.post("/api/v1/token/", body, content_type="application/json").status_code == 400


@pytest.mark.parametrize("spelling", ["owner@example.com{}", "{}owner@example.com", "\t{}owner@example.com\n"])
def test_spaces_around_an_email_address_allow_no_more_guesses(client: Client, owner: User, spelling: str) -> None:
    for number in range(11):
        client.defaults["REMOTE_ADDR"] = f"10.0.0.{number}"
        assert login(client, spelling.format(" " * number), "wrong").status_code == 400
    assert login(client).status_code == 429


def test_a_number_as_email_address_is_throttled_like_the_same_text(client: Client, db: None) -> None:
    for number in range(11):
        client.defaults["REMOTE_ADDR"] = f"10.0.0.{number}"
        body = json.dumps({"email": 12345, "password": "wrong"})
        assert client.post("/api/v1/token/", body, content_type="application/json").status_code == 400
    assert login(client, "12345").status_code == 429
