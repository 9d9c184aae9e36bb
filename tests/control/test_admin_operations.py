"""Operations in the admin ask first, say what will happen, and leave what is revoked or suspended read-only."""

import re
import time
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.admin import site
from django.contrib.auth.models import Group, Permission
from django.test import Client
from django.utils import timezone

from accounts import crypto, services
from accounts.access import find_access
from accounts.models import (
    Account,
    ApiKey,
    ApiToken,
    AuditEntry,
    AuditSource,
    Cluster,
    DeliveryState,
    Invitation,
    Membership,
    Role,
    Usage,
    UsageUnit,
    Webhook,
    WebhookDelivery,
)
from accounts.usage import NodesState
from accounts.users import User
from tests.control.conftest import data_plane
from tests.control.test_admin import Announcements, inline, run_action, shown_secrets

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def admin(admin_client: Client) -> Client:
    return admin_client


@pytest.fixture
def connections() -> Iterator[None]:
    """Three connections of each account, cluster and key, on two nodes without Redis."""
    state = NodesState(nodes=2, connections=1234, redis_is_reachable=False, loop_lag_seconds=0.25)
    with data_plane(lambda **resources: [3] * sum(map(len, resources.values())), state):
        yield


def target(operation: str, key: ApiKey) -> tuple[str, Any]:
    """Return the model and the object of an operation."""
    if operation in ("suspend", "resume"):
        return "account", key.cluster.account
    return ("cluster", key.cluster) if operation in ("enable", "disable") else ("apikey", key)


def state(key: ApiKey) -> tuple[Any, ...]:
    rows = Account.objects.values(), Cluster.objects.values(), ApiKey.objects.values()
    return tuple(map(list, rows))


CLOSING = ["suspend", "disable", "revoke", "rotate"]


@pytest.mark.parametrize("operation", CLOSING)
@pytest.mark.parametrize("way", ["button", "list"])
def test_an_operation_first_names_the_tenant_and_the_open_connections(
    admin: Client, key: ApiKey, connections: None, operation: str, way: str
) -> None:
    model, obj = target(operation, key)
    before = state(key)
    if way == "button":
        page = admin.get(f"/admin/accounts/{model}/{obj.pk}/{operation}/")
    else:
        page = admin.post(f"/admin/accounts/{model}/", {"action": operation, "_selected_action": [obj.pk]})
    text = page.content.decode()
    assert "Acme" in text
    assert re.search(r"[Oo]pen connections[^<]*: 3<", text)
    assert state(key) == before


@pytest.mark.parametrize("operation", CLOSING)
def test_the_page_of_an_object_has_buttons_for_its_operations(admin: Client, key: ApiKey, operation: str) -> None:
    model, obj = target(operation, key)
    path = f"/admin/accounts/{model}/{obj.pk}"
    assert f'href="{path}/{operation}/"' in admin.get(f"{path}/change/").content.decode()
    before = state(key)
    answer = admin.post(f"{path}/{operation}/", {"overlap": 0})
    assert answer.status_code == 302
    assert state(key) != before


def test_a_confirmed_list_action_is_applied_to_every_selected_object(admin: Client, cluster: Cluster) -> None:
    keys = [services.issue_key(cluster, str(number)).key for number in range(3)]
    form = {"action": "revoke", "_selected_action": [key.pk for key in keys[:2]]}
    page = admin.post("/admin/accounts/apikey/", form).content.decode()
    assert "2 API keys" in page
    fields = dict(re.findall(r'type="hidden" name="(action|select_across)" value="(\w+)"', page))
    selected = re.findall(r'name="_selected_action" value="(\d+)"', page)
    admin.post("/admin/accounts/apikey/", {**fields, "_selected_action": selected, "confirmed": "Revoke"})
    assert [key.revoked for key in ApiKey.objects.order_by("pk")] == [True, True, False]


def test_a_rotation_in_the_admin_can_have_an_overlap(admin: Client, key: ApiKey) -> None:
    path = f"/admin/accounts/apikey/{key.pk}/"
    shown_secrets(admin, admin.post(f"{path}rotate/", {"overlap": 86400}))
    access = find_access(key.public_key)
    assert access is not None
    assert 0 < access.old_secret_ends_at - time.time() <= 86400
    assert "The old secret of this API key is also valid until" in admin.get(f"{path}change/").content.decode()


