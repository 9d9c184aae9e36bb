"""Who has access to an account, who is invited, and how people leave."""

import re

import pytest
from django.contrib.sessions.models import Session
from pytest_django import Settings

from accounts import services, shown_once
from accounts.models import Account, AuditEntry, Invitation, Membership, Role
from accounts.users import User
from tests.console.conftest import As
from tests.console.tenants import Tenants

pytestmark = pytest.mark.django_db


def member(account: Account, role: str) -> Membership:
    return Membership.objects.get(account=account, user__email=f"{role}@shop.example")


def test_owners_come_first_each_with_role_and_last_log_in(as_: As, account: Account) -> None:
    page = as_("viewer").get(f"/console/{account.pk}/people/").content.decode()
    rows = page.partition("<tbody")[2].partition("</tbody")[0].split("</tr>")
    for row, role, last in zip(rows, ("owner", "developer", "viewer"), ("never", "never", "just now"), strict=False):
        assert f"{role}@shop.example" in row
        assert role.capitalize() in row
        assert last in row


@pytest.mark.parametrize("role", ["owner", "developer", "viewer"])
def test_only_owners_see_invitations_and_what_changes_people(as_: As, account: Account, role: str) -> None:
    services.invite(account, "new@shop.example")
    page = as_(role).get(f"/console/{account.pk}/people/").content.decode()
    assert ("new@shop.example" in page) == (role == "owner")
    assert ("people/invite/" in page) == (role == "owner")
    assert ("Owners can invite people" in page) == (role != "owner")
    assert "people/leave/" in page


@pytest.mark.parametrize("email", ["stranger@shop.example", "nobody@shop.example"])
def test_the_answer_to_an_invitation_is_the_same_whether_the_address_has_a_user(
    as_: As, account: Account, settings: Settings, email: str
) -> None:
    settings.SENDS_MAIL = True
    form = {"email": email, "role": "developer"}
    page = as_("owner").post(f"/console/{account.pk}/people/invite/", form, follow=True).content.decode()
    assert "If the address is right, an invitation is on its way." in page
    assert Invitation.objects.get().role == "developer"


def test_without_mail_the_inviter_sees_the_link_once(as_: As, account: Account, settings: Settings) -> None:
    settings.SENDS_MAIL = False
    client = as_("owner")
    answer = client.post(f"/console/{account.pk}/people/invite/", {"email": "new@shop.example", "role": "viewer"})
    path = answer.headers["Location"]
    assert as_("owner").get(path).content.decode().count("/console/invitations/") == 0  # another session
    assert as_("viewer").get(path).status_code == 403
    page = client.get(path).content.decode()
    assert "Send this link to new@shop.example" in page
    found = re.search(r'<code id="link">(http://testserver/console/invitations/[^<]+)<', page)
    assert found is not None
    assert found[1] not in f"{answer.headers} {answer.cookies}"
    assert "Example Shop" in as_(None).get(found[1]).content.decode()
    again = client.get(path).content.decode()
    assert "The link has been shown. It is not shown again." in again
    assert found[1] not in again


def test_an_invitation_says_what_is_wrong_and_keeps_what_was_typed(as_: As, account: Account) -> None:
    path = f"/console/{account.pk}/people/invite/"
    for email, sentence in {
        "not an address": "Enter a valid email address.",
        "": "Enter an e-mail address.",
        "viewer@shop.example": "This person already belongs to the account.",
    }.items():
        page = as_("owner").post(path, {"email": email, "role": "developer"}).content.decode()
        assert sentence in page
        assert f'value="{email}"' in page or not email
        assert 'aria-invalid="true"' in page
    assert not Invitation.objects.exists()


def test_a_full_account_says_how_many_people_it_has(as_: As, account: Account) -> None:
    services.set_quotas(account, max_members=3)
    answer = as_("owner").post(f"/console/{account.pk}/people/invite/", {"email": "a@b.example", "role": "viewer"})
    assert "You have 3 of 3 people. Remove one, or ask for more." in answer.content.decode()


def test_owners_revoke_an_invitation(as_: As, account: Account) -> None:
    invitation = services.invite(account, "new@shop.example")
    path = f"/console/{account.pk}/people/invitations/{invitation.pk}/revoke/"
    assert as_("owner").get(path).status_code == 405
    assert "Invitation revoked." in as_("owner").post(path, follow=True).content.decode()
    assert not Invitation.objects.exists()


