"""The audit trail records every change and the user who made it."""

from datetime import timedelta
from typing import Any

import pytest
from django.core.exceptions import ValidationError
from django.core.management import CommandError, call_command
from django.db import transaction
from django.db.models.signals import post_save
from django.test import Client
from django.utils import timezone

from accounts import services
from accounts.models import Account, ApiKey, AuditEntry, Cluster, Membership, Role
from accounts.users import User
from tests.control.conftest import As, secret_of
from tests.control.test_admin import inline, run_action

pytestmark = pytest.mark.django_db(transaction=True)
JSON = "application/json"
NEW_KEY = {
    "protects_channels": [None, False],
    "allows_client_messages": [None, True],
    "closes_expired_connections": [None, False],
    "allowed_origins": [None, []],
    "max_connections": [None, None],
    "max_message_bytes": [None, None],
    "max_messages_per_second": [None, None],
}


def pop_entries() -> list[tuple[Any, ...]]:
    """Remove and return the recorded entries, the oldest first: verb, kind, name and changes."""
    entries = list(AuditEntry.objects.order_by("pk").values_list("verb", "kind", "name", "changes"))
    AuditEntry.objects.all().delete()
    return entries


def test_every_verb_is_recorded_with_its_changes(owner: User, teammate: User) -> None:
    account = services.create_account("Acme", owner)
    pk = str(account.pk)
    assert pop_entries() == [
        ("created", "account", pk, {"name": [None, "Acme"]}),
        ("created", "member", "owner@example.com", {"role": [None, "owner"]}),
    ]
    services.rename_account(account, "Acme Inc.")
    services.set_quotas(account, max_connections=5, max_messages_per_day=None)
    services.suspend_account(account)
    services.resume_account(account)
    assert pop_entries() == [
        ("changed", "account", pk, {"name": ["Acme", "Acme Inc."]}),
        ("changed", "account", pk, {"max_connections": [None, 5]}),
        ("suspended", "account", pk, {}),
        ("resumed", "account", pk, {}),
    ]
    member = services.add_member(account, teammate)
    services.set_role(member, Role.OWNER)
    services.remove_member(member)
    assert pop_entries() == [
        ("created", "member", "teammate@example.com", {"role": [None, "viewer"]}),
        ("changed", "member", "teammate@example.com", {"role": ["viewer", "owner"]}),
        ("deleted", "member", "teammate@example.com", {}),
    ]
    cluster = services.create_cluster(account, "acme")
    services.update_cluster(cluster, enabled=False)
    assert pop_entries() == [
        ("created", "cluster", "acme", {"enabled": [None, True]}),
        ("changed", "cluster", "acme", {"enabled": [True, False]}),
    ]
    key = services.issue_key(cluster, "web").key
    services.update_key(key, label="app", allowed_origins=["A.com"])
    services.rotate_secret(key)
    services.rotate_secret(key, timedelta(days=1))
    assert key.old_secret_ends_at is not None
    ends_at = key.old_secret_ends_at.isoformat()
    services.end_old_secret(key)
    services.revoke_key(key)
    assert pop_entries() == [
        ("created", "key", key.public_key, {"label": [None, "web"], **NEW_KEY}),
        ("changed", "key", key.public_key, {"label": ["web", "app"], "allowed_origins": [[], ["a.com"]]}),
        ("rotated", "key", key.public_key, {}),
        ("rotated", "key", key.public_key, {"old_secret_ends_at": [None, ends_at]}),
        ("ended", "key", key.public_key, {"old_secret_ends_at": [ends_at, None]}),
        ("revoked", "key", key.public_key, {}),
    ]
    services.delete_cluster(cluster)
    assert pop_entries() == [("deleted", "cluster", "acme", {})]
    invitation = services.invite(account, "New@example.com", Role.DEVELOPER)
    services.revoke_invitation(invitation)
    services.decline_invitation(services.invite(account, teammate.email), teammate)
    services.accept_invitation(services.invite(account, teammate.email), teammate)
    assert pop_entries() == [
        ("created", "invitation", "new@example.com", {"role": [None, "developer"]}),
        ("revoked", "invitation", "new@example.com", {}),
        ("created", "invitation", "teammate@example.com", {"role": [None, "viewer"]}),
        ("declined", "invitation", "teammate@example.com", {}),
        ("created", "invitation", "teammate@example.com", {"role": [None, "viewer"]}),
        ("created", "member", "teammate@example.com", {"role": [None, "viewer"]}),
    ]
    services.delete_account(account)
    assert pop_entries() == [("deleted", "account", pk, {})]


def test_calls_that_change_nothing_are_not_recorded(key: ApiKey) -> None:
    account = key.cluster.account
    services.revoke_key(key)
    pop_entries()
    services.rename_account(account, account.name)
    services.update_cluster(key.cluster, enabled=True)
    services.update_key(key, label=key.label)
    services.resume_account(account)
    services.revoke_key(key)
    services.end_old_secret(key)
    with pytest.raises(services.KeyRevoked):
        services.rotate_secret(key)
    with pytest.raises(ValidationError):
        services.create_cluster(account, "acme")
    assert pop_entries() == []


