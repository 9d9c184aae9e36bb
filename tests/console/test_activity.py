"""Who changed what, as sentences with the old and the new value."""

from datetime import timedelta
from typing import Any

import pytest
from django.test import Client

from accounts import services
from accounts.console.sentences import sentence_of
from accounts.models import Account, ApiKey, AuditEntry, Cluster, Membership, Role
from accounts.users import User
from tests.console.conftest import As
from tests.console.tenants import Tenants

pytestmark = pytest.mark.django_db


def last_sentence() -> str:
    entry = AuditEntry.objects.first()
    assert entry is not None
    return sentence_of(entry)


def test_each_change_is_a_sentence_with_the_old_and_the_new_value(
    account: Account, cluster: Cluster, key: ApiKey, shops: Tenants
) -> None:
    name = f"the API key Web shop ({key.public_key[:8]}…)"
    viewer = Membership.objects.get(account=account, role="viewer")
    stranger = User.objects.get(pk=shops.people["stranger"])
    changes: list[tuple[Any, str]] = [
        (lambda: services.rename_account(account, "Shop"), "Renamed the account from “Example Shop” to “Shop”."),
        (
            lambda: services.set_quotas(account, max_clusters=3),
            "Changed the account: quota of clusters from the default to 3.",
        ),
        (lambda: services.set_quota_notices(account, False), "Changed the account: e-mails about quotas: off."),
        (lambda: services.invite(account, "x@y.example", "developer"), "Invited x@y.example as developer."),
        (lambda: services.revoke_invitation(account.invitations.get()), "Revoked the invitation of x@y.example."),
        (lambda: services.set_role(viewer, "owner"), "Changed the role of viewer@shop.example from viewer to owner."),
        (lambda: services.remove_member(viewer), "Removed viewer@shop.example."),
        (lambda: services.add_member(account, stranger), "Added stranger@shop.example as viewer."),
        (lambda: services.create_cluster(account, "warehouse"), "Created the cluster warehouse."),
        (lambda: services.update_cluster(cluster, enabled=False), "Switched the cluster shop off."),
        (lambda: services.update_cluster(cluster, enabled=True), "Switched the cluster shop on."),
        (
            lambda: services.update_key(key, max_connections=2_000, protects_channels=True),
            f"Changed {name}: quota of connections from the default to 2,000; every channel needs a JWT: on.",
        ),
        (
            lambda: services.update_key(key, allowed_origins=["a.example", "b.example"]),
            f"Changed {name}: allowed origins: added a.example, b.example.",
        ),
        (
            lambda: services.update_key(key, allowed_origins=["b.example"]),
            f"Changed {name}: allowed origins: removed a.example.",
        ),
        (lambda: services.rotate_secret(key), f"Rotated the secret of {name}."),
        (lambda: services.revoke_key(key), f"Revoked {name}."),
        (lambda: services.suspend_account(account), "Suspended the account."),
        (lambda: services.resume_account(account), "Resumed the account."),
    ]
    for change, sentence in changes:
        change()
        assert last_sentence() == sentence


def test_a_rotation_says_when_the_old_secret_ends(key: ApiKey) -> None:
    services.rotate_secret(key, timedelta(days=1))
    assert key.old_secret_ends_at is not None
    assert f"the old secret ends on {key.old_secret_ends_at.day} " in last_sentence()


@pytest.fixture
def busy(as_: As, account: Account) -> Client:
    """A client of the viewer, after the owner has renamed the account and an operator has suspended it."""
    form = {"name": "Shop", "sends_quota_notices": "on"}
    assert as_("owner").post(f"/console/{account.pk}/settings/", form).status_code == 302
    operator = User.objects.create_superuser("operator@example.com")
    client = Client()
    client.force_login(operator)
    client.post(f"/admin/accounts/account/{account.pk}/suspend/")
    client.post(f"/admin/accounts/account/{account.pk}/resume/")
    return as_("viewer")


def test_everybody_in_the_account_reads_it_with_person_and_door_but_without_operators(
    busy: Client, account: Account
) -> None:
    page = busy.get(f"/console/{account.pk}/activity/").content.decode()
    assert "Renamed the account from “Example Shop” to “Shop”." in page
    assert page.index("Suspended the account.") < page.index("Renamed the account")
    for through in ("Console", "Admin", "Command"):
        assert f'data-label="Through">{through}<' in page
    assert "operator@example.com" not in page
    assert "an operator" in page


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("person=owner@shop.example", ["Renamed"]),
        ("person=OWNER@shop.example ", ["Renamed"]),
        ("person=operator@example.com", []),  # nobody finds out that this is an operator's address
        ("person=nobody", []),
        ("thing=account", ["Renamed", "Suspended", "Resumed", "Created the account"]),
        ("thing=cluster", ["Created the cluster"]),
        ("thing=cluster:shop", ["Created the cluster"]),
        ("thing=cluster:stall", []),
        ("thing=none", []),
        ("thing=%00&person=%00&before=%00", []),
    ],
)
def test_it_can_be_filtered_by_person_and_thing(busy: Client, account: Account, query: str, found: list[str]) -> None:
    page = busy.get(f"/console/{account.pk}/activity/?{query}").content.decode()
    all_ = ("Renamed", "Suspended", "Resumed", "Created the account", "Created the cluster", "Issued", "Added")
    assert {text for text in all_ if f"{text} " in page} == set(found)
    assert ("No change matches" in page and "Clear the search" in page) == (not found)


def test_it_comes_in_pages_of_fifty_that_keep_the_filter(as_: As, account: Account) -> None:
    for number in range(120):
        services.rename_account(account, f"Shop {number}")
    client = as_("viewer")
    url, pages = f"/console/{account.pk}/activity/?thing=account", []
    while url:
        page = client.get(url).content.decode()
        pages.append(page.count("Renamed the account"))
        older = page.partition(">Older</a>")[0].rpartition('href="')[2].rstrip('"') if ">Older</a>" in page else ""
        url = older.replace("&amp;", "&")
        assert not url or "thing=account" in url
    assert pages == [50, 50, 20]


def test_changes_of_another_account_are_not_shown(as_: As, shops: Tenants, account: Account) -> None:
    services.rename_account(Account.objects.get(pk=shops.other.account), "Hidden")
    assert "Hidden" not in as_("owner").get(f"/console/{account.pk}/activity/").content.decode()


def test_a_change_through_the_rest_api_is_told_apart(account: Account, shops: Tenants) -> None:
    client = Client()
    client.force_login(User.objects.get(pk=shops.people["owner"]))
    path = f"/api/v1/accounts/{account.pk}/"
    assert client.patch(path, {"name": "Shop"}, content_type="application/json").status_code == 200
    entry = AuditEntry.objects.first()
    assert entry is not None
    assert (entry.source, entry.email) == ("rest", "owner@shop.example")


def test_the_limit_on_changes_a_day_holds_in_the_console_too(as_: As, account: Account, settings: Any) -> None:
    settings.CHANGES_PER_DAY = AuditEntry.objects.filter(account_pk=account.pk).count()
    answer = as_("owner").post(f"/console/{account.pk}/settings/", {"name": "Shop"})
    assert "which is the limit" in answer.content.decode()
    account.refresh_from_db()
    assert account.name == "Example Shop"
    viewer = Membership.objects.get(account=account, role=Role.VIEWER)
    as_("owner").post(f"/console/{account.pk}/people/{viewer.pk}/remove/")
    assert not Membership.objects.filter(pk=viewer.pk).exists()
