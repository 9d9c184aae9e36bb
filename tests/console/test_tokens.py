"""The API tokens of a person: created, shown once, and revoked."""

import re
from datetime import timedelta

import pytest
from django.contrib.sessions.models import Session
from django.test import Client
from django.utils import timezone
from pytest_django import Settings

from accounts.models import ApiToken
from accounts.tokens import create_token
from accounts.users import User
from tests.console.conftest import As
from tests.console.tenants import Tenants

pytestmark = pytest.mark.django_db

LIST, NEW = "/console/you/tokens/", "/console/you/tokens/new/"


def token_in(page: str) -> str | None:
    found = re.search(r'<code id="token">([0-9a-f]{64})<', page)
    return found[1] if found else None


def works(text: str) -> bool:
    return Client().get("/api/v1/accounts/", headers={"Authorization": f"Token {text}"}).status_code == 200


def test_a_new_token_is_shown_once_and_is_in_no_url_cookie_or_session(as_: As) -> None:
    client = as_("developer")
    answer = client.post(NEW, {"name": "Deployment"})
    path = answer.headers["Location"]
    kept = f"{answer.headers} {answer.cookies} {[session.get_decoded() for session in Session.objects.all()]}"
    page = client.get(path)
    text = token_in(page.content.decode())
    assert text is not None
    assert works(text)
    assert text not in kept
    assert text not in path
    assert "no-store" in page.headers["Cache-Control"]
    again = client.get(path).content.decode()
    assert "The token has been shown. It is not shown again." in again
    assert text not in again + client.get(LIST).content.decode()
    assert "Deployment" in client.get(LIST).content.decode()


def test_another_session_does_not_see_it(as_: As) -> None:
    path = as_("developer").post(NEW, {"name": "Deployment"}).headers["Location"]
    assert token_in(as_("developer").get(path).content.decode()) is None
    assert as_("owner").get(path).status_code == 404
    assert as_(None).get(path).status_code == 302


@pytest.mark.parametrize(("name", "sentence"), [("", "Enter a name."), ("x" * 101, "at most 100 characters")])
def test_a_token_needs_a_name(as_: As, name: str, sentence: str) -> None:
    assert sentence in as_("owner").post(NEW, {"name": name}).content.decode()
    assert not ApiToken.objects.exists()


def test_the_list_has_ones_own_tokens_with_their_last_use(as_: As, shops: Tenants) -> None:
    owner = User.objects.get(pk=shops.people["owner"])
    used, text = create_token(owner, "Backup")
    create_token(owner)
    expired, _ = create_token(owner, "Expired")
    ApiToken.objects.filter(pk=expired.pk).update(expiry=timezone.now() - timedelta(seconds=1))
    create_token(User.objects.get(pk=shops.people["viewer"]), "Theirs")
    works(text)
    page = as_("owner").get(LIST).content.decode()
    assert "A token can do what you can do, in all your accounts." in page
    backup = page.partition("Backup")[2].partition("</tr>")[0]
    assert "just now" in backup.partition('data-label="Last used"')[2].partition("</td>")[0]
    assert "Log-in through the REST API" in page
    assert "Theirs" not in page
    assert "Expired" not in page
    assert used.digest not in page


def test_people_revoke_their_own_tokens_only(as_: As, shops: Tenants) -> None:
    token, text = create_token(User.objects.get(pk=shops.people["owner"]), "Backup")
    path = f"{LIST}{token.token_key}/revoke/"
    assert as_("stranger").post(path).status_code == 404
    assert as_("owner").get(path).status_code == 405
    assert works(text)
    assert "Token revoked." in as_("owner").post(path, follow=True).content.decode()
    assert not works(text)
    assert as_("owner").post(path).status_code == 404


def test_at_the_limit_the_form_says_that_the_oldest_ends(as_: As, settings: Settings) -> None:
    settings.API_TOKENS_PER_USER = 2
    client = as_("owner")
    assert "ends the oldest" not in client.get(NEW).content.decode()
    for name in ("First", "Second"):
        client.post(NEW, {"name": name})
    assert "You have 2 of 2 tokens: this one ends the oldest." in client.get(NEW).content.decode()
    client.post(NEW, {"name": "Third"})
    assert set(ApiToken.objects.values_list("name", flat=True)) == {"Second", "Third"}
