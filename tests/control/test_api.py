"""The management API: every endpoint for an owner, a member, a stranger and a client without a login."""

from typing import Any

import pytest
from django.test import Client
from pytest_django import DjangoAssertNumQueries, Settings

from accounts import services
from accounts.access import find_access
from accounts.key_access import CLUSTER_OPTIONS
from accounts.models import Account, ApiKey, Cluster, Invitation, Membership, Role
from accounts.users import User
from piesite import __version__
from tests.control.conftest import As, secret_of

pytestmark = pytest.mark.django_db


@pytest.fixture
def paths(account: Account, cluster: Cluster, key: ApiKey, teammate: User) -> dict[str, str]:
    member = Membership.objects.get(account=account, user=teammate)
    return {
        "account": f"/api/v1/accounts/{account.pk}/",
        "invitations": f"/api/v1/accounts/{account.pk}/invitations/",
        "member": f"/api/v1/accounts/{account.pk}/members/{member.pk}/",
        "cluster": f"/api/v1/clusters/{cluster.pk}/",
        "key": f"/api/v1/keys/{key.public_key}/",
        "rotate": f"/api/v1/keys/{key.public_key}/rotate-secret/",
    }


CHANGES = [
    ("account", "patch", {"name": "B"}),
    ("account", "delete", None),
    ("invitations", "post", {"email": "stranger@example.com"}),
    ("member", "patch", {"role": "owner"}),
    ("cluster", "patch", {"enabled": False}),
    ("cluster", "delete", None),
    ("key", "patch", {"label": "B"}),
    ("key", "delete", None),
    ("rotate", "post", None),
]


def state() -> list[Any]:
    """Return everything that the API could change."""
    return [list(model.objects.values()) for model in (Account, Membership, Invitation, Cluster, ApiKey)]


@pytest.mark.parametrize(("name", "method", "data"), CHANGES)
class TestChanges:
    def test_owners_are_allowed(
        self, as_: As, owner: User, stranger: User, paths: dict[str, str], name: str, method: str, data: Any
    ) -> None:
        before = state()
        assert getattr(as_(owner), method)(paths[name], data).status_code in (200, 201, 204)
        assert state() != before

    def test_members_get_403(
        self, as_: As, teammate: User, stranger: User, paths: dict[str, str], name: str, method: str, data: Any
    ) -> None:
        before = state()
        assert getattr(as_(teammate), method)(paths[name], data).status_code == 403
        assert state() == before

    def test_strangers_get_404(
        self, as_: As, stranger: User, paths: dict[str, str], name: str, method: str, data: Any
    ) -> None:
        before = state()
        assert getattr(as_(stranger), method)(paths[name], data).status_code == 404
        assert state() == before

    def test_clients_without_a_login_get_401(
        self, as_: As, paths: dict[str, str], name: str, method: str, data: Any
    ) -> None:
        before = state()
        assert getattr(as_(None), method)(paths[name], data).status_code == 401
        assert state() == before

    def test_a_suspended_account_cannot_be_changed(
        self, as_: As, owner: User, stranger: User, paths: dict[str, str], name: str, method: str, data: Any
    ) -> None:
        services.suspend_account(Account.objects.get())
        before = state()
        answer = getattr(as_(owner), method)(paths[name], data)
        assert answer.status_code == 403
        assert "suspended" in answer.json()["detail"]
        assert state() == before


@pytest.mark.parametrize("name", ["account", "member", "cluster", "key"])
def test_owners_and_members_can_read_and_strangers_get_404(
    as_: As, owner: User, teammate: User, stranger: User, paths: dict[str, str], name: str
) -> None:
    statuses = [as_(user).get(paths[name]).status_code for user in (owner, teammate, stranger, None)]
    assert statuses == [200, 200, 404, 401]


@pytest.mark.parametrize("name", ["accounts", "clusters", "keys"])
def test_lists_contain_only_objects_of_the_users_accounts(
    as_: As, owner: User, teammate: User, stranger: User, key: ApiKey, foreign_key: ApiKey, name: str
) -> None:
    def listed(user: User) -> list[Any]:
        results = as_(user).get(f"/api/v1/{name}/").json()["results"]
        return [entry.get("public_key") or entry["id"] for entry in results]

    own = {"accounts": key.cluster.account_id, "clusters": key.cluster_id, "keys": key.public_key}[name]
    assert listed(owner) == listed(teammate) == [own]
    assert len(listed(stranger)) == 1
    assert listed(stranger) != [own]