def test_owners_change_roles_and_the_audit_log_names_them_and_the_console(as_: As, account: Account) -> None:
    viewer = member(account, "viewer")
    answer = as_("owner").post(f"/console/{account.pk}/people/{viewer.pk}/", {"role": "owner"}, follow=True)
    assert "Role changed." in answer.content.decode()
    entry = AuditEntry.objects.first()
    assert entry is not None
    assert (entry.email, entry.source, entry.changes) == (
        "owner@shop.example",
        "console",
        {"role": ["viewer", "owner"]},
    )


def test_owners_remove_a_member_after_a_page_that_asks(as_: As, account: Account) -> None:
    viewer = member(account, "viewer")
    path = f"/console/{account.pk}/people/{viewer.pk}/remove/"
    assert "loses access" in as_("owner").get(path).content.decode()
    assert Membership.objects.filter(pk=viewer.pk).exists()
    assert "Person removed." in as_("owner").post(path, follow=True).content.decode()
    assert not Membership.objects.filter(pk=viewer.pk).exists()


def test_members_leave(as_: As, account: Account) -> None:
    client = as_("viewer")
    path = f"/console/{account.pk}/people/leave/"
    assert "You lose access until an owner invites you again." in client.get(path).content.decode()
    page = client.post(path, follow=True).content.decode()
    assert "You have left Example Shop." in page
    assert "You do not belong to an account yet. Ask an owner to invite viewer@shop.example" in page
    assert client.get(path).status_code == 404


def test_the_last_owner_can_neither_leave_nor_lose_the_role(as_: As, account: Account) -> None:
    client, owner = as_("owner"), member(account, "owner")
    leave = f"/console/{account.pk}/people/leave/"
    assert "Make someone else an owner first." in client.get(leave).content.decode()
    assert "Make someone else an owner first." in client.post(leave, follow=True).content.decode()
    changed = client.post(f"/console/{account.pk}/people/{owner.pk}/", {"role": "viewer"})
    assert "Make someone else an owner first." in changed.content.decode()
    removed = client.post(f"/console/{account.pk}/people/{owner.pk}/remove/", follow=True)
    assert "Make someone else an owner first." in removed.content.decode()
    assert Membership.objects.get(pk=owner.pk).role == "owner"


def test_a_member_of_another_account_is_not_found_here(as_: As, shops: Tenants, account: Account) -> None:
    stranger = Membership.objects.get(account=shops.other.account)
    services.add_member(
        Account.objects.get(pk=shops.other.account), User.objects.get(pk=shops.people["owner"]), "owner"
    )
    invitation = services.invite(Account.objects.get(pk=shops.other.account), "x@shop.example")
    for path in (f"{stranger.pk}/", f"{stranger.pk}/remove/", f"invitations/{invitation.pk}/"):
        assert as_("owner").get(f"/console/{account.pk}/people/{path}").status_code == 404
    assert as_("owner").post(f"/console/{account.pk}/people/invitations/{invitation.pk}/revoke/").status_code == 404


def test_two_hundred_people_come_in_pages_with_a_fixed_number_of_queries(
    as_: As, account: Account, django_assert_max_num_queries: object
) -> None:
    services.set_quotas(account, max_members=300)
    for number in range(200):
        services.add_member(account, User.objects.create(email=f"p{number}@shop.example"), Role.DEVELOPER)
    client = as_("owner")
    client.get(f"/console/{account.pk}/people/")
    with django_assert_max_num_queries(12):  # type: ignore[operator]
        page = client.get(f"/console/{account.pk}/people/?page=5").content.decode()
    assert "201 to 203 of 203" in page
    assert client.get(f"/console/{account.pk}/people/?page=x").status_code == 200


def test_a_text_is_shown_once_to_the_session_that_made_it_and_is_encrypted_until_then(as_: As, shops: Tenants) -> None:
    session = as_("owner").session
    shown_once.keep(session, "x", "a-secret-text")
    session.save()
    assert "a-secret-text" not in str(session.items())
    assert "a-secret-text" not in Session.objects.get(session_key=session.session_key).session_data
    assert [shown_once.take(session, "y"), shown_once.take(session, "x")] == [None, "a-secret-text"]
    assert shown_once.take(session, "x") is None


def test_a_text_that_nobody_has_looked_at_is_forgotten(as_: As) -> None:
    session = as_("owner").session
    shown_once.keep(session, "x", "a-secret-text")
    kept = session["shown_once"]["x"]
    kept["until"] -= shown_once.SHOWN_FOR_SECONDS + 1
    assert shown_once.take(session, "x") is None
