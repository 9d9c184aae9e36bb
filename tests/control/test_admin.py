"""The admin can manage everything that belongs to a tenant."""

import json
import re
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.sessions.models import Session
from django.db.models.signals import post_save
from django.test import Client
from pytest_django import DjangoAssertNumQueries

from accounts import services
from accounts.models import Account, ApiKey, Cluster, Membership, Role
from accounts.new_secrets import SHOWN_FOR_SECONDS
from accounts.users import User
from tests.control.conftest import secret_of

pytestmark = pytest.mark.django_db(transaction=True)
Announcements = list[dict[str, object]]


@pytest.fixture
def admin(db: None) -> Client:
    client = Client()
    client.force_login(User.objects.create_superuser("admin@example.com"))
    return client


def run_action(admin: Client, model: str, action: str, *objects: Any, **values: Any) -> Any:
    """Choose an action in a list, and confirm it on the page that asks."""
    form = {"action": action, "_selected_action": [item.pk for item in objects], "confirmed": "yes", **values}
    return admin.post(f"/admin/accounts/{model}/", form)


def shown_secrets(admin: Client, answer: Any) -> str:
    """Follow the redirect to the page of new secrets, and return its text."""
    assert answer.status_code == 302
    page = admin.get(answer.headers["Location"])
    assert page.status_code == 200
    return str(page.content.decode())


def inline(prefix: str, *rows: dict[str, Any], initial: int = 0) -> dict[str, Any]:
    """Return the form data of an inline."""
    data: dict[str, Any] = {f"{prefix}-TOTAL_FORMS": len(rows), f"{prefix}-INITIAL_FORMS": initial}
    for number, row in enumerate(rows):
        data.update({f"{prefix}-{number}-{name}": value for name, value in row.items()})
    return data


EMPTY = {**inline("memberships"), **inline("clusters")}


def test_accounts_are_suspended_and_resumed(admin: Client, account: Account, announcements: Announcements) -> None:
    assert run_action(admin, "account", "suspend", account).status_code == 302
    account.refresh_from_db()
    assert account.suspended
    assert run_action(admin, "account", "resume", account).status_code == 302
    account.refresh_from_db()
    assert not account.suspended
    assert announcements == [{"account_id": account.pk}] * 2
    assert [entry.change_message for entry in LogEntry.objects.order_by("pk")] == ["Suspended.", "Resumed."]


def test_the_options_of_a_cluster_for_pushers_libraries_are_changed(admin: Client, cluster: Cluster) -> None:
    inlines = {f"keys-{name}": "0" for name in ("TOTAL_FORMS", "INITIAL_FORMS")}
    form = {"sends_watchlist_events": "on", **inlines}
    assert admin.post(f"/admin/accounts/cluster/{cluster.pk}/change/", form).status_code == 302
    cluster.refresh_from_db()
    assert (cluster.enabled, cluster.sends_watchlist_events, cluster.sends_subscription_counts) == (True, True, False)


def test_the_page_of_a_cluster_shows_its_app_id_for_pushers_libraries(admin: Client, cluster: Cluster) -> None:
    page = admin.get(f"/admin/accounts/cluster/{cluster.pk}/change/").content.decode()
    assert f'<code data-copy="{cluster.pk}">' in page


def test_clusters_are_disabled_and_enabled(admin: Client, cluster: Cluster, announcements: Announcements) -> None:
    run_action(admin, "cluster", "disable", cluster)
    assert not Cluster.objects.get().enabled
    run_action(admin, "cluster", "enable", cluster)
    assert Cluster.objects.get().enabled
    assert announcements == [{"cluster_pk": cluster.pk}] * 2


def test_keys_are_revoked(admin: Client, key: ApiKey, announcements: Announcements) -> None:
    announcements.clear()
    run_action(admin, "apikey", "revoke", key)
    assert ApiKey.objects.get().revoked
    assert announcements == [{"public_key": key.public_key}]


