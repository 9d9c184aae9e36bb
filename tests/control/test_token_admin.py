"""The admin's page of API tokens, and the pages of libraries that are not there."""

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission
from django.test import Client

from accounts.models import ApiToken, AuditEntry
from accounts.tokens import create_token
from accounts.users import User

pytestmark = pytest.mark.django_db

LIST = "/admin/accounts/apitoken/"


def test_it_shows_whose_tokens_exist_but_no_secret(admin_client: Client, owner: User) -> None:
    token, text = create_token(owner)
    for path in (LIST, f"{LIST}{token.pk}/change/", f"{LIST}{token.pk}/delete/"):
        page = admin_client.get(path).content.decode()
        assert "owner@example.com" in page
        assert text not in page
        assert token.token_key not in page


def test_nobody_can_create_or_change_a_token(admin_client: Client, owner: User) -> None:
    token, _ = create_token(owner)
    form = {"user": owner.pk, "expiry_0": "2100-01-01", "expiry_1": "00:00"}
    assert admin_client.post(f"{LIST}add/", form).status_code == 403
    assert admin_client.post(f"{LIST}{token.pk}/change/", form).status_code == 403
    assert list(ApiToken.objects.values_list("pk", "expiry")) == [(token.pk, token.expiry)]


@pytest.mark.parametrize("by", ["page", "action"])
def test_operators_revoke_tokens_and_the_audit_log_has_them(admin_client: Client, owner: User, by: str) -> None:
    token, text = create_token(owner)
    form = {"post": "yes", "action": "delete_selected", "_selected_action": token.pk}
    path = LIST if by == "action" else f"{LIST}{token.pk}/delete/"
    assert admin_client.post(path, form).status_code == 302
    assert Client().get("/api/v1/accounts/", headers={"Authorization": f"Token {text}"}).status_code == 401
    entry = AuditEntry.objects.get()
    assert (entry.email, entry.source, entry.verb, entry.kind) == ("admin@example.com", "admin", "revoked", "token")
    assert (entry.name, entry.label, entry.account_pk) == (
        "owner@example.com",
        "API token of owner@example.com",
        None,
    )
    assert entry.label in admin_client.get("/admin/accounts/auditentry/").content.decode()
    kept = f"{list(LogEntry.objects.values())} {list(AuditEntry.objects.values())}"
    assert text not in kept
    assert token.token_key not in LogEntry.objects.get().object_repr


@pytest.mark.parametrize(("codename", "status"), [("view_apitoken", 403), ("delete_apitoken", 302)])
def test_staff_need_the_permission(client: Client, owner: User, codename: str, status: int) -> None:
    token, _ = create_token(owner)
    staff = User.objects.create_user("staff@example.com", is_staff=True)
    staff.user_permissions.add(Permission.objects.get(codename=codename))
    client.force_login(staff)
    assert client.post(f"{LIST}{token.pk}/delete/", {"post": "yes"}).status_code == status
    assert ApiToken.objects.exists() == (status == 403)


@pytest.mark.parametrize(
    "path",
    [
        "/admin/account/emailaddress/",
        "/admin/usersessions/usersession/",
        "/accounts/",
        "/accounts/login/",
        "/accounts/signup/",
        "/accounts/password/reset/",
    ],
)
def test_pages_of_the_library_for_sessions_do_not_exist(admin_client: Client, path: str) -> None:
    assert admin_client.get(path).status_code == 404
