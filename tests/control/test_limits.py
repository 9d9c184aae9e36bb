"""Limits on what the people of an account can do to the service: how much they own, create, send and change."""

from datetime import timedelta
from typing import Any

import pytest
from django.core.exceptions import ValidationError
from django.utils import timezone
from pytest_django import Settings

from accounts import services
from accounts.checks import check_limits, check_quotas, check_reserved_cluster_ids
from accounts.models import Account, ApiKey, AuditEntry, Cluster, DailyUsage, FormerAccount, Role
from accounts.usage import leave_behind, record_messages, today
from accounts.users import User
from tests.control.conftest import As

pytestmark = pytest.mark.django_db
ACCOUNTS = "/api/v1/accounts/"


def create(as_: As, user: User) -> tuple[int, Any]:
    """Create an account through the REST API; return the status and the account's ID or the reason why not."""
    answer = as_(user).post(ACCOUNTS, {"name": "New"})
    return answer.status_code, answer.json().get("id") or answer.json()["detail"]


class TestAccountsPerPerson:
    def test_everyone_may_create_one(self, as_: As, stranger: User) -> None:
        assert create(as_, stranger)[0] == 201
        assert create(as_, stranger) == (403, "You have created as many accounts as you may, which is 1.")
        assert Account.objects.count() == 1

    def test_the_number_can_be_set(self, as_: As, stranger: User, settings: Settings) -> None:
        settings.ACCOUNTS_PER_PERSON = 3
        assert [create(as_, stranger)[0] for _ in range(4)] == [201, 201, 201, 403]

    def test_with_0_only_operators_create_accounts(self, as_: As, stranger: User, settings: Settings) -> None:
        settings.ACCOUNTS_PER_PERSON = 0
        assert create(as_, stranger) == (403, "Only operators of this service can create accounts.")
        stranger.is_staff = stranger.is_superuser = True
        stranger.save()
        assert [create(as_, stranger)[0] for _ in range(3)] == [201, 201, 201]

    def test_accounts_that_an_operator_created_do_not_count(self, as_: As, owner: User, account: Account) -> None:
        assert create(as_, owner)[0] == 201

    def test_an_account_that_was_handed_over_still_counts(self, as_: As, owner: User, stranger: User) -> None:
        account = services.create_own_account(owner, "Mine")
        services.add_member(account, stranger, Role.OWNER)
        services.remove_member(account.memberships.get(user=owner))
        assert create(as_, owner)[0] == 403

    @pytest.mark.parametrize("role", [Role.OWNER, Role.VIEWER])
    def test_only_owners_of_a_suspended_account_create_none(
        self, as_: As, account: Account, stranger: User, role: Role
    ) -> None:
        services.add_member(account, stranger, role)
        services.suspend_account(account)
        assert create(as_, stranger)[0] == (403 if role == Role.OWNER else 201)

    def test_who_created_a_suspended_account_and_left_it_creates_none(
        self, as_: As, owner: User, teammate: User, settings: Settings
    ) -> None:
        settings.ACCOUNTS_PER_PERSON = 5
        account = services.create_own_account(owner, "Mine")
        services.add_member(account, teammate, Role.OWNER)
        services.remove_member(account.memberships.get(user=owner))
        services.suspend_account(account)
        assert "suspended" in create(as_, owner)[1]

    def test_nobody_leaves_or_deletes_a_suspended_account(self, as_: As, owner: User, account: Account) -> None:
        services.suspend_account(account)
        path = f"{ACCOUNTS}{account.pk}/"
        own = account.memberships.get(user=owner)
        assert [as_(owner).delete(to).status_code for to in (path, f"{path}members/{own.pk}/")] == [403, 403]
        # As if the suspension came between the check of the permission and the service.
        for service in (
            lambda: services.delete_account(account),
            lambda: services.remove_member(own),
            lambda: services.set_role(own, Role.VIEWER),
        ):
            with pytest.raises(services.Refused, match="suspended"):
                service()

    def test_accounts_can_be_replaced_only_a_few_times_a_day(self, as_: As, stranger: User) -> None:
        for _ in range(services.MAX_DELETED_PER_DAY):
            status, pk = create(as_, stranger)
            assert (status, as_(stranger).delete(f"{ACCOUNTS}{pk}/").status_code) == (201, 204)
        assert "after midnight" in create(as_, stranger)[1]
        FormerAccount.objects.update(day=today() - timedelta(days=1))
        assert create(as_, stranger)[0] == 201


def usage(as_: As, user: User, pk: int) -> int:
    return int(as_(user).get(f"{ACCOUNTS}{pk}/").json()["usage"]["messages_today"])