def test_rotated_secrets_are_shown_once_after_a_redirect_and_stored_nowhere_in_plain_text(
    admin: Client, key: ApiKey
) -> None:
    answer = run_action(admin, "apikey", "rotate", key, overlap=0)
    secret = str(secret_of(key))
    assert answer.status_code == 302
    assert secret not in f"{answer.headers} {answer.content.decode()}"
    page = admin.get(answer.headers["Location"])
    assert f'data-copy="{secret}">{secret}<' in page.content.decode()
    assert "no-store" in page.headers["Cache-Control"]
    assert secret not in str([list(model.objects.values()) for model in (LogEntry, Session)])
    assert all(secret not in morsel.value for morsel in admin.cookies.values())
    for path in (
        answer.headers["Location"],
        *(f"/admin/accounts/apikey/{key.pk}/{name}/" for name in ("change", "history")),
    ):
        assert secret not in admin.get(path).content.decode()
    assert secret_of(key) == secret


def test_the_page_of_a_new_secret_shows_nothing_to_others(admin: Client, key: ApiKey) -> None:
    page = run_action(admin, "apikey", "rotate", key, overlap=0).headers["Location"]
    other = Client()
    other.force_login(User.objects.create_superuser("other@example.com"))
    again = Client()
    again.force_login(User.objects.get(email="admin@example.com"))
    for client in (other, again):
        assert str(secret_of(key)) not in client.get(page).content.decode()
    assert Client().get(page).status_code == 302
    assert str(secret_of(key)) in admin.get(page).content.decode()


def test_a_new_secret_is_shown_for_some_minutes_only(admin: Client, key: ApiKey) -> None:
    page = run_action(admin, "apikey", "rotate", key, overlap=0).headers["Location"]
    session = admin.session
    session["new_secrets"] = {
        name: {**entry, "until": entry["until"] - SHOWN_FOR_SECONDS - 1}
        for name, entry in session["new_secrets"].items()
    }
    session.save()
    text = admin.get(page).content.decode()
    assert str(secret_of(key)) not in text
    assert "rotate the secret" in text


def test_the_page_of_a_new_secret_never_shows_a_later_one(admin: Client, key: ApiKey) -> None:
    page = run_action(admin, "apikey", "rotate", key, overlap=0).headers["Location"]
    later = services.rotate_secret(key)
    assert later not in admin.get(page).content.decode()


def test_secrets_of_several_pages_do_not_mix(admin: Client, key: ApiKey) -> None:
    second = services.issue_key(key.cluster, "second").key
    pages = [run_action(admin, "apikey", "rotate", item, overlap=0).headers["Location"] for item in (key, second)]
    for page, item, other in zip(reversed(pages), (second, key), (key, second), strict=True):
        text = admin.get(page).content.decode()
        assert str(secret_of(item)) in text
        assert str(secret_of(other)) not in text


@pytest.mark.parametrize("form", ["apikey", "cluster"])
def test_the_form_for_a_new_key_shows_no_key(admin: Client, cluster: Cluster, form: str) -> None:
    path = "add/" if form == "apikey" else f"{cluster.pk}/change/"
    page = admin.get(f"/admin/accounts/{form}/{path}").content.decode()
    assert not re.findall(r"\b[A-Za-z0-9]{60}\b", re.sub(r'value="[A-Za-z0-9]+"', "", page))


def test_no_secret_is_rotated_if_the_action_fails(admin: Client, key: ApiKey) -> None:
    services.issue_key(key.cluster, "second")
    before = list(ApiKey.objects.values())

    def fail(instance: LogEntry, **_: object) -> None:
        if LogEntry.objects.count() == 2:
            raise RuntimeError

    post_save.connect(fail, sender=LogEntry)
    try:
        with pytest.raises(RuntimeError):
            run_action(admin, "apikey", "rotate", *ApiKey.objects.all(), overlap=0)
    finally:
        post_save.disconnect(fail, sender=LogEntry)
    assert list(ApiKey.objects.values()) == before


