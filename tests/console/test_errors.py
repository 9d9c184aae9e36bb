"""The pages that say why there is no other page, and the same as JSON for programs."""

import json
import re
from collections.abc import Iterator

import pytest
from django.db.models.signals import pre_save
from django.test import Client
from pytest_django import Settings

from accounts.models import Account
from accounts.users import User
from tests.console.conftest import As

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize("path", ["999999/", "999999/people/", "none/", "99999999999999999999999/people/"])
def test_what_does_not_exist_in_the_console_gets_404_and_the_way_to_the_accounts(as_: As, path: str) -> None:
    answer = as_("owner").get(f"/console/{path}")
    page = answer.content.decode()
    assert answer.status_code == 404
    assert "This page does not exist" in page
    assert "It was deleted, or it belongs to an account that you are not a member of." in page
    assert 'href="/console/accounts/"' in page
    assert answer.headers["Cache-Control"] == "no-store"


def test_other_pages_that_do_not_exist_have_the_same_look(as_: As) -> None:
    for role in (None, "owner"):
        answer = as_(role).get("/none/")
        assert answer.status_code == 404
        assert "Check the address." in answer.content.decode()
        assert "console.css" in answer.content.decode()


def test_the_rest_api_answers_with_json(as_: As) -> None:
    for path in ("/api/v1/none/", "/api/none/"):
        answer = as_(None).get(path)
        assert (answer.status_code, set(answer.json())) == (404, {"detail"})


@pytest.fixture
def broken(shops: object) -> Iterator[None]:
    """Accounts cannot be saved."""

    def fail(**_: object) -> None:
        raise RuntimeError("secret-in-the-error")

    pre_save.connect(fail, sender=Account)
    yield
    pre_save.disconnect(fail, sender=Account)


def test_a_failure_gets_a_number_that_is_in_the_log(
    as_: As, account: Account, broken: None, caplog: pytest.LogCaptureFixture
) -> None:
    client = as_("owner")
    client.raise_request_exception = False
    answer = client.post(f"/console/{account.pk}/settings/", {"name": "Shop"})
    page = answer.content.decode()
    assert answer.status_code == 500
    assert "Something went wrong on our side" in page
    assert "Nothing was changed." in page
    assert "secret-in-the-error" not in page
    number = re.search("<code>([0-9a-f]{4}-[0-9a-f]{4})</code>", page)
    assert number is not None
    assert number[1] in caplog.text


def test_a_failure_of_the_rest_api_is_json_with_a_number(as_: As, account: Account, broken: None) -> None:
    client = as_("owner")
    client.raise_request_exception = False
    answer = client.patch(f"/api/v1/accounts/{account.pk}/", {"name": "x"}, content_type="application/json")
    assert answer.status_code == 500
    assert re.search("The number of this error is [0-9a-f]{4}-[0-9a-f]{4}", json.loads(answer.content)["detail"])


def test_a_form_without_its_token_changes_nothing_and_says_what_to_do(account: Account) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(User.objects.get(email="owner@shop.example"))
    answer = client.post(f"/console/{account.pk}/settings/", {"name": "Shop"})
    assert answer.status_code == 403
    assert "This form has expired" in answer.content.decode()
    account.refresh_from_db()
    assert account.name == "Example Shop"


@pytest.mark.parametrize("role", [None, "owner"])
def test_support_can_be_reached_from_there(as_: As, settings: Settings, role: str | None) -> None:
    settings.SUPPORT_URL = "https://help.example.com/"
    assert 'href="https://help.example.com/"' in as_(role).get("/none/").content.decode()