class TestAccounts:
    def test_the_creator_becomes_the_owner(self, as_: As, stranger: User) -> None:
        answer = as_(stranger).post("/api/v1/accounts/", {"name": "Mine"})
        account = Account.objects.get()
        assert answer.status_code == 201
        assert answer.json()["id"] == account.pk
        assert answer.json()["suspended"] is False
        assert [(m.user, m.role) for m in account.memberships.all()] == [(stranger, Role.OWNER)]

    def test_owners_can_see_that_their_account_is_suspended(self, as_: As, owner: User, account: Account) -> None:
        services.suspend_account(account)
        answer = as_(owner).get(f"/api/v1/accounts/{account.pk}/").json()
        assert answer["suspended"] is True

    def test_the_last_owner_cannot_be_removed(self, as_: As, owner: User, account: Account) -> None:
        own = Membership.objects.get(user=owner)
        answer = as_(owner).delete(f"/api/v1/accounts/{account.pk}/members/{own.pk}/")
        assert (answer.status_code, answer.json()) == (
            400,
            {"non_field_errors": ["An account needs an owner. Make someone else an owner first."]},
        )

    def test_a_member_of_another_account_is_not_found(
        self, as_: As, owner: User, account: Account, foreign_key: ApiKey
    ) -> None:
        other = Membership.objects.get(account=foreign_key.cluster.account)
        assert as_(owner).get(f"/api/v1/accounts/{account.pk}/members/{other.pk}/").status_code == 404

    @pytest.mark.parametrize(
        "data", [{}, {"email": "nobody@example.com"}, {"email": "owner@example.com", "role": "king"}]
    )
    def test_only_owners_get_validation_errors_about_an_invitation(
        self, as_: As, teammate: User, stranger: User, account: Account, data: dict[str, str]
    ) -> None:
        path = f"/api/v1/accounts/{account.pk}/invitations/"
        assert [as_(user).post(path, data).status_code for user in (teammate, stranger, None)] == [403, 404, 401]


class TestClusters:
    def test_owners_can_create_a_cluster(self, as_: As, owner: User, account: Account) -> None:
        answer = as_(owner).post("/api/v1/clusters/", {"account": account.pk, "cluster_id": "fresh"})
        assert answer.status_code == 201
        assert Cluster.objects.get().cluster_id == "fresh"
        assert answer.json()["enabled"] is True

    def test_members_get_403_and_strangers_cannot_reference_the_account(
        self, as_: As, teammate: User, stranger: User, account: Account
    ) -> None:
        data = {"account": account.pk, "cluster_id": "fresh"}
        assert as_(teammate).post("/api/v1/clusters/", data).status_code == 403
        answer = as_(stranger).post("/api/v1/clusters/", data)
        assert answer.status_code == 400
        assert "does not exist" in str(answer.json()["account"])
        assert not Cluster.objects.exists()

    @pytest.mark.parametrize("cluster_id", ["", "A", "a.b", "-a", "acme", "a\0", None, 7.5, [], "a" * 64])
    def test_an_invalid_or_taken_id_is_rejected(self, as_: As, owner: User, cluster: Cluster, cluster_id: Any) -> None:
        data = {"account": cluster.account_id, "cluster_id": cluster_id}
        assert as_(owner).post("/api/v1/clusters/", data).status_code == 400
        assert Cluster.objects.count() == 1

    def test_id_and_account_cannot_be_changed(self, as_: As, owner: User, cluster: Cluster) -> None:
        other = services.create_account("Second", owner)
        answer = as_(owner).patch(f"/api/v1/clusters/{cluster.pk}/", {"cluster_id": "b", "account": other.pk})
        assert answer.json()["cluster_id"] == "acme"
        assert Cluster.objects.get().account_id == cluster.account_id

    def test_the_options_for_pushers_libraries_are_off_until_they_are_switched_on(
        self, as_: As, owner: User, account: Account
    ) -> None:
        created = as_(owner).post("/api/v1/clusters/", {"account": account.pk, "cluster_id": "fresh"}).json()
        assert not any(created[name] for name in CLUSTER_OPTIONS)
        changed = as_(owner).patch(f"/api/v1/clusters/{created['id']}/", dict.fromkeys(CLUSTER_OPTIONS, True))
        assert all(changed.json()[name] for name in CLUSTER_OPTIONS)
        assert changed.json()["enabled"]
        cluster = Cluster.objects.get(pk=created["id"])
        key = services.issue_key(cluster, "x").key
        access = find_access(key.public_key)
        assert access is not None
        assert all(getattr(access, name) for name in CLUSTER_OPTIONS)

    def test_the_app_id_for_pushers_libraries_is_shown_and_cannot_be_chosen(
        self, as_: As, owner: User, account: Account
    ) -> None:
        created = as_(owner).post("/api/v1/clusters/", {"account": account.pk, "cluster_id": "fresh", "app_id": "7"})
        assert created.json()["app_id"] == str(Cluster.objects.get().pk)

    @pytest.mark.parametrize(("query", "count"), [("", 2), ("?account={}", 1), ("?account=999999999", 0)])
    def test_clusters_can_be_filtered_by_account(
        self, as_: As, owner: User, cluster: Cluster, query: str, count: int
    ) -> None:
        services.create_cluster(services.create_account("Second", owner), "second")
        path = "/api/v1/clusters/" + query.format(cluster.account_id)
        assert as_(owner).get(path).json()["count"] == count