def test_a_change_that_cannot_be_recorded_is_not_made(key: ApiKey) -> None:
    def fail(**_: object) -> None:
        raise RuntimeError

    services.rotate_secret(key, timedelta(days=1))
    before = list(ApiKey.objects.values()), list(Account.objects.values()), list(Membership.objects.values())
    account, teammate = key.cluster.account, Membership.objects.get(role=Role.VIEWER)
    changes: list[Any] = [
        lambda: services.create_account("New"),
        lambda: services.rename_account(account, "New"),
        lambda: services.suspend_account(account),
        lambda: services.set_role(teammate, Role.OWNER),
        lambda: services.remove_member(teammate),
        lambda: services.update_key(key, label="new"),
        lambda: services.rotate_secret(key, timedelta(days=1)),
        lambda: services.end_old_secret(ApiKey.objects.get()),
        lambda: services.revoke_key(key),
        lambda: services.issue_key(key.cluster, "second"),
        lambda: services.delete_account(Account.objects.get()),
    ]
    post_save.connect(fail, sender=AuditEntry)
    try:
        for change in changes:
            with pytest.raises(RuntimeError):
                change()
    finally:
        post_save.disconnect(fail, sender=AuditEntry)
    assert (list(ApiKey.objects.values()), list(Account.objects.values()), list(Membership.objects.values())) == before


def test_a_change_that_is_rolled_back_leaves_no_entry(account: Account) -> None:
    pop_entries()
    with transaction.atomic():
        services.rename_account(account, "New")
        transaction.set_rollback(True)
    assert pop_entries() == []


def actors() -> list[tuple[Any, ...]]:
    return list(AuditEntry.objects.order_by("pk").values_list("source", "email", "user_pk", "verb", "kind"))


def test_entries_name_the_user_and_the_source_of_a_change(
    as_: As, admin_client: Client, admin_user: User, owner: User, account: Account
) -> None:
    pop_entries()
    services.rename_account(account, "By a command")
    as_(owner).patch(f"/api/v1/accounts/{account.pk}/", {"name": "By its owner"})
    run_action(admin_client, "account", "suspend", account)
    assert actors() == [
        ("command", "", None, "changed", "account"),
        ("rest", "owner@example.com", owner.pk, "changed", "account"),
        ("admin", "admin@example.com", admin_user.pk, "suspended", "account"),
    ]


def test_a_change_with_a_token_names_the_user_of_the_token(client: Client, owner: User, account: Account) -> None:
    pop_entries()
    credentials = {"email": "owner@example.com", "password": "owner-password"}
    token = client.post("/api/v1/token/", credentials, content_type=JSON).json()["token"]
    headers = {"Authorization": f"Token {token}"}
    client.post("/api/v1/clusters/", {"account": account.pk, "cluster_id": "fresh"}, headers=headers, content_type=JSON)
    assert actors() == [("rest", "owner@example.com", owner.pk, "created", "cluster")]


def test_a_later_change_without_a_request_names_no_user(as_: As, owner: User, account: Account) -> None:
    as_(owner).patch(f"/api/v1/accounts/{account.pk}/", {"name": "B"})
    pop_entries()
    services.rename_account(account, "C")
    assert actors() == [("command", "", None, "changed", "account")]


def test_forms_in_the_admin_record_their_changes(admin_client: Client, cluster: Cluster, owner: User) -> None:
    account = cluster.account
    first, second = account.memberships.all()
    pop_entries()
    form = {
        "name": "Renamed",
        "max_connections": 7,
        **inline("memberships", {"id": first.pk, "account": account.pk, "user": owner.pk, "role": "owner"}, initial=1),
        **inline("clusters", {"id": cluster.pk, "account": account.pk, "DELETE": "on"}, initial=1),
    }
    assert admin_client.post(f"/admin/accounts/account/{account.pk}/change/", form).status_code == 302
    assert second in account.memberships.all()
    assert pop_entries() == [
        ("changed", "account", str(account.pk), {"name": ["Acme", "Renamed"]}),
        ("changed", "account", str(account.pk), {"max_connections": [None, 7]}),
        ("deleted", "cluster", "acme", {}),
    ]


def test_bulk_deletion_and_that_of_users_keep_old_entries_and_add_one_for_the_topmost_object(
    admin_client: Client, key: ApiKey, owner: User, teammate: User
) -> None:
    before = AuditEntry.objects.count()
    teammate.delete()
    form = {"action": "delete_selected", "_selected_action": [key.cluster.account_id], "post": "yes"}
    assert admin_client.post("/admin/accounts/account/", form).status_code == 302
    entries = AuditEntry.objects.order_by("pk")[before:]
    deleted = [(entry.source, entry.verb, entry.kind, entry.name) for entry in entries]
    assert sorted(deleted) == [
        ("admin", "deleted", "account", str(key.cluster.account_id)),
        ("command", "deleted", "member", "teammate@example.com"),
    ]
    assert {entry.account_name for entry in AuditEntry.objects.all()} == {"Acme"}


