"""The services validate, save and announce changes."""

import time
from dataclasses import replace
from datetime import timedelta

import pytest
from django.contrib.sessions.models import Session
from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models.signals import post_delete
from django.utils import timezone
from pytest_django import Settings

from accounts import services
from accounts.access import find_access
from accounts.crypto import DecryptionFailed
from accounts.demo import DEMO_ACCOUNT_NAME, DEMO_CLUSTER_ID, DEMO_PUBLIC_KEY
from accounts.models import Account, ApiKey, Cluster, Membership, Role
from accounts.users import User
from tests.control.conftest import secret_of

pytestmark = pytest.mark.django_db(transaction=True)
Announcements = list[dict[str, object]]


def test_every_change_of_access_is_announced_once(key: ApiKey, announcements: Announcements) -> None:
    account, cluster = key.cluster.account, key.cluster
    announcements.clear()
    services.update_key(key, allows_client_messages=False)
    services.rotate_secret(key)
    services.revoke_key(key)
    services.revoke_key(key)
    services.update_cluster(cluster, enabled=False)
    services.suspend_account(account)
    services.suspend_account(account)
    services.resume_account(account)
    services.resume_account(account)
    of_key, of_cluster, of_account = (
        {"public_key": key.public_key},
        {"cluster_pk": cluster.pk},
        {"account_id": account.pk},
    )
    assert announcements == [of_key, of_key, of_key, of_cluster, of_account, of_account]


def test_a_new_key_is_announced_because_clients_may_have_tried_it_before(
    cluster: Cluster, announcements: Announcements
) -> None:
    issued = services.issue_key(cluster, "new")
    assert announcements == [{"public_key": issued.key.public_key}]


def test_deletion_through_a_queryset_is_announced_once_for_all_that_the_account_owned(
    key: ApiKey, announcements: Announcements
) -> None:
    account_id = key.cluster.account_id
    announcements.clear()
    Account.objects.filter(pk=account_id).delete()
    assert announcements == [{"account_id": account_id}]


def test_deletion_through_a_service_is_announced(key: ApiKey, announcements: Announcements) -> None:
    account, cluster_pk = key.cluster.account, key.cluster_id
    account_id = account.pk
    second = services.issue_key(key.cluster, "second").key
    announcements.clear()
    services.delete_key(second)
    assert announcements == [{"public_key": second.public_key}]
    announcements.clear()
    services.delete_cluster(key.cluster)
    assert announcements == [{"cluster_pk": cluster_pk}]
    announcements.clear()
    services.delete_account(account)
    assert announcements == [{"account_id": account_id}]


def test_deletion_of_other_models_is_not_slowed_down(owner: User) -> None:
    assert not post_delete.has_listeners(Session)


def test_an_update_without_changes_is_not_announced(key: ApiKey, announcements: Announcements) -> None:
    announcements.clear()
    services.update_key(key)
    assert announcements == []


def test_a_change_that_is_rolled_back_is_not_announced(key: ApiKey, announcements: Announcements) -> None:
    announcements.clear()
    with transaction.atomic():
        services.revoke_key(key)
        transaction.set_rollback(True)
    assert announcements == []
    assert not ApiKey.objects.get(pk=key.pk).revoked


def test_an_error_in_a_receiver_is_logged_and_does_not_undo_the_change(
    key: ApiKey, caplog: pytest.LogCaptureFixture
) -> None:
    from accounts.signals import access_changed

    def fail(**_: object) -> None:
        raise RuntimeError

    access_changed.connect(fail)
    try:
        services.revoke_key(key)
    finally:
        access_changed.disconnect(fail)
    assert [record.name for record in caplog.records if record.exc_info] == ["django.dispatch"]
    assert ApiKey.objects.get(pk=key.pk).revoked


def test_a_secret_is_returned_once_and_stored_encrypted(cluster: Cluster) -> None:
    key, secret = issued = services.issue_key(cluster, "x")
    assert len(secret) == 60
    assert secret not in repr(issued)
    assert secret not in str(vars(ApiKey.objects.get(pk=key.pk)))
    assert secret_of(key) == secret


def test_a_rotated_secret_replaces_the_old_one(cluster: Cluster) -> None:
    key, old = services.issue_key(cluster, "x")
    new = services.rotate_secret(key)
    assert new != old
    assert secret_of(key) == new


def test_during_an_overlap_the_old_secret_is_valid_too_and_a_second_rotation_ends_it(cluster: Cluster) -> None:
    key, first = services.issue_key(cluster, "x")
    second = services.rotate_secret(key, timedelta(minutes=1))
    assert valid_secrets(key) == (second, first)
    third = services.rotate_secret(key, timedelta(minutes=1))
    assert valid_secrets(key) == (third, second)
    fourth = services.rotate_secret(key)
    assert valid_secrets(key) == (fourth,)


def test_after_the_overlap_the_old_secret_is_not_valid(cluster: Cluster) -> None:
    key, _ = services.issue_key(cluster, "x")
    new = services.rotate_secret(key, timedelta(minutes=1))
    cached = find_access(key.public_key)
    assert cached is not None
    assert replace(cached, old_secret_ends_at=time.time() - 1).valid_secrets() == (new,)
    ApiKey.objects.update(old_secret_ends_at=timezone.now())
    assert valid_secrets(key) == (new,)