class TestKeys:
    def test_only_the_answer_that_issues_a_key_contains_its_secret(
        self, as_: As, owner: User, cluster: Cluster
    ) -> None:
        client = as_(owner)
        answer = client.post(
            "/api/v1/keys/", {"cluster": "acme", "label": "web", "allowed_origins": ["Example.com", "*.a.org"]}
        )
        issued = answer.json()
        key = ApiKey.objects.get()
        assert answer.status_code == 201
        assert answer.headers["Cache-Control"] == "no-store"
        assert issued.pop("secret") == secret_of(key)
        assert issued == {
            "public_key": key.public_key,
            "cluster": "acme",
            "label": "web",
            "protects_channels": False,
            "allows_client_messages": True,
            "closes_expired_connections": False,
            "allowed_origins": ["example.com", "*.a.org"],
            "max_connections": None,
            "max_message_bytes": None,
            "max_messages_per_second": None,
            "usage": {"connections": 0},
            "revoked": False,
            "created_at": issued["created_at"],
            "last_used_at": None,
            "old_secret_ends_at": None,
        }
        assert client.get(f"/api/v1/keys/{key.public_key}/").json() == issued
        assert client.get("/api/v1/keys/").json()["results"] == [issued]
        changed = client.patch(f"/api/v1/keys/{key.public_key}/", {"label": "app"}).json()
        assert changed == {**issued, "label": "app"}

    def test_the_answer_to_a_rotation_contains_the_new_secret(self, as_: As, owner: User, key: ApiKey) -> None:
        before = secret_of(key)
        answer = as_(owner).post(f"/api/v1/keys/{key.public_key}/rotate-secret/")
        assert answer.headers["Cache-Control"] == "no-store"
        assert answer.json()["secret"] == secret_of(key) != before

    def test_a_rotation_can_leave_the_old_secret_valid_for_some_time(self, as_: As, owner: User, key: ApiKey) -> None:
        old = secret_of(key)
        path = f"/api/v1/keys/{key.public_key}/"
        answer = as_(owner).post(f"{path}rotate-secret/", {"overlap_seconds": 3600})
        assert answer.status_code == 200
        access = find_access(key.public_key)
        assert access is not None
        assert access.valid_secrets() == (answer.json()["secret"], old)
        assert as_(owner).get(path).json()["old_secret_ends_at"] == answer.json()["old_secret_ends_at"] is not None
        assert as_(owner).post(f"{path}rotate-secret/").json()["old_secret_ends_at"] is None

    def test_the_old_secret_of_a_rotation_can_be_ended_early(
        self, as_: As, owner: User, key: ApiKey, settings: Settings
    ) -> None:
        path = f"/api/v1/keys/{key.public_key}/"
        new = as_(owner).post(f"{path}rotate-secret/", {"overlap_seconds": 3600}).json()["secret"]
        settings.CHANGES_PER_DAY = 0  # taking access away remains possible
        for _ in range(2):
            answer = as_(owner).post(f"{path}end-old-secret/")
            assert (answer.status_code, answer.json()["old_secret_ends_at"]) == (200, None)
            assert "secret" not in answer.json()
        access = find_access(key.public_key)
        assert access is not None
        assert access.valid_secrets() == (new,)

    @pytest.mark.parametrize("seconds", [-1, 7 * 86400 + 1, "soon", 1.5, None])
    def test_an_overlap_lasts_up_to_seven_days(self, as_: As, owner: User, key: ApiKey, seconds: Any) -> None:
        path = f"/api/v1/keys/{key.public_key}/rotate-secret/"
        answer = as_(owner).post(path, {"overlap_seconds": seconds})
        assert (answer.status_code, list(answer.json())) == (400, ["overlap_seconds"])
        assert as_(owner).post(path, {"overlap_seconds": 7 * 86400}).status_code == 200

    def test_deleting_a_key_revokes_it_and_keeps_the_row(self, as_: As, owner: User, key: ApiKey) -> None:
        path = f"/api/v1/keys/{key.public_key}/"
        assert [as_(owner).delete(path).status_code for _ in range(2)] == [204, 204]
        assert as_(owner).get(path).json()["revoked"] is True
        assert as_(owner).post(f"{path}rotate-secret/").status_code == 409

    def test_members_get_403_and_strangers_cannot_reference_the_cluster(
        self, as_: As, teammate: User, stranger: User, cluster: Cluster
    ) -> None:
        data = {"cluster": "acme", "label": "x"}
        assert as_(teammate).post("/api/v1/keys/", data).status_code == 403
        assert as_(stranger).post("/api/v1/keys/", data).status_code == 400
        assert not ApiKey.objects.exists()

    @pytest.mark.parametrize(
        "values",
        [
            {"label": ""},
            {"label": "x" * 101},
            {"label": "a\0"},
            {"label": None},
            {"cluster": "none"},
            {"cluster": {}},
            {"allowed_origins": "example.com"},
            {"allowed_origins": ["https://example.com"]},
            {"allowed_origins": ["a.com"] * 101},
            {"allowed_origins": [{}]},
            {"protects_channels": "perhaps"},
        ],
    )
    def test_invalid_values_are_rejected(self, as_: As, owner: User, cluster: Cluster, values: dict[str, Any]) -> None:
        data = {"cluster": "acme", "label": "x", **values}
        answer = as_(owner).post("/api/v1/keys/", data)
        assert answer.status_code == 400
        assert set(answer.json()) == set(values)
        assert not ApiKey.objects.exists()

    def test_read_only_fields_are_ignored(self, as_: As, owner: User, key: ApiKey) -> None:
        sent = {"public_key": "k" * 60, "revoked": True, "cluster": "b", "secret_ciphertext": "x", "last_used_at": None}
        before = state()
        assert as_(owner).patch(f"/api/v1/keys/{key.public_key}/", sent).status_code == 200
        assert state() == before

    @pytest.mark.parametrize(("query", "count"), [("?cluster=acme", 1), ("?cluster=none", 0), ("?cluster=%00", 0)])
    def test_keys_can_be_filtered_by_cluster(self, as_: As, owner: User, key: ApiKey, query: str, count: int) -> None:
        services.issue_key(services.create_cluster(key.cluster.account, "second"), "x")
        assert as_(owner).get(f"/api/v1/keys/{query}").json()["count"] == count