def test_the_old_secret_of_a_key_is_ended_early(admin: Client, key: ApiKey, announcements: Announcements) -> None:
    path = f"/admin/accounts/apikey/{key.pk}/"
    assert "end-old-secret/" not in admin.get(f"{path}change/").content.decode()
    services.rotate_secret(key, timedelta(days=1))
    assert f'href="{path}end-old-secret/"' in admin.get(f"{path}change/").content.decode()
    announcements.clear()
    services.suspend_account(key.cluster.account)  # operators take access away in suspended accounts too
    assert admin.post(f"{path}end-old-secret/").status_code == 302
    access = find_access(key.public_key)
    assert access is not None
    assert (access.old_secret, access.old_secret_ends_at) == (None, 0)
    assert announcements == [{"account_id": key.cluster.account_id}, {"public_key": key.public_key}]
    assert "Old secret ended" in admin.get(f"{path}history/").content.decode()
    assert "no old secret" in admin.post(f"{path}end-old-secret/", follow=True).content.decode()


@pytest.mark.parametrize("model", ["account", "cluster", "apikey"])
@pytest.mark.parametrize("way", ["page", "list"])
def test_before_a_deletion_its_page_says_how_many_connections_it_closes(
    admin: Client, key: ApiKey, connections: None, model: str, way: str
) -> None:
    pk = {"account": key.cluster.account_id, "cluster": key.cluster_id, "apikey": key.pk}[model]
    path = f"/admin/accounts/{model}/"
    if way == "page":
        page = admin.get(f"{path}{pk}/delete/")
    else:
        page = admin.post(path, {"action": "delete_selected", "_selected_action": [pk]})
    assert "Open connections that will be closed now: 3" in page.content.decode()


def test_before_an_account_is_deleted_its_page_lists_what_it_owns(admin: Client, key: ApiKey) -> None:
    account = key.cluster.account
    services.invite(account, "new@example.com")
    services.create_webhook(key.cluster, "https://example.com/", kinds=["client_event"])
    page = admin.get(f"/admin/accounts/account/{account.pk}/delete/").content.decode()
    for line in ("Clusters: 1", "API keys: 1", "Webhooks: 1", "Invitations: 1"):
        assert line in page


@pytest.mark.parametrize("overlap", ["", "1", "-1", "8640000", "soon"])
def test_an_unknown_overlap_rotates_nothing(admin: Client, key: ApiKey, overlap: str) -> None:
    before = state(key)
    page = admin.post(f"/admin/accounts/apikey/{key.pk}/rotate/", {"overlap": overlap})
    assert page.status_code == 200
    assert "errorlist" in page.content.decode()
    assert state(key) == before


@pytest.mark.parametrize("operation", ["suspend", "resume", "enable", "disable", "revoke", "rotate", "end-old-secret"])
def test_operations_need_the_permission_to_change(client: Client, key: ApiKey, operation: str) -> None:
    user = User.objects.create_user("viewer@example.com", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__startswith="view_"))
    client.force_login(user)
    model, obj = target(operation, key)
    services.rotate_secret(key, timedelta(days=1))
    before = state(key)
    path = f"/admin/accounts/{model}/{obj.pk}/"
    assert [client.get(f"{path}{operation}/").status_code, client.post(f"{path}{operation}/").status_code] == [403, 403]
    client.post(f"/admin/accounts/{model}/", {"action": operation, "_selected_action": [obj.pk], "confirmed": "yes"})
    assert f"{operation}/" not in client.get(f"{path}change/").content.decode()
    assert state(key) == before


def test_list_actions_need_no_permission_to_delete(client: Client, key: ApiKey) -> None:
    operator = User.objects.create_user("operator@example.com", is_staff=True)
    operator.user_permissions.set(Permission.objects.filter(codename__in=["view_apikey", "change_apikey"]))
    client.force_login(operator)
    run_action(client, "apikey", "revoke", key)
    key.refresh_from_db()
    assert key.revoked


@pytest.mark.parametrize("operation", ["suspend", "disable", "revoke", "rotate"])
def test_an_operation_on_an_unknown_object_leads_to_the_first_page(admin: Client, key: ApiKey, operation: str) -> None:
    model, _ = target(operation, key)
    answer = admin.post(f"/admin/accounts/{model}/999999/{operation}/")
    assert (answer.status_code, answer.headers["Location"]) == (302, "/admin/")


def fields_of(page: str) -> list[str]:
    """Return the names of the fields that can be changed on a page."""
    fields = re.findall(r'<((?:input|textarea|select)[^>]* name="([^"]+)")', page)
    return [name for field, name in fields if 'type="hidden"' not in field]


