"""Two concurrent changes: the second waits for the first, then succeeds or fails as if it had come after it.

SQLite allows one write at a time, so these races cannot happen there.
"""

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from django.core.exceptions import ValidationError
from django.db import connection, transaction
from knox.models import AuthToken
from pytest_django import Settings

from accounts import services
from accounts.demo import DEMO_PUBLIC_KEY
from accounts.models import Account, ApiKey, Cluster, Membership, Role
from accounts.tokens import LoginOutdated, create_token
from accounts.users import User

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.skipif("connection.vendor == 'sqlite'", reason="one writer at a time"),
]


def race(first: Callable[[], Any], second: Callable[[], Any]) -> Any:
    """Call `second` in a thread while the changes of `first` are not committed; return its result or exception."""
    results: list[Any] = []

    def run() -> None:
        try:
            results.append(second())
        except Exception as error:
            results.append(error)
        finally:
            connection.close()

    thread = threading.Thread(target=run)
    with transaction.atomic():
        first()
        thread.start()
        deadline = time.monotonic() + 10
        while not a_transaction_is_blocked():
            assert time.monotonic() < deadline
            time.sleep(0.01)
    thread.join()
    return results[0]


def a_transaction_is_blocked() -> bool:
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_locks WHERE NOT granted")
        return bool(cursor.fetchone()[0])


def test_a_cluster_id_is_taken_once(account: Account) -> None:
    rejected = race(lambda: services.create_cluster(account, "new"), lambda: services.create_cluster(account, "new"))
    assert isinstance(rejected, ValidationError)
    assert list(rejected.message_dict) == ["cluster_id"]
    assert Cluster.objects.count() == 1


def test_a_user_is_added_once(account: Account, stranger: User) -> None:
    rejected = race(lambda: services.add_member(account, stranger), lambda: services.add_member(account, stranger))
    assert isinstance(rejected, ValidationError)
    assert account.memberships.filter(user=stranger).count() == 1


def test_the_demo_is_created_once() -> None:
    made: list[services.IssuedKey] = []
    found = race(
        lambda: made.append(services.ensure_demo(DEMO_PUBLIC_KEY)), lambda: services.ensure_demo(DEMO_PUBLIC_KEY)
    )
    assert [found] == made
    assert (Account.objects.count(), Cluster.objects.count(), ApiKey.objects.count()) == (1, 1, 1)


def test_two_owners_cannot_remove_each_other(account: Account, owner: User, teammate: User) -> None:
    first, second = (Membership.objects.get(user=user) for user in (owner, teammate))
    services.set_role(second, Role.OWNER)
    rejected = race(lambda: services.remove_member(first), lambda: services.remove_member(second))
    assert isinstance(rejected, ValidationError)
    assert [membership.user for membership in account.memberships.all()] == [teammate]


def change_password(user: User) -> None:
    user.set_password("another-password")
    user.save()


def test_a_login_during_a_change_of_the_password_gets_no_token(owner: User) -> None:
    changed = User.objects.get(pk=owner.pk)
    assert isinstance(race(lambda: change_password(changed), lambda: create_token(owner)), LoginOutdated)
    assert not AuthToken.objects.exists()


def test_a_change_of_the_password_ends_the_token_of_a_concurrent_login(owner: User) -> None:
    changed = User.objects.get(pk=owner.pk)
    assert race(lambda: create_token(owner), lambda: change_password(changed)) is None
    assert not AuthToken.objects.exists()


def test_concurrent_logins_keep_the_limit_of_tokens(owner: User, settings: Settings) -> None:
    settings.API_TOKENS_PER_USER = 1
    newer, _ = race(lambda: create_token(owner), lambda: create_token(owner))
    assert AuthToken.objects.get() == newer
