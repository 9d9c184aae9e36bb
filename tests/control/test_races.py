"""Two at once: the later one waits for the first, and is then told what it would have been told a moment later.

SQLite lets one write at a time, so that it knows no such race.
"""

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from django.core.exceptions import ValidationError
from django.db import connection, transaction

from accounts import services
from accounts.demo import DEMO_PUBLIC_KEY
from accounts.models import Account, ApiKey, Cluster, Membership, Role
from accounts.users import User

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.skipif("connection.vendor == 'sqlite'", reason="one writer at a time"),
]


def at_once(first: Callable[[], Any], second: Callable[[], Any]) -> Any:
    """Call `second` elsewhere while what `first` wrote is not committed, and give its result or exception."""
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
        while not somebody_waits():
            assert time.monotonic() < deadline
            time.sleep(0.01)
    thread.join()
    return results[0]


def somebody_waits() -> bool:
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_locks WHERE NOT granted")
        return bool(cursor.fetchone()[0])


def test_a_cluster_id_goes_to_one(account: Account) -> None:
    refused = at_once(lambda: services.create_cluster(account, "new"), lambda: services.create_cluster(account, "new"))
    assert isinstance(refused, ValidationError)
    assert list(refused.message_dict) == ["cluster_id"]
    assert Cluster.objects.count() == 1


def test_a_person_is_added_once(account: Account, stranger: User) -> None:
    refused = at_once(lambda: services.add_member(account, stranger), lambda: services.add_member(account, stranger))
    assert isinstance(refused, ValidationError)
    assert account.memberships.filter(user=stranger).count() == 1


def test_the_demo_is_made_once() -> None:
    made: list[services.IssuedKey] = []
    found = at_once(
        lambda: made.append(services.ensure_demo(DEMO_PUBLIC_KEY)), lambda: services.ensure_demo(DEMO_PUBLIC_KEY)
    )
    assert [found] == made
    assert (Account.objects.count(), Cluster.objects.count(), ApiKey.objects.count()) == (1, 1, 1)


def test_two_owners_cannot_remove_each_other(account: Account, owner: User, teammate: User) -> None:
    one, other = (Membership.objects.get(user=user) for user in (owner, teammate))
    services.set_role(other, Role.OWNER)
    refused = at_once(lambda: services.remove_member(one), lambda: services.remove_member(other))
    assert isinstance(refused, ValidationError)
    assert [membership.user for membership in account.memberships.all()] == [teammate]