def test_a_revoked_key_has_a_banner_and_cannot_be_changed(admin: Client, key: ApiKey) -> None:
    services.revoke_key(key)
    path = f"/admin/accounts/apikey/{key.pk}/"
    page = admin.get(f"{path}change/").content.decode()
    assert "This API key was revoked on" in page
    assert fields_of(page) == []
    assert "rotate/" not in page
    assert admin.post(f"{path}change/", {"label": "new"}).status_code == 403
    assert ApiKey.objects.get().label == "web"
    text = admin.post(f"{path}revoke/", follow=True).content.decode()
    assert "revoked already" in text


def test_a_revoked_key_cannot_be_changed_in_the_form_of_its_cluster_either(admin: Client, key: ApiKey) -> None:
    services.revoke_key(key)
    row = {"id": key.pk, "cluster": key.cluster_id, "label": "new", "protects_channels": "on"}
    form = inline("keys", row, initial=1)
    assert admin.post(f"/admin/accounts/cluster/{key.cluster_id}/change/", form).status_code == 302
    assert (ApiKey.objects.get().label, ApiKey.objects.get().protects_channels) == ("web", False)


def test_a_suspended_account_and_everything_in_it_has_a_banner_and_cannot_be_changed(
    admin: Client, key: ApiKey
) -> None:
    account = key.cluster.account
    services.suspend_account(account)
    pages = [f"account/{account.pk}", f"cluster/{key.cluster_id}", f"apikey/{key.pk}"]
    for page in pages:
        text = admin.get(f"/admin/accounts/{page}/change/").content.decode()
        assert "The account Acme is suspended since" in text
        assert fields_of(text) == []
        assert admin.post(f"/admin/accounts/{page}/change/", {"label": "new"}).status_code == 403
    assert f"account/{account.pk}/resume/" in admin.get(f"/admin/accounts/{pages[0]}/change/").content.decode()
    admin.post(f"/admin/accounts/account/{account.pk}/resume/")
    text = admin.get(f"/admin/accounts/{pages[0]}/change/").content.decode()
    assert "is suspended" not in text
    assert "name" in fields_of(text)


def test_a_cluster_that_is_off_has_a_banner(admin: Client, cluster: Cluster, announcements: Announcements) -> None:
    admin.post(f"/admin/accounts/cluster/{cluster.pk}/disable/")
    page = admin.get(f"/admin/accounts/cluster/{cluster.pk}/change/").content.decode()
    assert "This cluster is switched off" in page
    assert f"{cluster.pk}/enable/" in page
    assert f"{cluster.pk}/disable/" not in page
    assert announcements == [{"cluster_pk": cluster.pk}]


def test_the_history_of_an_object_is_its_audit(admin: Client, key: ApiKey, foreign_key: ApiKey) -> None:
    services.update_key(key, label="app", allowed_origins=["a.com"], protects_channels=True)
    services.update_key(foreign_key, label="foreign")
    AuditEntry.objects.filter(verb="changed").update(email="ann@example.com", source=AuditSource.REST)
    text = admin.get(f"/admin/accounts/apikey/{key.pk}/history/").content.decode()
    for expected in ("label: web → app", "allowed origins: none → a.com", "protects channels: off → on"):
        assert expected in text
    assert "ann@example.com (REST API)" in text
    assert "foreign" not in text
    for page in (f"account/{key.cluster.account_id}", f"cluster/{key.cluster_id}"):
        assert "Created" in admin.get(f"/admin/accounts/{page}/history/").content.decode()


def test_the_history_has_pages(admin: Client, account: Account) -> None:
    for number in range(60):
        services.rename_account(account, f"Acme {number}")
    path = f"/admin/accounts/account/{account.pk}/history/"
    assert "Acme 58 → Acme 59" in admin.get(path).content.decode()
    assert "name: Acme<" in admin.get(f"{path}?p=2").content.decode()


def test_the_audit_log_says_what_changed(admin: Client, key: ApiKey) -> None:
    services.update_key(key, label="app", max_connections=5)
    text = admin.get("/admin/accounts/auditentry/?kind__exact=key").content.decode()
    assert "label: web → app" in text
    assert "max connections: none → 5" in text
    assert "label: web<" in text


def test_the_first_page_begins_with_the_state_of_the_service(admin: Client, key: ApiKey, connections: None) -> None:
    services.suspend_account(key.cluster.account)
    page = admin.get("/admin/").content.decode()
    state, _, lists = page.partition("/admin/accounts/account/")
    for expected in ("1234", "<dd>2</dd>", "unreachable", "0.250 s", "1 (1 suspended)"):
        assert expected in state
    assert "/admin/accounts/apikey/" in lists