def test_a_revoked_key_gets_no_new_secret(admin: Client, key: ApiKey) -> None:
    services.revoke_key(key)
    before = ApiKey.objects.get().secret_ciphertext
    assert run_action(admin, "apikey", "rotate", key, overlap=0).status_code == 302
    assert ApiKey.objects.get().secret_ciphertext == before


def test_a_new_key_shows_its_secret_once(admin: Client, cluster: Cluster, announcements: Announcements) -> None:
    form = {
        "cluster": cluster.pk,
        "label": "web",
        "allows_client_messages": "on",
        "allowed_origins": "A.com\n\n*.b.org",
    }
    answer = admin.post("/admin/accounts/apikey/add/", form)
    page = shown_secrets(admin, answer)
    key = ApiKey.objects.get()
    assert str(secret_of(key)) in page
    assert key.public_key in page
    shown_secrets(admin, answer)
    assert ApiKey.objects.count() == 1
    assert (key.label, key.allowed_origins, key.protects_channels) == ("web", ["a.com", "*.b.org"], False)
    assert announcements == [{"public_key": key.public_key}]


def test_a_key_can_be_changed_except_its_cluster_and_public_key(
    admin: Client, key: ApiKey, announcements: Announcements
) -> None:
    announcements.clear()
    other = services.create_cluster(key.cluster.account, "other")
    form = {
        "cluster": other.pk,
        "label": "app",
        "protects_channels": "on",
        "public_key": "k" * 60,
        "allowed_origins": "",
    }
    assert admin.post(f"/admin/accounts/apikey/{key.pk}/change/", form).status_code == 302
    changed = ApiKey.objects.get()
    assert (changed.label, changed.protects_channels, changed.allows_client_messages) == ("app", True, False)
    assert (changed.cluster, changed.public_key) == (key.cluster, key.public_key)
    assert announcements == [{"public_key": key.public_key}]


def test_an_invalid_origin_is_reported_in_the_form(admin: Client, key: ApiKey) -> None:
    form = {"label": "app", "allowed_origins": "https://a.org"}
    page = admin.post(f"/admin/accounts/apikey/{key.pk}/change/", form)
    assert page.status_code == 200
    assert "Enter each origin in lower case" in page.content.decode()
    assert ApiKey.objects.get().allowed_origins == []


def test_an_account_is_created_with_members_and_clusters(admin: Client, owner: User) -> None:
    form = {
        "name": "New",
        **inline("memberships", {"user": owner.pk, "role": "owner"}),
        **inline("clusters", {"cluster_id": "fresh", "enabled": "on"}),
    }
    assert admin.post("/admin/accounts/account/add/", form).status_code == 302
    account = Account.objects.get()
    assert [(m.user, m.role) for m in account.memberships.all()] == [(owner, Role.OWNER)]
    assert [c.cluster_id for c in account.clusters.all()] == ["fresh"]


def test_a_cluster_is_created_with_a_key_whose_secret_is_shown(admin: Client, account: Account) -> None:
    form = {
        "account": account.pk,
        "cluster_id": "fresh",
        "enabled": "on",
        **inline("keys", {"label": "web", "allows_client_messages": "on"}),
    }
    page = shown_secrets(admin, admin.post("/admin/accounts/cluster/add/", form))
    key = ApiKey.objects.get()
    assert key.cluster.cluster_id == "fresh"
    assert str(secret_of(key)) in page


def test_a_form_does_not_switch_off_a_cluster_since_that_is_asked_first(
    admin: Client, cluster: Cluster, announcements: Announcements
) -> None:
    form = {
        "name": "Acme",
        **inline("memberships"),
        **inline("clusters", {"id": cluster.pk, "account": cluster.account_id}, initial=1),
    }
    assert admin.post(f"/admin/accounts/account/{cluster.account_id}/change/", form).status_code == 302
    assert admin.post(f"/admin/accounts/cluster/{cluster.pk}/change/", inline("keys")).status_code == 302
    assert Cluster.objects.get().enabled
    assert announcements == []