class TestUsageOfDeletedAccounts:
    def test_it_counts_against_the_owners_next_account(self, as_: As, stranger: User) -> None:
        pks = []
        for count in (100, 20, 3):
            pks.append(create(as_, stranger)[1])
            record_messages({pks[-1]: count}, today())
            as_(stranger).delete(f"{ACCOUNTS}{pks[-1]}/")
        last = create(as_, stranger)[1]
        assert usage(as_, stranger, last) == 123
        assert record_messages({last: 4}, today()) == {last: 127}

    def test_messages_that_a_node_records_after_the_deletion_count_too(self, as_: As, stranger: User) -> None:
        first = create(as_, stranger)[1]
        as_(stranger).delete(f"{ACCOUNTS}{first}/")
        second = create(as_, stranger)[1]
        assert record_messages({first: 7, second: 0}, today()) == {second: 7}

    def test_it_counts_once_and_not_on_other_days(self, as_: As, owner: User, teammate: User, account: Account) -> None:
        services.set_role(account.memberships.get(user=teammate), Role.OWNER)
        record_messages({account.pk: 50}, today())
        record_messages({account.pk: 9}, today() - timedelta(days=1))
        as_(owner).delete(f"{ACCOUNTS}{account.pk}/")
        pk = create(as_, owner)[1]
        services.add_member(Account.objects.get(), teammate, Role.OWNER)
        assert usage(as_, owner, pk) == 50
        assert record_messages({pk: 0}, today() - timedelta(days=1)) == {pk: 0}
        assert list(DailyUsage.objects.values_list("account_pk", "messages")) == [(account.pk, 50)]

    def test_it_counts_against_an_existing_account_whose_owner_they_become(
        self, as_: As, stranger: User, account: Account
    ) -> None:
        pk = create(as_, stranger)[1]
        record_messages({pk: 5}, today())
        as_(stranger).delete(f"{ACCOUNTS}{pk}/")
        member = services.add_member(account, stranger)
        assert record_messages({account.pk: 0}, today()) == {account.pk: 0}
        services.set_role(member, Role.OWNER)
        assert record_messages({account.pk: 0}, today()) == {account.pk: 5}

    def test_old_rows_are_removed(self, account: Account, owner: User) -> None:
        old = FormerAccount.objects.create(account_pk=999, day=today() - timedelta(days=2), owner=owner)
        DailyUsage.objects.create(account_pk=999, day=old.day, messages=1)
        services.delete_account(account)
        assert list(FormerAccount.objects.values_list("account_pk", flat=True)) == [account.pk]
        assert not DailyUsage.objects.exists()

    def test_nothing_is_kept_without_an_owner(self) -> None:
        account = services.create_account("Nobody's")
        record_messages({account.pk: 5}, today())
        leave_behind(account)
        assert not (DailyUsage.objects.exists())
        assert not (FormerAccount.objects.exists())


class TestSizes:
    def test_an_account_has_as_many_clusters_as_its_quota(self, as_: As, owner: User, account: Account) -> None:
        services.set_quotas(account, max_clusters=1)
        statuses = [
            as_(owner).post("/api/v1/clusters/", {"account": account.pk, "cluster_id": f"c{n}"}) for n in range(2)
        ]
        assert [answer.status_code for answer in statuses] == [201, 409]
        assert statuses[1].json()["detail"] == "The account has reached its quota of 1 clusters."
        assert Cluster.objects.count() == 1

    def test_keys_that_are_revoked_make_room(self, as_: As, owner: User, key: ApiKey, settings: Settings) -> None:
        settings.QUOTAS = {**settings.QUOTAS, "KEYS": 1}
        body = {"cluster": key.cluster.cluster_id, "label": "x"}
        assert as_(owner).post("/api/v1/keys/", body).status_code == 409
        services.revoke_key(key)
        assert as_(owner).post("/api/v1/keys/", body).status_code == 201

    def test_only_the_newest_revoked_keys_are_kept(self, cluster: Cluster, key: ApiKey) -> None:
        first = timezone.now() - timedelta(days=1)
        old = [
            ApiKey(cluster=cluster, label=str(n), secret_ciphertext="x", revoked_at=first + timedelta(seconds=n))
            for n in range(services.MAX_REVOKED_KEYS)
        ]
        ApiKey.objects.bulk_create(old)
        services.revoke_key(key)
        assert ApiKey.objects.count() == services.MAX_REVOKED_KEYS
        assert not ApiKey.objects.filter(label="0").exists()
        assert key.revoked

    def test_invited_people_count_as_members(self, as_: As, owner: User, account: Account) -> None:
        services.set_quotas(account, max_members=3)  # there are two
        path = f"{ACCOUNTS}{account.pk}/invitations/"
        answers = [as_(owner).post(path, {"email": f"{n}@example.com"}).status_code for n in range(2)]
        assert answers == [201, 409]

    @pytest.mark.parametrize("name", ["max_clusters", "max_keys", "max_members", "max_webhooks"])
    def test_only_operators_set_these_quotas(self, as_: As, owner: User, account: Account, name: str) -> None:
        path = f"{ACCOUNTS}{account.pk}/"
        assert as_(owner).patch(path, {name: 10_000}).status_code == 403
        owner.is_staff = owner.is_superuser = True
        owner.save()
        assert as_(owner).patch(path, {name: 10_000}).json()[name] == 10_000


