"""Constraints of the database, and validators of the models."""

import re

import pytest
from django.core.exceptions import ValidationError
from django.core.management import call_command
from django.db import DataError, IntegrityError, transaction

from accounts import services
from accounts.key_access import new_key
from accounts.models import Account, ApiKey, Cluster, Membership, Role
from accounts.origins import validate_allowed_origins

pytestmark = pytest.mark.django_db


def is_rejected(model: type[Account | Cluster | ApiKey | Membership], **values: object) -> bool:
    try:
        with transaction.atomic():
            model(**values).save()
    except (IntegrityError, DataError):
        return True
    return False


@pytest.mark.parametrize("name", ["a", "a1", "1a", "a-b", "a" * 63])
def test_a_cluster_id_is_a_dns_label(account: Account, name: str) -> None:
    assert not is_rejected(Cluster, account=account, cluster_id=name)


@pytest.mark.parametrize("name", ["", "-a", "a-", "A", "a.b", "a_b", "é", "a\n", "a" * 64])
def test_any_other_cluster_id_is_rejected(account: Account, name: str) -> None:
    assert is_rejected(Cluster, account=account, cluster_id=name)


def test_a_cluster_id_is_unique(account: Account, cluster: Cluster) -> None:
    assert is_rejected(Cluster, account=account, cluster_id=cluster.cluster_id)


@pytest.mark.parametrize("public_key", ["k" * 59, "k" * 61, "k" * 59 + "$", "k" * 60 + "\n"])
def test_a_public_key_is_60_url_safe_characters(cluster: Cluster, public_key: str) -> None:
    assert is_rejected(ApiKey, cluster=cluster, label="x", public_key=public_key, secret_ciphertext="x")


def test_a_key_has_a_secret_and_its_public_part_is_unique(cluster: Cluster, key: ApiKey) -> None:
    assert is_rejected(ApiKey, cluster=cluster, label="x")
    assert is_rejected(ApiKey, cluster=cluster, label="x", public_key=key.public_key, secret_ciphertext="x")


def test_a_user_has_one_membership_per_account_with_a_known_role(account: Account, owner: object) -> None:
    assert is_rejected(Membership, account=account, user=owner, role=Role.VIEWER)
    assert is_rejected(Membership, account=Account.objects.create(name="B"), user=owner, role="king")


def test_an_account_needs_a_name() -> None:
    assert is_rejected(Account, name="")


def test_keys_are_random_letters_and_digits() -> None:
    made = {new_key() for _ in range(100)}
    assert len(made) == 100
    assert all(re.fullmatch("[A-Za-z0-9]{60}", key) for key in made)


@pytest.mark.parametrize(
    "origins",
    [[], ["example.com"], ["*.example.com", "localhost:3000", "127.0.0.1", "xn--a.b-c:65535"], ["a"] * 100],
)
def test_valid_origins_are_allowed(origins: list[str]) -> None:
    validate_allowed_origins(origins)


@pytest.mark.parametrize(
    "origins",
    [
        *(
            "example.com",
            None,
            {},
            [1],
            [""],
            ["https://example.com"],
            ["*"],
            ["a.*.b"],
            ["a/b"],
            ["A.com"],
            ["a"] * 101,
        ),
        *(["-a.com"], ["a-.com"], ["a..com"], ["a.com:0"], ["a.com:65536"], ["a.com:"], ["a." * 126 + "com"]),
    ],
)
def test_invalid_origins_are_rejected(origins: object) -> None:
    with pytest.raises(ValidationError):
        validate_allowed_origins(origins)


def test_the_text_of_a_key_does_not_contain_its_secret(key: ApiKey) -> None:
    assert key.secret_ciphertext not in f"{key} {key!r}"


@pytest.mark.django_db(transaction=True)
def test_migrations_can_be_reversed_and_applied_again() -> None:
    call_command("migrate", "accounts", "zero", verbosity=0)
    call_command("migrate", verbosity=0)  # also the other apps, whose tables reference users
    services.create_account("Acme")
