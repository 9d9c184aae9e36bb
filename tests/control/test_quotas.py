"""Quotas of accounts and keys, the permission to set them, and the usage that is shown beside them."""

from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Permission
from django.core.exceptions import ValidationError
from django.test import Client
from pytest_django import DjangoAssertNumQueries, Settings

from accounts import services, usage
from accounts.access import find_access
from accounts.checks import check_quotas
from accounts.key_access import Quotas
from accounts.models import Account, ApiKey, DailyUsage
from accounts.quotas import QUOTA_FIELDS
from accounts.usage import record_messages, today
from accounts.users import User
from tests.control.conftest import As

pytestmark = pytest.mark.django_db

Announcements = list[dict[str, object]]
NAMES = ["max_connections", "max_message_bytes", "max_messages_per_second", "max_messages_per_day"]


def effective_quotas(key: ApiKey) -> Quotas:
    access = find_access(key.public_key)
    assert access is not None
    return access.quotas


def test_accounts_without_quotas_get_the_defaults(key: ApiKey, settings: Settings) -> None:
    settings.QUOTAS = {"CONNECTIONS": 1, "MESSAGES_PER_SECOND": 2, "MESSAGES_PER_DAY": 3}
    assert effective_quotas(key) == Quotas(1, 1, None, 2, 3)


def test_an_account_overrides_the_defaults_and_a_key_can_only_lower_the_quotas(key: ApiKey) -> None:
    services.set_quotas(
        key.cluster.account,
        max_connections=50,
        max_message_bytes=1000,
        max_messages_per_second=20,
        max_messages_per_day=0,
    )
    assert effective_quotas(key) == Quotas(50, 50, 1000, 20, 0)
    services.update_key(key, max_connections=5, max_message_bytes=100, max_messages_per_second=2)
    assert effective_quotas(key) == Quotas(50, 5, 100, 2, 0)
    services.set_quotas(key.cluster.account, max_connections=3, max_message_bytes=10, max_messages_per_second=1)
    assert effective_quotas(key) == Quotas(3, 3, 10, 1, 0)
    services.update_key(key, max_connections=None, max_message_bytes=None, max_messages_per_second=None)
    services.set_quotas(key.cluster.account, **dict.fromkeys(NAMES))
    assert effective_quotas(key) == Quotas(100_000, 100_000, None, 100_000, 1_000_000_000)


def test_a_change_is_announced_to_the_data_plane(
    key: ApiKey, announcements: Announcements, django_capture_on_commit_callbacks: Any
) -> None:
    announcements.clear()
    with django_capture_on_commit_callbacks(execute=True):
        services.set_quotas(key.cluster.account, max_connections=1)
        services.set_quotas(key.cluster.account)
        services.update_key(key, max_connections=1)
    assert announcements == [{"account_id": key.cluster.account_id}, {"public_key": key.public_key}]


@pytest.mark.parametrize(
    ("name", "value"), [("max_connections", -1), ("max_message_bytes", 0), ("max_messages_per_second", 0)]
)
def test_an_invalid_quota_is_rejected(key: ApiKey, name: str, value: int) -> None:
    for change in (
        lambda: services.set_quotas(key.cluster.account, **{name: value}),
        lambda: services.update_key(key, **{name: value}),
        lambda: services.issue_key(key.cluster, "x", **{name: value}),
    ):
        with pytest.raises(ValidationError) as raised:
            change()
        assert list(raised.value.message_dict) == [name]


def test_a_default_of_zero_is_an_error(settings: Settings) -> None:
    settings.QUOTAS = {**settings.QUOTAS, "CONNECTIONS": 0}
    (error,) = check_quotas(None)
    assert (error.id, "QUOTA_CONNECTIONS is 0" in error.msg) == ("accounts.E002", True)


@pytest.mark.parametrize("name", NAMES)
def test_only_the_operator_can_set_the_quotas_of_an_account(as_: As, owner: User, account: Account, name: str) -> None:
    path = f"/api/v1/accounts/{account.pk}/"
    for answer in (
        as_(owner).patch(path, {name: 10}),
        as_(owner).patch(path, {name: 10, "name": "Renamed"}),
        as_(owner).post("/api/v1/accounts/", {"name": "Mine", name: 10}),
    ):
        assert answer.status_code == 403
        assert "operator" in answer.json()["detail"]
    account.refresh_from_db()
    assert (account.name, getattr(account, name), Account.objects.count()) == ("Acme", None, 1)
    owner.is_superuser = True
    owner.save()
    assert as_(owner).patch(path, {name: 10}).json()[name] == 10


def test_only_owners_can_lower_the_quotas_of_a_key(as_: As, owner: User, teammate: User, key: ApiKey) -> None:
    services.set_quotas(key.cluster.account, max_connections=10)
    path = f"/api/v1/keys/{key.public_key}/"
    assert as_(owner).patch(path, {"max_connections": 5}).json()["max_connections"] == 5
    rejected = as_(owner).patch(path, {"max_connections": 11})
    assert (rejected.status_code, list(rejected.json())) == (400, ["max_connections"])
    assert as_(teammate).patch(path, {"max_connections": 5}).status_code == 403


def test_members_can_see_the_usage(
    as_: As,
    teammate: User,
    key: ApiKey,
    monkeypatch: pytest.MonkeyPatch,
    django_assert_max_num_queries: DjangoAssertNumQueries,
) -> None:
    monkeypatch.setattr(usage, "_connection_counter", lambda *, account_id, public_key: 3 if account_id else 2)
    account = key.cluster.account
    record_messages({account.pk: 41}, today())
    client = as_(teammate)
    assert client.get(f"/api/v1/accounts/{account.pk}/").json()["usage"] == {"connections": 3, "messages_today": 41}
    assert client.get(f"/api/v1/keys/{key.public_key}/").json()["usage"] == {"connections": 2}
    for number in range(5):
        services.add_member(services.create_account(f"Account {number}"), teammate)
    with django_assert_max_num_queries(3):
        assert len(client.get("/api/v1/accounts/").json()["results"]) == 6


