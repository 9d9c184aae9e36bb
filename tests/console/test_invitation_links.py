"""The link of an invitation: who can use it, once, and what it does not reveal."""

from typing import Any

import pytest
from django.core import mail
from django.test import Client
from django.utils import timezone
from pytest_django import DjangoCaptureOnCommitCallbacks, Settings

from accounts import services
from accounts.invitation_rows import INVITATION_LIFETIME
from accounts.models import Account, Invitation, Role
from accounts.users import User
from tests.console.conftest import As
from tests.console.test_sign_up import invite

pytestmark = pytest.mark.django_db

Commit = DjangoCaptureOnCommitCallbacks


@pytest.fixture
def link(client: Client, account: Account, django_capture_on_commit_callbacks: Commit) -> str:
    """The path of the link with which the stranger is invited to the shop."""
    return invite(client, account, django_capture_on_commit_callbacks, "stranger@shop.example")


def test_the_mail_has_the_link_and_names_who_invites_to_what(
    client: Client, account: Account, settings: Settings, django_capture_on_commit_callbacks: Commit
) -> None:
    settings.SENDS_MAIL = True
    services.rename_account(account, "Shop\nBcc: x")
    owner = Client()
    owner.force_login(User.objects.get(email="owner@shop.example"))
    with django_capture_on_commit_callbacks(execute=True):
        path = f"/api/v1/accounts/{account.pk}/invitations/"
        answer = owner.post(path, {"email": "new@example.com"}, content_type="application/json")
    assert (answer.status_code, answer.json()["link"]) == (201, None)
    (message,) = mail.outbox
    assert (message.to, message.subject) == (["new@example.com"], "Invitation to Shop Bcc: x at WebSocket service")
    assert "owner@shop.example invites you to the account" in message.body
    assert "http://testserver/console/invitations/" in message.body


def test_the_database_has_only_the_hash_of_the_token(link: str) -> None:
    token = link.split("/")[-2]
    assert len(token) >= 40
    assert token not in str(list(Invitation.objects.values()))


def test_a_user_logs_in_and_joins(client: Client, account: Account, link: str) -> None:
    page = client.get(link).content.decode()
    assert "stranger@shop.example" in page
    assert "Example Shop" in page
    assert f"/console/you/login/?next={link}" in page
    form = {"login": "stranger@shop.example", "password": "stranger-password", "next": link}
    assert client.post("/console/you/login/", form).headers["Location"] == link
    assert not account.memberships.filter(user__email="stranger@shop.example").exists()
    assert "Join" in client.get(link).content.decode()
    assert client.post(link, {"answer": "accept"}).headers["Location"] == f"/console/{account.pk}/"
    assert account.memberships.get(user__email="stranger@shop.example").role == Role.DEVELOPER
    assert client.get(link).status_code == 404


def test_a_user_declines(as_: As, account: Account, link: str) -> None:
    assert as_("stranger").post(link, {"answer": "decline"}).status_code == 302
    assert not Invitation.objects.exists()
    assert not account.memberships.filter(user__email="stranger@shop.example").exists()


@pytest.mark.parametrize("role", ["viewer", "owner", None])
def test_others_cannot_use_it(as_: As, account: Account, link: str, role: str | None) -> None:
    client = as_(role)
    for answer in ("accept", "decline"):
        client.post(link, {"answer": answer})
    assert Invitation.objects.exists()
    page = client.get(link).content.decode()
    assert ("Log out to accept the invitation" in page) == (role is not None)


def expire() -> None:
    Invitation.objects.update(created_at=timezone.now() - INVITATION_LIFETIME)


def revoke() -> None:
    services.revoke_invitation(Invitation.objects.get())


def suspend() -> None:
    services.suspend_account(Invitation.objects.get().account)


@pytest.mark.parametrize("change", [expire, revoke])
def test_after_its_end_it_does_not_work(as_: As, link: str, change: Any) -> None:
    change()
    client = as_("stranger")
    for answer in (client.get(link), client.post(link, {"answer": "accept"})):
        assert answer.status_code == 404
        assert "Example Shop" not in answer.content.decode()


def test_nobody_joins_a_suspended_account(as_: As, account: Account, link: str) -> None:
    suspend()
    client = as_("stranger")
    page = client.post(link, {"answer": "accept"}, follow=True).content.decode()
    assert "suspended" in page
    assert not account.memberships.filter(user__email="stranger@shop.example").exists()


@pytest.mark.parametrize("token", ["x", "\0", "x" * 5000, "%00", "\ud7ff"])
def test_a_wrong_token_gets_404(client: Client, token: str) -> None:
    assert client.get(f"/console/invitations/{token}/").status_code == 404


def test_it_is_not_an_answer_to_the_invitation_of_another_page(client: Client, settings: Settings, link: str) -> None:
    for target in (f"https://evil.example{link}", "/console/", "/console/invitations/x/"):
        page = client.get("/console/you/sign-up/", {"next": target}).content.decode()
        assert "You need an invitation" in page