@pytest.mark.parametrize("overlap", [timedelta(seconds=-1), services.MAX_OVERLAP + timedelta(seconds=1)])
def test_an_overlap_has_a_limit(key: ApiKey, overlap: timedelta) -> None:
    before = valid_secrets(key)
    with pytest.raises(ValidationError, match="at most 7 days"):
        services.rotate_secret(key, overlap)
    assert valid_secrets(key) == before


def valid_secrets(key: ApiKey) -> tuple[str, ...]:
    access = find_access(key.public_key)
    assert access is not None
    return access.valid_secrets()


def test_a_revoked_key_gets_no_new_secret_and_keeps_its_revocation_time(key: ApiKey) -> None:
    services.revoke_key(key)
    first = key.revoked_at
    services.revoke_key(key)
    assert key.revoked_at == first is not None
    with pytest.raises(services.KeyRevoked):
        services.rotate_secret(key)


def test_an_account_keeps_at_least_one_owner(account: Account, owner: User, teammate: User) -> None:
    ownership = Membership.objects.get(user=owner)
    with pytest.raises(ValidationError, match="Make someone else an owner first"):
        services.remove_member(ownership)
    with pytest.raises(ValidationError, match="Make someone else an owner first"):
        services.set_role(ownership, Role.VIEWER)
    services.set_role(Membership.objects.get(user=teammate), Role.OWNER)
    services.remove_member(ownership)
    assert [membership.user for membership in account.memberships.all()] == [teammate]


@pytest.mark.parametrize("name", ["", "x" * 101])
def test_an_account_needs_a_valid_name(account: Account, name: str) -> None:
    with pytest.raises(ValidationError):
        services.create_account(name)
    with pytest.raises(ValidationError):
        services.rename_account(account, name)
    assert [a.name for a in Account.objects.all()] == ["Acme"]


def test_invalid_values_change_nothing(cluster: Cluster, key: ApiKey) -> None:
    with pytest.raises(ValidationError):
        services.create_cluster(cluster.account, "Not A Label")
    with pytest.raises(ValidationError):
        services.issue_key(cluster, "")
    with pytest.raises(ValidationError):
        services.update_key(key, allowed_origins=["https://example.com"])
    with pytest.raises(TypeError, match="revoked_at"):
        services.update_key(key, revoked_at=None)
    assert (Cluster.objects.count(), ApiKey.objects.count()) == (1, 1)
    assert ApiKey.objects.get().allowed_origins == []


def test_the_demo_tenant_is_created_once() -> None:
    first, second = (services.ensure_demo(DEMO_PUBLIC_KEY) for _ in range(2))
    assert first == second
    assert (Account.objects.count(), Cluster.objects.count(), ApiKey.objects.count()) == (1, 1, 1)
    assert not services.has_other_accounts()


def test_an_account_with_the_demos_name_is_not_the_demo(stranger: User) -> None:
    account = services.create_own_account(stranger, DEMO_ACCOUNT_NAME)
    issued = services.ensure_demo(DEMO_PUBLIC_KEY)
    assert issued.key.cluster.account != account
    assert not account.clusters.exists()
    assert services.has_other_accounts()


def test_a_deleted_demo_key_is_created_again_in_the_demo_account() -> None:
    first = services.ensure_demo(DEMO_PUBLIC_KEY).key
    services.rename_account(first.cluster.account, "Playground")
    services.delete_key(ApiKey.objects.get())
    assert services.ensure_demo(DEMO_PUBLIC_KEY).key.cluster == first.cluster


def test_a_revoked_demo_key_is_reported() -> None:
    services.revoke_key(services.ensure_demo(DEMO_PUBLIC_KEY).key)
    with pytest.raises(services.KeyRevoked, match="delete it"):
        services.ensure_demo(DEMO_PUBLIC_KEY)


def test_a_demo_secret_that_cannot_be_decrypted_is_reported(settings: Settings) -> None:
    services.ensure_demo(DEMO_PUBLIC_KEY)
    settings.ENCRYPTION_KEYS = ["x" * 60]
    with pytest.raises(DecryptionFailed):
        services.ensure_demo(DEMO_PUBLIC_KEY)


@pytest.mark.parametrize("name", ["Acme", DEMO_ACCOUNT_NAME])
def test_the_demo_key_is_not_added_to_a_tenants_cluster_with_the_demos_id(account: Account, name: str) -> None:
    services.rename_account(account, name)
    services.create_cluster(account, DEMO_CLUSTER_ID)
    assert services.has_other_accounts()
    with pytest.raises(services.DemoTaken):
        services.ensure_demo(DEMO_PUBLIC_KEY)
    assert not ApiKey.objects.exists()
    assert Account.objects.count() == 1


def test_other_accounts_are_detected(account: Account) -> None:
    assert services.has_other_accounts()
    services.ensure_demo(DEMO_PUBLIC_KEY)
    assert services.has_other_accounts()
