"""People are asked before they become members, and an invitation does not tell whether its address has a user."""

from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from accounts import services
from accounts.invitation_rows import INVITATION_LIFETIME
from accounts.models import Account, AuditEntry, Invitation, Role
from accounts.users import User
from tests.control.conftest import As

pytestmark = pytest.mark.django_db


@pytest.fixture
def path(account: Account) -> str:
    return f"/api/v1/accounts/{account.pk}/invitations/"


def test_known_and_unknown_addresses_get_the_same_answer(as_: As, owner: User, path: str, stranger: User) -> None:
    def invited(email: str) -> tuple[int, Any]:
        answer = as_(owner).post(path, {"email": email, "role": "developer"})
        return answer.status_code, {**answer.json(), "id": 0, "created_at": "", "expires_at": "", "link": ""}

    def expected(email: str) -> dict[str, Any]:
        return {"id": 0, "email": email, "role": "developer", "created_at": "", "expires_at": "", "link": ""}

    for known, unknown in (("Stranger@Example.com", "Nobody@Example.com"), ("stranger@example.com", "nobody@x")):
        answers = [invited(known), invited(unknown)]
        if unknown != "nobody@x":
            assert answers == [(201, expected("stranger@example.com")), (201, expected("nobody@example.com"))]
        else:
            assert [status for status, _ in answers] == [400, 400]
    again = [invited(email) for email in ("stranger@example.com", "nobody@example.com")]
    assert again[0] == again[1]
    assert again[0][0] == 400
    assert "already invited" in str(again[0][1])


def test_nobody_is_enrolled_unasked(as_: As, owner: User, account: Account, path: str, stranger: User) -> None:
    as_(owner).post(path, {"email": stranger.email})
    members = path.replace("invitations", "members")
    assert as_(owner).post(members, {"email": stranger.email}).status_code == 405
    assert not account.memberships.filter(user=stranger).exists()
    assert as_(stranger).get(members).status_code == 404


def test_the_invited_person_accepts(as_: As, owner: User, account: Account, path: str, stranger: User) -> None:
    as_(owner).post(path, {"email": "Stranger@example.com", "role": "developer"})
    client = as_(stranger)
    (invitation,) = client.get("/api/v1/invitations/").json()["results"]
    assert (invitation["account"], invitation["account_name"], invitation["role"]) == (account.pk, "Acme", "developer")
    answer = client.post(f"/api/v1/invitations/{invitation['id']}/accept/")
    assert (answer.status_code, answer.json()) == (
        201,
        {"id": answer.json()["id"], "account": account.pk, "email": "stranger@example.com", "role": "developer"},
    )
    assert account.memberships.get(user=stranger).role == Role.DEVELOPER
    assert not Invitation.objects.exists()
    assert client.post(f"/api/v1/invitations/{invitation['id']}/accept/").status_code == 404


def test_the_invited_person_declines(as_: As, account: Account, stranger: User) -> None:
    invitation = services.invite(account, stranger.email)
    assert as_(stranger).post(f"/api/v1/invitations/{invitation.pk}/decline/").status_code == 204
    assert not account.memberships.filter(user=stranger).exists()
    assert not Invitation.objects.exists()


def test_a_user_who_is_created_later_finds_the_invitation(as_: As, account: Account) -> None:
    services.invite(account, "New@Example.com")
    user = User.objects.create_user("new@example.com")
    assert as_(user).get("/api/v1/invitations/").json()["count"] == 1


def test_others_neither_see_nor_accept_it(as_: As, owner: User, account: Account, stranger: User) -> None:
    invitation = services.invite(account, "new@example.com")
    for user in (owner, stranger):
        assert as_(user).get("/api/v1/invitations/").json()["count"] == 0
        for verb in ("accept", "decline"):
            assert as_(user).post(f"/api/v1/invitations/{invitation.pk}/{verb}/").status_code == 404
    assert Invitation.objects.exists()


def test_an_owner_lists_and_revokes_invitations(as_: As, owner: User, path: str, stranger: User) -> None:
    pk = as_(owner).post(path, {"email": stranger.email}).json()["id"]
    assert [found["id"] for found in as_(owner).get(path).json()["results"]] == [pk]
    assert as_(owner).delete(f"{path}{pk}/").status_code == 204
    assert as_(stranger).post(f"/api/v1/invitations/{pk}/accept/").status_code == 404


def test_operators_read_and_revoke_invitations_in_the_admin(admin_client: Client, account: Account) -> None:
    old, pending = services.invite(account, "old@example.com"), services.invite(account, "new@example.com")
    Invitation.objects.filter(pk=old.pk).update(created_at=timezone.now() - INVITATION_LIFETIME)
    services.suspend_account(account)
    path = "/admin/accounts/invitation/"
    text = admin_client.get(path).content.decode()
    assert "new@example.com" in text
    assert "old@example.com" not in text
    page = admin_client.get(f"{path}{pending.pk}/change/").content.decode()
    assert "Acme" in page
    assert "_save" not in page
    assert admin_client.get(f"{path}add/").status_code == 403
    assert admin_client.post(f"{path}{pending.pk}/change/", {"role": "owner"}).status_code == 403
    assert admin_client.post(f"{path}{pending.pk}/delete/", {"post": "yes"}).status_code == 302
    assert list(Invitation.objects.all()) == [old]
    entry = AuditEntry.objects.latest("pk")
    assert (entry.verb, entry.kind, entry.name) == ("revoked", "invitation", "new@example.com")


def test_an_expired_invitation_is_replaced_but_not_accepted(as_: As, account: Account, stranger: User) -> None:
    old = services.invite(account, stranger.email)
    Invitation.objects.update(created_at=timezone.now() - INVITATION_LIFETIME - timedelta(seconds=1))
    assert as_(stranger).get("/api/v1/invitations/").json()["count"] == 0
    assert as_(stranger).post(f"/api/v1/invitations/{old.pk}/accept/").status_code == 404
    new = services.invite(account, stranger.email, Role.OWNER)
    assert list(Invitation.objects.all()) == [new]


def test_a_member_cannot_be_invited(as_: As, owner: User, path: str, teammate: User) -> None:
    answer = as_(owner).post(path, {"email": "Teammate@example.com"})
    assert (answer.status_code, answer.json()) == (400, {"email": ["This person already belongs to the account."]})


def test_an_operator_who_adds_a_person_makes_the_invitation_obsolete(account: Account, stranger: User) -> None:
    services.invite(account, stranger.email)
    services.add_member(account, stranger)
    assert not Invitation.objects.exists()


def test_an_invitation_to_a_suspended_account_can_only_be_declined(as_: As, account: Account, stranger: User) -> None:
    pk = services.invite(account, stranger.email).pk
    services.suspend_account(account)
    assert as_(stranger).post(f"/api/v1/invitations/{pk}/accept/").status_code == 403
    assert as_(stranger).post(f"/api/v1/invitations/{pk}/decline/").status_code == 204
