"""Operators can do through the REST API what their permissions allow in the admin, with the same services."""

import pytest
from django.contrib.auth.models import Permission

from accounts import services
from accounts.models import Account, ApiKey, AuditEntry, Cluster, Role
from accounts.users import User

from .conftest import As

pytestmark = pytest.mark.django_db


@pytest.fixture
def operator(db: None) -> User:
    return User.objects.create_user("operator@example.com", password="operator-password", is_staff=True)


def grant(user: User, *permissions: str) -> User:
    """Give a user permissions such as `view_account`; return the user without the cache of permissions."""
    user.user_permissions.add(*Permission.objects.filter(codename__in=permissions))
    return User.objects.get(pk=user.pk)


def test_an_operator_creates_accounts_for_others(as_: As, operator: User, owner: User) -> None:
    client = as_(grant(operator, "add_account", "change_account"))
    answer = client.post("/api/v1/accounts/", {"name": "Acme", "owner": "Owner@example.com", "max_connections": 3})
    assert (answer.status_code, answer.json()["max_connections"]) == (201, 3)
    membership = Account.objects.get().memberships.get()
    assert (membership.user, membership.role) == (owner, Role.OWNER)
    assert client.post("/api/v1/accounts/", {"name": "Nobody's", "owner": None}).status_code == 201
    assert not Account.objects.get(name="Nobody's").memberships.exists()
    unknown = client.post("/api/v1/accounts/", {"name": "New", "owner": "none@example.com"})
    assert (unknown.status_code, unknown.json()) == (400, {"owner": ["No active user has this e-mail address."]})
    assert Account.objects.count() == 2


def test_nobody_else_learns_whether_an_owner_exists(as_: As, owner: User, stranger: User) -> None:
    answers = [
        as_(owner).post("/api/v1/accounts/", {"name": "New", "owner": email})
        for email in ("stranger@example.com", "none@example.com")
    ]
    assert [answer.status_code for answer in answers] == [403, 403]
    assert answers[0].json() == answers[1].json()


def test_an_operator_suspends_and_resumes_with_the_service(
    as_: As, operator: User, account: Account, owner: User
) -> None:
    client = as_(grant(operator, "view_account", "change_account"))
    for verb, suspended in (("suspend", True), ("resume", False)):
        answer = client.post(f"/api/v1/accounts/{account.pk}/{verb}/")
        assert (answer.status_code, answer.json()["suspended"]) == (200, suspended)
        account.refresh_from_db()
        assert account.suspended is suspended
        assert as_(owner).post(f"/api/v1/accounts/{account.pk}/{verb}/").status_code == 403
    assert [entry.verb for entry in AuditEntry.objects.all()[:2]] == ["resumed", "suspended"]


def test_an_operator_who_may_only_look_changes_nothing(as_: As, operator: User, key: ApiKey) -> None:
    viewer = as_(grant(operator, "view_account", "view_membership", "view_cluster", "view_apikey", "view_auditentry"))
    account, cluster = key.cluster.account, key.cluster
    paths = {
        "account": f"/api/v1/accounts/{account.pk}/",
        "cluster": f"/api/v1/clusters/{cluster.pk}/",
        "key": f"/api/v1/keys/{key.public_key}/",
        "members": f"/api/v1/accounts/{account.pk}/members/",
        "audit": f"/api/v1/accounts/{account.pk}/audit/",
        "whole audit": "/api/v1/audit/",
    }
    assert {name: viewer.get(path).status_code for name, path in paths.items()} == dict.fromkeys(paths, 200)
    before = list(Account.objects.values()) + list(Cluster.objects.values()) + list(ApiKey.objects.values())
    answers = [
        viewer.patch(paths["account"], {"name": "New"}),
        viewer.patch(paths["account"], {"max_connections": 1}),
        viewer.delete(paths["account"]),
        viewer.post(paths["account"] + "suspend/"),
        viewer.patch(paths["cluster"], {"enabled": False}),
        viewer.delete(paths["cluster"]),
        viewer.post("/api/v1/clusters/", {"account": account.pk, "cluster_id": "fresh"}),
        viewer.patch(paths["key"], {"label": "new"}),
        viewer.delete(paths["key"]),
        viewer.post(paths["key"] + "rotate-secret/"),
        viewer.post("/api/v1/keys/", {"cluster": cluster.cluster_id, "label": "new"}),
        viewer.post(paths["members"], {"email": "operator@example.com"}),
    ]
    assert [answer.status_code for answer in answers] == [403] * len(answers)
    assert list(Account.objects.values()) + list(Cluster.objects.values()) + list(ApiKey.objects.values()) == before


def test_each_permission_opens_only_its_own_kind(as_: As, operator: User, key: ApiKey) -> None:
    account = key.cluster.account
    client = as_(grant(operator, "view_account"))
    assert client.get("/api/v1/accounts/").json()["count"] == 1
    assert client.get("/api/v1/clusters/").json()["count"] == 0
    assert client.get("/api/v1/keys/").json()["count"] == 0
    assert client.get("/api/v1/webhooks/").json()["count"] == 0
    assert client.get(f"/api/v1/accounts/{account.pk}/members/").status_code == 403
    assert client.get(f"/api/v1/accounts/{account.pk}/audit/").status_code == 403
    assert client.get("/api/v1/audit/").status_code == 403


def test_revoking_a_key_needs_the_permission_that_the_admin_asks_for(as_: As, operator: User, key: ApiKey) -> None:
    path = f"/api/v1/keys/{key.public_key}/"
    assert as_(grant(operator, "view_apikey", "delete_apikey")).delete(path).status_code == 403
    assert as_(grant(operator, "change_apikey")).delete(path).status_code == 204
    key.refresh_from_db()
    assert key.revoked


def test_permissions_count_only_for_staff_as_in_the_admin(as_: As, stranger: User, account: Account) -> None:
    client = as_(grant(stranger, "view_account", "change_account"))
    assert client.get("/api/v1/accounts/").json()["count"] == 0
    assert client.post(f"/api/v1/accounts/{account.pk}/suspend/").status_code == 404


def test_the_whole_audit_log_has_deleted_accounts_and_operators_names(as_: As, operator: User, owner: User) -> None:
    client = as_(grant(operator, "add_account", "view_auditentry"))
    account = services.create_account("Gone", owner)
    primary_key = account.pk
    services.delete_account(account)
    client.post("/api/v1/accounts/", {"name": "New"})
    entries = client.get("/api/v1/audit/").json()["results"]
    assert {"account": primary_key, "account_name": "Gone", "verb": "deleted", "kind": "account"}.items() <= next(
        entry for entry in entries if entry["verb"] == "deleted" and entry["kind"] == "account"
    ).items()
    assert "operator@example.com" in {entry["email"] for entry in entries}