def test_the_last_owner_cannot_become_a_viewer(admin: Client, account: Account, owner: User) -> None:
    owning = Membership.objects.get(user=owner)
    form = {
        "name": "Renamed",
        **inline("clusters"),
        **inline(
            "memberships", {"id": owning.pk, "account": account.pk, "user": owner.pk, "role": "viewer"}, initial=1
        ),
    }
    answer = admin.post(f"/admin/accounts/account/{account.pk}/change/", form, follow=True)
    assert "An account needs an owner. Make someone else an owner first." in answer.content.decode()
    assert Account.objects.get().name == "Acme"
    assert Membership.objects.get(user=owner).role == Role.OWNER


def membership_form(*rows: tuple[Membership, User, str]) -> dict[str, Any]:
    values = [{"id": m.pk, "account": m.account_id, "user": user.pk, "role": role} for m, user, role in rows]
    return {"name": "Acme", **inline("clusters"), **inline("memberships", *values, initial=len(values))}


def test_an_owner_and_a_viewer_can_swap_roles_in_one_form(
    admin: Client, account: Account, owner: User, teammate: User
) -> None:
    first, second = (Membership.objects.get(user=user) for user in (owner, teammate))
    form = membership_form((first, owner, "viewer"), (second, teammate, "owner"))
    assert admin.post(f"/admin/accounts/account/{account.pk}/change/", form).status_code == 302
    assert [(m.user, m.role) for m in account.memberships.all()] == [(owner, Role.VIEWER), (teammate, Role.OWNER)]


def test_the_user_of_a_membership_cannot_be_changed(
    admin: Client, account: Account, owner: User, teammate: User, stranger: User
) -> None:
    first, second = (Membership.objects.get(user=user) for user in (owner, teammate))
    form = membership_form((first, owner, "owner"), (second, stranger, "owner"))
    assert admin.post(f"/admin/accounts/account/{account.pk}/change/", form).status_code == 302
    assert [m.user for m in account.memberships.all()] == [owner, teammate]
    (change,) = json.loads(LogEntry.objects.get().change_message)
    assert change["changed"]["fields"] == ["Role"]


def test_a_cluster_with_many_keys_can_still_be_changed(admin: Client, cluster: Cluster) -> None:
    ApiKey.objects.bulk_create([ApiKey(cluster=cluster, label="x", secret_ciphertext="x") for _ in range(51)])
    path = f"/admin/accounts/cluster/{cluster.pk}/change/"
    page = admin.get(path).content.decode()
    assert "keys-TOTAL_FORMS" not in page
    (link,) = re.findall(r'<a href="([^"]+)">51</a>', page)
    assert admin.get(link).content.decode().count('class="action-select"') == 50
    assert admin.post(path, {}).status_code == 302
    ApiKey.objects.latest("pk").delete()
    assert "keys-TOTAL_FORMS" in admin.get(path).content.decode()


def test_an_account_with_many_clusters_can_still_be_changed(admin: Client, account: Account, owner: User) -> None:
    Cluster.objects.bulk_create([Cluster(account=account, cluster_id=f"c{n}") for n in range(51)])
    path = f"/admin/accounts/account/{account.pk}/change/"
    page = admin.get(path).content.decode()
    assert "clusters-TOTAL_FORMS" not in page
    assert "memberships-TOTAL_FORMS" in page
    (link,) = re.findall(r'<a href="([^"]+)">51</a>', page)
    assert admin.get(link).status_code == 200


