"""What the database itself holds to."""

import re

import pytest
from django.core.exceptions import ValidationError
from django.core.management import call_command
from django.db import DataError, IntegrityError, transaction

from accounts import services
from accounts.models import Account, ApiKey, Cluster, Membership, Role, new_key, validate_allowed_origins

pytestmark = pytest.mark.django_db


def refused(model: type[Account | Cluster | ApiKey | Membership], **values: object) -> bool:
    try:
        with transaction.atomic():
            model(**values).save()
    except (IntegrityError, DataError):
        return True
    return False


@pytest.mark.parametrize("name", ["a", "a1", "1a", "a-b", "a" * 63])
def test_a_cluster_id_is_a_dns_label(account: Account, name: str) -> None:
    assert not refused(Cluster, account=account, cluster_id=name)


@pytest.mark.parametrize("name", ["", "-a", "a-", "A", "a.b", "a_b", "é", "a\n", "a" * 64])
def test_the_database_refuses_any_other(account: Account, name: str) -> None:
    assert refused(Cluster, account=account, cluster_id=name)


def test_a_cluster_id_is_taken_once(account: Account, cluster: Cluster) -> None:
    assert refused(Cluster, account=account, cluster_id=cluster.cluster_id)


@pytest.mark.parametrize("public_key", ["k" * 59, "k" * 61, "k" * 59 + "$", "k" * 60 + "\n"])
def test_a_public_key_is_60_url_safe_characters(cluster: Cluster, public_key: str) -> None:
    assert refused(ApiKey, cluster=cluster, label="x", public_key=public_key, secret_ciphertext="x")


def test_a_key_has_a_secret_and_its_public_part_is_unique(cluster: Cluster, key: ApiKey) -> None:
    assert refused(ApiKey, cluster=cluster, label="x")
    assert refused(ApiKey, cluster=cluster, label="x", public_key=key.public_key, secret_ciphertext="x")


def test_a_person_belongs_to_an_account_once_and_with_a_known_role(account: Account, owner: object) -> None:
    assert refused(Membership, account=account, user=owner, role=Role.MEMBER)
    assert refused(Membership, account=Account.objects.create(name="B"), user=owner, role="king")


def test_an_account_has_a_name() -> None:
    assert refused(Account, name="")


def test_keys_are_random_letters_and_digits() -> None:
    made = {new_key() for _ in range(100)}
    assert len(made) == 100
    assert all(re.fullmatch("[A-Za-z0-9]{60}", key) for key in made)


@pytest.mark.parametrize(
    "origins",
    [[], ["example.com"], ["*.example.com", "localhost:3000", "127.0.0.1", "xn--a.b-c:65535"], ["a"] * 100],
)
def test_allowed_origins(origins: list[str]) -> None:
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
def test_no_allowed_origins(origins: object) -> None:
    with pytest.raises(ValidationError):
        validate_allowed_origins(origins)


def test_nothing_that_is_printed_shows_a_secret(key: ApiKey) -> None:
    assert key.secret_ciphertext not in f"{key} {key!r}"


@pytest.mark.django_db(transaction=True)
def test_migrations_go_back_and_forth() -> None:
    call_command("migrate", "accounts", "zero", verbosity=0)
    call_command("migrate", verbosity=0)  # the other apps too, whose tables refer to users
    services.create_account("Acme")
