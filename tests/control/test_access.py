"""The queries of the data plane for API keys."""

from datetime import timedelta

import pytest
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries

from accounts import services
from accounts.access import find_access, find_access_of_keys, record_use
from accounts.key_access import KeyAccess, Quotas
from accounts.models import ApiKey, Cluster

pytestmark = pytest.mark.django_db


def test_a_key_is_found_with_one_query(key: ApiKey, django_assert_num_queries: DjangoAssertNumQueries) -> None:
    services.update_key(key, protects_channels=True, allowed_origins=["A.com"])
    secret = services.rotate_secret(key)
    with django_assert_num_queries(1):
        access = find_access(key.public_key)
    assert access == KeyAccess(
        public_key=key.public_key,
        account_id=key.cluster.account_id,
        cluster_pk=key.cluster_id,
        cluster_id="acme",
        revoked=False,
        cluster_enabled=True,
        account_suspended=False,
        protects_channels=True,
        allows_client_messages=True,
        closes_expired_connections=False,
        allowed_origins=("a.com",),
        quotas=Quotas(
            account_connections=100_000,
            key_connections=100_000,
            message_bytes=None,
            messages_per_second=100_000,
            messages_per_day=1_000_000_000,
        ),
        secret=secret,
    )


def test_revoked_keys_disabled_clusters_and_suspended_accounts_are_marked(key: ApiKey) -> None:
    services.revoke_key(key)
    services.update_cluster(key.cluster, enabled=False)
    services.suspend_account(key.cluster.account)
    access = find_access(key.public_key)
    assert access is not None
    assert (access.revoked, access.cluster_enabled, access.account_suspended) == (True, False, True)


@pytest.mark.parametrize("public_key", ["", "k", "k" * 61, "k" * 59 + "\0", "k" * 59 + "é", "k" * 60 + "\n"])
def test_a_malformed_key_costs_no_query(public_key: str, django_assert_num_queries: DjangoAssertNumQueries) -> None:
    with django_assert_num_queries(0):
        assert find_access(public_key) is None


def test_an_unknown_key_is_not_found() -> None:
    assert find_access("k" * 60) is None


def test_many_keys_are_found_with_few_queries(
    cluster: Cluster, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    keys = ApiKey.objects.bulk_create([ApiKey(cluster=cluster, label="x", secret_ciphertext="x") for _ in range(1001)])
    with django_assert_num_queries(3):
        found = find_access_of_keys([*(key.public_key for key in keys), "unknown"])
    assert set(found) == {key.public_key for key in keys}


def test_the_last_use_is_saved_at_most_once_a_minute(key: ApiKey) -> None:
    record_use([key.public_key])
    first = ApiKey.objects.get(pk=key.pk).last_used_at
    assert first is not None
    record_use([key.public_key])
    assert ApiKey.objects.get(pk=key.pk).last_used_at == first
    long_ago = timezone.now() - timedelta(minutes=2)
    ApiKey.objects.update(last_used_at=long_ago)
    record_use([key.public_key])
    last = ApiKey.objects.get(pk=key.pk).last_used_at
    assert last is not None
    assert last > long_ago