def test_the_admin_sets_quotas_and_shows_the_usage(admin_client: Client, key: ApiKey) -> None:
    account = key.cluster.account
    record_messages({account.pk: 1234567}, today())
    page = admin_client.get(f"/admin/accounts/account/{account.pk}/change/").content.decode()
    assert "1234567" in page
    assert 'placeholder="100000"' in page
    form = {
        "name": "Acme",
        "max_connections": "7",
        "max_messages_per_day": "",
        **{f"{prefix}-{name}_FORMS": "0" for prefix in ("memberships", "clusters") for name in ("TOTAL", "INITIAL")},
    }
    assert admin_client.post(f"/admin/accounts/account/{account.pk}/change/", form).status_code == 302
    account.refresh_from_db()
    assert (account.max_connections, account.max_messages_per_day) == (7, None)
    assert admin_client.get("/admin/accounts/account/").status_code == 200
    assert admin_client.get(f"/admin/accounts/apikey/{key.pk}/change/").status_code == 200
    assert admin_client.get("/admin/accounts/apikey/").status_code == 200


def test_the_admin_sets_each_quota_of_a_key_and_shows_its_usage(
    admin_client: Client, key: ApiKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(usage, "_connection_counter", lambda *, account_id=None, public_key=None: 1234567)
    path = f"/admin/accounts/apikey/{key.pk}/change/"
    form = {"label": "x", "allowed_origins": "", **{name: str(value) for value, name in enumerate(QUOTA_FIELDS, 5)}}
    assert admin_client.post(path, form).status_code == 302
    key.refresh_from_db()
    assert [getattr(key, name) for name in QUOTA_FIELDS] == list(range(5, 5 + len(QUOTA_FIELDS)))
    for page in (path, "/admin/accounts/apikey/"):
        assert "1234567" in admin_client.get(page).content.decode()


@pytest.mark.parametrize("name", NAMES)
def test_the_admin_sets_each_quota_of_an_account(admin_client: Client, account: Account, name: str) -> None:
    forms = {f"{prefix}-{kind}_FORMS": "0" for prefix in ("memberships", "clusters") for kind in ("TOTAL", "INITIAL")}
    form = {"name": "Acme", name: "7", **forms}
    assert admin_client.post(f"/admin/accounts/account/{account.pk}/change/", form).status_code == 302
    account.refresh_from_db()
    assert {name: getattr(account, name) for name in NAMES} == {**dict.fromkeys(NAMES), name: 7}


@pytest.mark.parametrize("name", QUOTA_FIELDS)
def test_the_rest_api_sets_each_quota_of_a_key(as_: As, owner: User, key: ApiKey, name: str) -> None:
    path = f"/api/v1/keys/{key.public_key}/"
    assert as_(owner).patch(path, {name: 7}).json()[name] == 7
    key.refresh_from_db()
    assert getattr(key, name) == 7
    issued = as_(owner).post("/api/v1/keys/", {"cluster": key.cluster.cluster_id, "label": "x", name: 8})
    assert (issued.status_code, issued.json()[name]) == (201, 8)


def test_the_admin_creates_an_account_with_quotas(admin_client: Client) -> None:
    forms = {f"{prefix}-{name}_FORMS": "0" for prefix in ("memberships", "clusters") for name in ("TOTAL", "INITIAL")}
    form = {"name": "Acme", "max_connections": "7", **forms}
    assert admin_client.post("/admin/accounts/account/add/", form).status_code == 302
    account = Account.objects.get()
    assert (account.name, account.max_connections) == ("Acme", 7)


def test_staff_with_permission_to_view_can_open_an_account(client: Client, account: Account) -> None:
    viewer = User.objects.create_user("viewer@example.com", is_staff=True)
    viewer.user_permissions.add(Permission.objects.get(codename="view_account"))
    client.force_login(viewer)
    assert client.get(f"/admin/accounts/account/{account.pk}/change/").status_code == 200


def test_owners_can_send_back_the_quotas_that_they_read(as_: As, owner: User, account: Account) -> None:
    path = f"/api/v1/accounts/{account.pk}/"
    read = as_(owner).get(path).json()
    assert as_(owner).patch(path, {**read, "name": "Renamed"}).json()["name"] == "Renamed"
    assert as_(owner).post("/api/v1/accounts/", {"name": "Mine", "max_connections": None}).status_code == 201


def test_messages_are_counted_by_account_and_day(account: Account) -> None:
    other = services.create_account("Other")
    day = today()
    assert record_messages({account.pk: 5, other.pk: 0}, day) == {account.pk: 5, other.pk: 0}
    assert record_messages({account.pk: 3, other.pk: 1, 999: 7}, day) == {account.pk: 8, other.pk: 1}
    record_messages({account.pk: 2}, day - timedelta(days=1))
    assert [(use.day, use.messages) for use in account.daily_usage.all()] == [
        (day, 8),
        (day - timedelta(days=1), 2),
    ]
    services.delete_account(account)
    assert DailyUsage.objects.count() == 1


def test_no_repr_contains_a_secret(key: ApiKey) -> None:
    access = find_access(key.public_key)
    assert access is not None
    assert access.secret
    assert access.secret not in repr(access)