class TestChangesPerDay:
    def test_beyond_the_limit_people_can_only_take_access_away(
        self, as_: As, owner: User, key: ApiKey, settings: Settings
    ) -> None:
        account = key.cluster.account
        settings.CHANGES_PER_DAY = AuditEntry.objects.count() + 1
        client, path = as_(owner), f"/api/v1/keys/{key.public_key}/"
        assert client.patch(path, {"label": "a"}).status_code == 200
        refused = client.patch(path, {"label": "b"})
        assert (refused.status_code, 0 < int(refused.headers["Retry-After"]) <= 86400) == (429, True)
        assert "limit" in refused.json()["detail"]
        assert client.post("/api/v1/keys/", {"cluster": "acme", "label": "x"}).status_code == 429
        assert client.post(f"{ACCOUNTS}{account.pk}/invitations/", {"email": "a@example.com"}).status_code == 429
        assert ApiKey.objects.get().label == "a"
        assert client.delete(path).status_code == 204
        assert client.delete(f"/api/v1/clusters/{key.cluster_id}/").status_code == 204
        assert client.delete(f"{ACCOUNTS}{account.pk}/").status_code == 204

    def test_it_concerns_neither_operators_nor_commands_nor_yesterday(
        self, as_: As, owner: User, account: Account, settings: Settings
    ) -> None:
        settings.CHANGES_PER_DAY = 1
        services.rename_account(account, "By a command")
        path = f"{ACCOUNTS}{account.pk}/"
        assert as_(owner).patch(path, {"name": "B"}).status_code == 429
        AuditEntry.objects.update(at=timezone.now() - timedelta(days=1))
        assert as_(owner).patch(path, {"name": "C"}).status_code == 200
        owner.is_staff = owner.is_superuser = True
        owner.save()
        assert as_(owner).patch(path, {"name": "D"}).status_code == 200


def recorded_origins() -> Any:
    return AuditEntry.objects.latest("pk").changes["allowed_origins"]


def test_an_entry_has_only_the_origins_that_changed(key: ApiKey) -> None:
    services.update_key(key, allowed_origins=["a.org", "b.org"])
    services.update_key(key, allowed_origins=["b.org", "c.org"])
    assert recorded_origins() == [["a.org"], ["c.org"]]


def test_an_entry_about_a_hundred_long_origins_is_small(key: ApiKey) -> None:
    first, second = ([f"{letter * 60}.{n}.{'x' * 60}.{'y' * 60}.{'z' * 50}" for n in range(100)] for letter in "ab")
    services.update_key(key, allowed_origins=first)
    services.update_key(key, allowed_origins=second)
    removed, added = recorded_origins()
    assert removed == [*first[:10], "and 90 more"]
    assert added == [*second[:10], "and 90 more"]
    assert len(str(AuditEntry.objects.latest("pk").changes)) < 6_000
    issued = services.issue_key(key.cluster, "x", allowed_origins=first)
    assert issued.key.allowed_origins == first
    assert recorded_origins() == [None, [*first[:10], "and 90 more"]]


@pytest.mark.parametrize("cluster_id", ["www", "admin", "api", "mail", "login", "wpad", "xn--bcher-kva", "xn--a"])
def test_reserved_cluster_ids_are_rejected(as_: As, owner: User, account: Account, cluster_id: str) -> None:
    answer = as_(owner).post("/api/v1/clusters/", {"account": account.pk, "cluster_id": cluster_id})
    assert (answer.status_code, answer.json()) == (
        400,
        {"cluster_id": ["This cluster ID is reserved. Choose another one."]},
    )


def test_the_reserved_cluster_ids_can_be_set(account: Account, settings: Settings) -> None:
    settings.RESERVED_CLUSTER_IDS = ["shop-*"]
    services.create_cluster(account, "www")
    with pytest.raises(ValidationError, match="reserved"):
        services.create_cluster(account, "shop-1")
    settings.RESERVED_CLUSTER_IDS = ["www"]
    services.update_cluster(Cluster.objects.get(), enabled=False)  # existing clusters stay


@pytest.mark.parametrize(
    ("check", "name", "value"),
    [
        (check_limits, "ACCOUNTS_PER_PERSON", -1),
        (check_limits, "CHANGES_PER_DAY", 0),
        (check_reserved_cluster_ids, "RESERVED_CLUSTER_IDS", ["ok", "a.b"]),
        (check_quotas, "QUOTAS", {"KEYS": 0}),
    ],
)
def test_invalid_settings_are_reported(settings: Settings, check: Any, name: str, value: Any) -> None:
    assert check(None) == []
    setattr(settings, name, value)
    (error,) = check(None)
    assert name.removesuffix("S") in error.msg