def test_users_who_delete_themselves_are_still_named(
    admin_client: Client, admin_user: User, account: Account, teammate: User
) -> None:
    services.add_member(account, admin_user)
    pk = admin_user.pk
    assert admin_client.post(f"/admin/accounts/user/{pk}/delete/", {"post": "yes"}).status_code == 302
    entry = AuditEntry.objects.latest("pk")
    assert (entry.email, entry.user_pk, entry.verb) == ("admin@example.com", pk, "deleted")
    assert entry.name == "admin@example.com"


def test_no_entry_contains_a_secret(cluster: Cluster) -> None:
    issued = services.issue_key(cluster, "web")
    again = services.rotate_secret(issued.key)
    services.update_key(issued.key, label="app")
    assert secret_of(issued.key) == again
    kept = str(list(AuditEntry.objects.values()))
    for secret in (issued.secret, again, ApiKey.objects.get().secret_ciphertext):
        assert secret not in kept


class TestInTheAdmin:
    def test_entries_can_be_searched_and_read(self, admin_client: Client, key: ApiKey) -> None:
        page = admin_client.get(f"/admin/accounts/auditentry/?q={key.public_key}")
        assert page.status_code == 200
        (entry,) = AuditEntry.objects.filter(kind="key")
        assert str(key) in page.content.decode()
        page = admin_client.get(f"/admin/accounts/auditentry/{entry.pk}/change/")
        assert key.public_key in page.content.decode()

    def test_entries_cannot_be_added_changed_or_deleted(self, admin_client: Client, account: Account) -> None:
        before = list(AuditEntry.objects.values())
        path = f"/admin/accounts/auditentry/{before[0]['id']}/"
        answers = [
            admin_client.post("/admin/accounts/auditentry/add/", {"label": "x"}),
            admin_client.post(f"{path}change/", {"label": "x"}),
            admin_client.post(f"{path}delete/", {"post": "yes"}),
        ]
        assert [answer.status_code for answer in answers] == [403, 403, 403]
        form = {"action": "delete_selected", "_selected_action": [before[0]["id"]], "post": "yes"}
        admin_client.post("/admin/accounts/auditentry/", form)
        assert list(AuditEntry.objects.values()) == before


class TestInTheApi:
    def test_owners_can_read_only_the_entries_of_their_account(
        self, as_: As, owner: User, key: ApiKey, foreign_key: ApiKey
    ) -> None:
        client = as_(owner)
        client.patch(f"/api/v1/keys/{key.public_key}/", {"label": "app"})
        page = client.get(f"/api/v1/accounts/{key.cluster.account_id}/audit/?page_size=1").json()
        assert page["count"] == AuditEntry.objects.filter(account_pk=key.cluster.account_id).count() == 6
        (last,) = page["results"]
        assert last == {
            "id": last["id"],
            "at": last["at"],
            "email": "owner@example.com",
            "source": "rest",
            "verb": "changed",
            "kind": "key",
            "name": key.public_key,
            "label": f"app ({key.public_key[:8]}…)",
            "changes": {"label": ["web", "app"]},
        }

    def test_all_members_read_entries_and_nobody_else_does(
        self, as_: As, teammate: User, stranger: User, account: Account
    ) -> None:
        path = f"/api/v1/accounts/{account.pk}/audit/"
        assert [as_(user).get(path).status_code for user in (teammate, stranger, None)] == [200, 404, 401]

    def test_owners_see_a_suspension_without_the_email_address_of_the_operator(
        self, as_: As, admin_client: Client, owner: User, account: Account
    ) -> None:
        run_action(admin_client, "account", "suspend", account)
        entry = as_(owner).get(f"/api/v1/accounts/{account.pk}/audit/").json()["results"][0]
        assert (entry["verb"], entry["source"], entry["email"]) == ("suspended", "admin", None)

    def test_entries_are_read_only(self, as_: As, owner: User, account: Account) -> None:
        path = f"/api/v1/accounts/{account.pk}/audit/"
        answers = [getattr(as_(owner), method)(path).status_code for method in ("post", "put", "patch", "delete")]
        assert answers == [405] * 4


def test_old_entries_are_pruned(account: Account, capsys: pytest.CaptureFixture[str]) -> None:
    AuditEntry.objects.filter(kind="member").update(at=timezone.now() - timedelta(days=31))
    call_command("prune_audit", "--days", "30")
    assert capsys.readouterr().out == "2 audit entries deleted.\n"
    assert [entry.kind for entry in AuditEntry.objects.all()] == ["account"]
    with pytest.raises(CommandError, match="--days"):
        call_command("prune_audit", "--days", "0")