def test_every_page_answers_within_half_a_second_with_500_accounts_and_10000_keys(admin: Client, owner: User) -> None:
    accounts = Account.objects.bulk_create([Account(name=f"Customer {n}") for n in range(500)])
    Membership.objects.bulk_create([Membership(account=each, user=owner, role=Role.OWNER) for each in accounts])
    clusters = Cluster.objects.bulk_create(
        [Cluster(account=accounts[n % 500], cluster_id=f"c{n}") for n in range(1000)]
    )
    keys = ApiKey.objects.bulk_create(
        [
            ApiKey(cluster=clusters[n % 1000], label=f"key {n}", secret_ciphertext="x", last_used_at=timezone.now())
            for n in range(10_000)
        ]
    )
    AuditEntry.objects.bulk_create(
        [
            AuditEntry(
                account_pk=accounts[n % 500].pk,
                account_name=accounts[n % 500].name,
                source=AuditSource.REST,
                verb="changed",
                kind="key",
                name=keys[n].public_key,
                label=str(keys[n]),
                changes={"label": ["a", "b"]},
            )
            for n in range(10_000)
        ]
    )
    hour = timezone.now().replace(minute=0, second=0, microsecond=0)
    units = {UsageUnit.HOUR: (hour, timedelta(hours=1)), UsageUnit.DAY: (hour.replace(hour=0), timedelta(days=1))}
    Usage.objects.bulk_create(
        [
            Usage(unit=unit, start=last - n * step, account_pk=each.pk, messages=n)
            for n in range(4)
            for each in accounts
            for unit, (last, step) in units.items()
        ]
    )
    Invitation.objects.bulk_create(
        [Invitation(account=accounts[n % 500], email=f"guest-{n}@example.com", token_hash=str(n)) for n in range(2_000)]
    )
    webhooks = Webhook.objects.bulk_create(
        [
            Webhook(
                cluster=clusters[n],
                url=f"https://example.com/{n}",
                kinds=["client_event"],
                secret_ciphertext="x",
                headers_ciphertext=crypto.encrypt("{}"),
            )
            for n in range(1000)
        ]
    )
    now = timezone.now()
    WebhookDelivery.objects.bulk_create(
        [
            WebhookDelivery(
                webhook=webhooks[n % 1000],
                message_id=f"msg_{n}",
                events='[{"name":"client_event"}]',
                size=25,
                count=1,
                in_order=False,
                state=DeliveryState.FAILED,
                created_at=now,
                waiting_since=now,
                next_at=now,
            )
            for n in range(10_000)
        ]
    )
    ApiToken.objects.bulk_create(
        [ApiToken(digest=str(n), token_key=str(n), user=owner, expiry=None) for n in range(1000)]
    )
    Group.objects.create(name="operators")
    pages = [
        "",
        "accounts/invitation/?q=guest-77",
        "accounts/webhook/?q=example",
        "accounts/webhookdelivery/?state__exact=failed",
        f"accounts/webhook/{webhooks[0].pk}/test/",
        f"accounts/webhook/{webhooks[0].pk}/delete/",
        "accounts/account/busiest/",
        f"accounts/account/{accounts[0].pk}/usage/",
        f"accounts/account/{accounts[0].pk}/delete/",
        f"accounts/cluster/{clusters[0].pk}/delete/",
        "accounts/auditentry/?q=key",
    ]
    for model in site._registry:
        path = f"{model._meta.app_label}/{model._meta.model_name}"
        first = model._default_manager.order_by("pk").values_list("pk", flat=True)[0]
        pages += [f"{path}/", f"{path}/{first}/change/", f"{path}/{first}/history/"]
    for model, obj in (("account", accounts[0]), ("cluster", clusters[0]), ("apikey", keys[0])):
        lists = [f"accounts/{model}/{query}" for query in ("?q=c", "?p=5", "?_facets=True", "?o=3")]
        pages += [*lists, f"accounts/{model}/{obj.pk}/change/", f"accounts/{model}/add/"]
    pages += [f"accounts/account/{accounts[0].pk}/suspend/", f"accounts/cluster/{clusters[0].pk}/disable/"]
    pages += [f"accounts/apikey/{keys[0].pk}/{operation}/" for operation in ("rotate", "revoke")]
    slow = {page: seconds for page in pages if (seconds := fastest(admin, f"/admin/{page}")) > 0.5}
    assert slow == {}


def fastest(admin: Client, path: str) -> float:
    """Return how many seconds of its thread a page takes, at best of three times, since the machine may be busy."""

    def once() -> float:
        start = time.thread_time()
        assert admin.get(path).status_code == 200, path
        return time.thread_time() - start

    return min(once() for _ in range(3))