def test_lists_are_paginated_with_a_constant_number_of_queries(
    as_: As, owner: User, cluster: Cluster, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    ApiKey.objects.bulk_create([ApiKey(cluster=cluster, label="x", secret_ciphertext="x") for _ in range(300)])
    client = as_(owner)
    with django_assert_num_queries(2):
        page = client.get("/api/v1/keys/").json()
    assert (page["count"], len(page["results"])) == (300, 50)
    with django_assert_num_queries(2):
        assert len(client.get("/api/v1/keys/?page_size=1000").json()["results"]) == 200
    with django_assert_num_queries(2):
        client.get("/api/v1/clusters/")
    with django_assert_num_queries(2):
        client.get("/api/v1/accounts/")


def test_the_schema_contains_the_version_of_the_service(client: Client) -> None:
    schema = client.get("/api/v1/schema/", headers={"accept": "application/vnd.oai.openapi+json"}).json()
    assert schema["info"]["version"] == __version__


def test_the_schema_and_its_page_are_public_and_contain_no_stored_secret(client: Client) -> None:
    schema = client.get("/api/v1/schema/").content.decode()
    assert "secret_ciphertext" not in schema
    assert "/api/v1/keys/{public_key}/rotate-secret/" in schema
    page = client.get("/api/v1/docs/")
    assert page.status_code == 200
    assert b"cdn" not in page.content