@pytest.mark.parametrize(
    ("model", "field", "found"), [("apikey", "cluster", ["aa", "acme"]), ("cluster", "account", ["Aa", "Acme"])]
)
def test_suggestions_are_sorted(admin: Client, key: ApiKey, model: str, field: str, found: list[str]) -> None:
    services.create_cluster(services.create_account("Aa"), "aa")
    query = {"app_label": "accounts", "model_name": model, "field_name": field, "term": "a"}
    answer = admin.get("/admin/autocomplete/", query)
    assert [entry["text"] for entry in answer.json()["results"]] == found


def test_bulk_deletion_is_announced(admin: Client, key: ApiKey, announcements: Announcements) -> None:
    account, second = key.cluster.account, services.create_account("Second")
    services.suspend_account(second)
    announcements.clear()
    form = {"action": "delete_selected", "_selected_action": [account.pk, second.pk]}
    page = admin.post("/admin/accounts/account/", form).content.decode()
    assert all(count in page for count in ("Accounts: 2", "Clusters: 1", "API keys: 1"))
    assert admin.post("/admin/accounts/account/", {**form, "post": "yes"}).status_code == 302
    assert announcements == [{"account_id": account.pk}, {"account_id": second.pk}]
    assert not Account.objects.exists()


def test_timestamps_and_credentials_are_read_only(admin: Client, key: ApiKey) -> None:
    page = admin.get(f"/admin/accounts/apikey/{key.pk}/change/").content.decode()
    assert key.public_key in page
    for name in ("created_at", "last_used_at", "revoked_at", "key", "secret"):
        assert not re.search(rf'<(input|textarea)[^>]*name="[^"]*{name}', page)


@pytest.mark.parametrize(
    ("model", "query", "count"),
    [
        ("account", "q=acm", 1),
        ("account", "q=owner", 1),
        ("account", "suspended=yes", 0),
        ("account", "suspended=no", 1),
        ("cluster", "q=acme", 1),
        ("cluster", "enabled__exact=0", 0),
        ("apikey", "q=web", 1),
        ("apikey", "q=Acme", 1),
        ("apikey", "q=none", 0),
        ("apikey", "revoked=no", 1),
        ("apikey", "used=yes", 0),
        ("apikey", "protects_channels__exact=1", 0),
    ],
)
def test_search_and_filters(admin: Client, key: ApiKey, model: str, query: str, count: int) -> None:
    page = admin.get(f"/admin/accounts/{model}/?{query}").content.decode()
    assert page.count('class="action-select"') == count


def test_lists_need_no_more_queries_for_10000_keys(
    admin: Client, account: Account, django_assert_max_num_queries: DjangoAssertNumQueries
) -> None:
    clusters = Cluster.objects.bulk_create([Cluster(account=account, cluster_id=f"c{n}") for n in range(100)])
    ApiKey.objects.bulk_create(
        [ApiKey(cluster=clusters[n % 100], label=f"key {n}", secret_ciphertext="x") for n in range(10_000)]
    )
    for model in ("apikey", "cluster", "account"):
        with django_assert_max_num_queries(11):
            page = admin.get(f"/admin/accounts/{model}/").content.decode()
        assert page.count('class="action-select"') in (1, 50)


def test_errors_lead_back_to_the_admin(admin_client: Client, client: Client, owner: User) -> None:
    staff = User.objects.create_user("staff@example.com", is_staff=True)
    forbidden = Client()
    forbidden.force_login(staff)
    client.force_login(owner)
    link = '<a href="/admin/">Admin</a>'
    assert link in admin_client.get("/admin/none/").content.decode()
    assert link in forbidden.get("/admin/accounts/account/add/").content.decode()
    assert link not in admin_client.get("/none/").content.decode()
    assert link not in client.get("/admin/none/").content.decode()


def test_users_who_are_not_staff_cannot_enter(client: Client, owner: User, key: ApiKey) -> None:
    client.force_login(owner)
    assert client.get("/admin/accounts/apikey/").status_code == 302
