"""Two concurrent changes: the second waits for the first, then succeeds or fails as if it had come after it.

SQLite allows one write at a time, so these races cannot happen there. `tests/data/test_concurrency.py` has races of
requests, on both databases.
"""

import inspect
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.core import mail
from django.core.exceptions import ValidationError
from django.db import connection, transaction
from django.utils import timezone
from pytest_django import Settings

from accounts import services
from accounts.access import record_use
from accounts.demo import DEMO_PUBLIC_KEY
from accounts.locks import AccountSuspended, Gone
from accounts.models import (
    Account,
    ApiKey,
    ApiToken,
    Cluster,
    DeliveryState,
    Invitation,
    Membership,
    Role,
    Usage,
    Webhook,
    WebhookDelivery,
)
from accounts.quota_notices import send_quota_notices
from accounts.tokens import LoginOutdated, create_token
from accounts.usage_counts import Counts, UsedBy
from accounts.usage_history import record_usage
from accounts.users import User
from accounts.webhooks import pruning, queue
from accounts.webhooks.capacity import Task
from accounts.webhooks.client import Answer
from accounts.webhooks.exchange import Result, exchange
from accounts.webhooks.queue import NewDelivery

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.skipif("connection.vendor == 'sqlite'", reason="one writer at a time"),
]


def race(first: Callable[[], Any], second: Callable[[], Any], then: Callable[[], Any] = lambda: None) -> Any:
    """Call `second` in a thread while the changes of `first` are not committed; return its result or exception.

    Args:
        first: begins a transaction.
        second: waits for that transaction.
        then: goes on in that transaction when `second` waits.
    """
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
        while not this_transaction_blocks_another():
            assert time.monotonic() < deadline
            time.sleep(0.01)
        then()
    thread.join()
    return results[0]


def this_transaction_blocks_another() -> bool:
    with connection.cursor() as cursor:
        # Only those that wait for this one: other tests use the same server.
        cursor.execute(
            "SELECT count(*) FROM pg_locks WHERE NOT granted AND pg_backend_pid() = ANY(pg_blocking_pids(pid))"
        )
        return bool(cursor.fetchone()[0])


def test_a_cluster_id_is_taken_once(account: Account) -> None:
    rejected = race(lambda: services.create_cluster(account, "next"), lambda: services.create_cluster(account, "next"))
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


CHANGES: dict[str, Callable[[ApiKey], object]] = {
    "rename_account": lambda key: services.rename_account(key.cluster.account, "B"),
    "set_quotas": lambda key: services.set_quotas(key.cluster.account, max_connections=1),
    "suspend_account": lambda key: services.suspend_account(key.cluster.account),
    "invite": lambda key: services.invite(key.cluster.account, "a@example.com"),
    "set_role": lambda key: services.set_role(Membership.objects.get(role=Role.VIEWER), Role.OWNER),
    "remove_member": lambda key: services.remove_member(Membership.objects.get(role=Role.VIEWER)),
    "create_cluster": lambda key: services.create_cluster(key.cluster.account, "next"),
    "update_cluster": lambda key: services.update_cluster(key.cluster, enabled=False),
    "delete_cluster": lambda key: services.delete_cluster(key.cluster),
    "issue_key": lambda key: services.issue_key(key.cluster, "new"),
    "update_key": lambda key: services.update_key(key, label="new"),
    "revoke_key": services.revoke_key,
    "rotate_secret": services.rotate_secret,
    "delete_key": services.delete_key,
    "delete_account": lambda key: services.delete_account(key.cluster.account),
    "set_quota_notices": lambda key: services.set_quota_notices(key.cluster.account, sent=False),
    "resume_account": lambda key: services.resume_account(key.cluster.account),
    "add_member": lambda key: services.add_member(key.cluster.account, User.objects.get(memberships=None)),
    "accept_invitation": lambda key: services.accept_invitation(*an_invitation()),
    "decline_invitation": lambda key: services.decline_invitation(*an_invitation()),
    "revoke_invitation": lambda key: services.revoke_invitation(Invitation.objects.get()),
    "end_old_secret": services.end_old_secret,
    "send_message": lambda key: services.send_message(key.cluster, "1", "hello"),
    "create_webhook": lambda key: services.create_webhook(key.cluster, "https://1.1.1.1/", kinds=["client_event"]),
    "update_webhook": lambda key: services.update_webhook(Webhook.objects.get(), batches=True),
    "delete_webhook": lambda key: services.delete_webhook(Webhook.objects.get()),
    "rotate_webhook_secret": lambda key: services.rotate_webhook_secret(Webhook.objects.get()),
    "end_old_webhook_secret": lambda key: services.end_old_webhook_secret(Webhook.objects.get()),
    "send_test_event": lambda key: services.send_test_event(Webhook.objects.get()),
    "redeliver": lambda key: services.redeliver(WebhookDelivery.objects.get()),
    "redeliver_failed": lambda key: services.redeliver_failed(Webhook.objects.get()),
}
# Services that change nothing of an account that exists already.
OTHERS = {
    *("create_account", "create_own_account", "check_may_create_account", "ensure_demo", "has_other_accounts"),
    *("check_deactivation", "delete_user", "failed_deliveries", "headers_of"),
    *("version_of_settings", "version_of_webhook"),
}
# Services that may change a suspended account.
TAKE_ACCESS_AWAY = {"set_quotas", "suspend_account", "resume_account", "delete_key", "decline_invitation"}


def an_invitation() -> tuple[Invitation, User]:
    return Invitation.objects.get(), User.objects.get(memberships=None)


@pytest.fixture
def everything(key: ApiKey, webhook: Webhook, stranger: User) -> ApiKey:
    """A key in an account that has one of everything."""
    services.invite(key.cluster.account, stranger.email)
    queue.add([NewDelivery.of(webhook.pk, [{"name": "client_event"}])])
    WebhookDelivery.objects.update(state=DeliveryState.FAILED)
    return key


def test_the_table_has_every_service_that_changes_an_account() -> None:
    assert {name for name in services.__all__ if inspect.isfunction(getattr(services, name))} - OTHERS == set(CHANGES)


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_of_a_deleted_account_finds_that_it_is_gone(everything: ApiKey, name: str) -> None:
    key = everything
    result = race(lambda: services.delete_account(key.cluster.account), lambda: CHANGES[name](key))
    assert isinstance(result, Gone)
    assert not Account.objects.exists()


@pytest.mark.parametrize("name", sorted(set(CHANGES) - TAKE_ACCESS_AWAY))
def test_a_change_of_an_account_that_was_just_suspended_is_refused(everything: ApiKey, name: str) -> None:
    key = everything
    result = race(lambda: services.suspend_account(key.cluster.account), lambda: CHANGES[name](key))
    assert isinstance(result, AccountSuspended)
    assert Account.objects.get().suspended


WHILE_SENDING: dict[str, Callable[[Webhook], object]] = {
    "delete_webhook": services.delete_webhook,
    "delete_cluster": lambda webhook: services.delete_cluster(webhook.cluster),
    "delete_account": lambda webhook: services.delete_account(webhook.cluster.account),
    "prune": lambda _: pruning.prune(timezone.now() + timedelta(hours=31)),
}


@pytest.mark.parametrize("name", WHILE_SENDING)
def test_a_webhook_is_deleted_and_pruned_while_it_is_being_sent(key: ApiKey, name: str) -> None:
    """What a sender has locked, it can also write: the others wait for it before they lock anything that it needs."""
    webhook = services.create_webhook(key.cluster, "https://example.com/hook", kinds=["client_event"]).webhook
    queue.add([NewDelivery.of(webhook.pk, [{"name": "client_event"}]) for _ in range(2)])
    earlier, later = exchange([], []).tasks

    def finish(task: Task) -> None:
        exchange([Result(task, timezone.now(), Answer(200, 5))], None)

    result = race(lambda: finish(later), lambda: WHILE_SENDING[name](webhook), lambda: finish(earlier))
    assert not isinstance(result, Exception), result


@pytest.mark.parametrize("name", ["issue_key", "update_key", "update_cluster", "revoke_key", "rotate_secret"])
def test_a_change_in_a_deleted_cluster_finds_that_it_is_gone(key: ApiKey, name: str) -> None:
    doomed = Cluster.objects.get(pk=key.cluster_id)  # its deletion takes the primary key from the object
    result = race(lambda: services.delete_cluster(doomed), lambda: CHANGES[name](key))
    assert isinstance(result, Gone)


def test_a_person_creates_no_second_account_at_the_same_time(stranger: User) -> None:
    rejected = race(
        lambda: services.create_own_account(stranger, "A"), lambda: services.create_own_account(stranger, "B")
    )
    assert isinstance(rejected, services.NotAllowed)
    assert [account.name for account in Account.objects.all()] == ["A"]


def test_a_quota_holds_for_concurrent_requests(account: Account) -> None:
    services.set_quotas(account, max_clusters=1)
    rejected = race(lambda: services.create_cluster(account, "a"), lambda: services.create_cluster(account, "b"))
    assert isinstance(rejected, services.QuotaReached)


def test_an_invitation_is_accepted_once(account: Account, stranger: User) -> None:
    invitation = services.invite(account, stranger.email)
    second = Invitation.objects.get()
    result = race(
        lambda: services.accept_invitation(invitation, stranger), lambda: services.accept_invitation(second, stranger)
    )
    assert isinstance(result, Gone)
    assert account.memberships.filter(user=stranger).count() == 1


def test_a_user_who_is_being_deleted_is_not_added(account: Account, stranger: User) -> None:
    user = User.objects.get(pk=stranger.pk)
    assert isinstance(race(lambda: services.delete_user(user), lambda: services.add_member(account, stranger)), Gone)


def test_two_owners_cannot_be_deleted_or_deactivated_at_the_same_time(
    account: Account, owner: User, teammate: User
) -> None:
    services.set_role(account.memberships.get(user=teammate), Role.OWNER)

    def deactivate() -> None:
        with transaction.atomic():
            owner.is_active = False
            owner.save()

    assert isinstance(race(lambda: services.delete_user(teammate), deactivate), ValidationError)
    assert User.objects.get(pk=owner.pk).is_active


def test_recording_the_use_of_a_key_does_not_wait_for_its_deletion(key: ApiKey) -> None:
    other = services.issue_key(services.create_cluster(services.create_account("Other"), "other"), "x").key
    with transaction.atomic():
        services.delete_account(key.cluster.account)
        thread = threading.Thread(target=lambda: (record_use([key.public_key, other.public_key]), connection.close()))
        thread.start()
        thread.join(10)
        assert not thread.is_alive()
    other.refresh_from_db()
    assert other.last_used_at is not None


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
    assert not ApiToken.objects.exists()


def test_a_change_of_the_password_ends_the_token_of_a_concurrent_login(owner: User) -> None:
    changed = User.objects.get(pk=owner.pk)
    assert race(lambda: create_token(owner), lambda: change_password(changed)) is None
    assert not ApiToken.objects.exists()


def test_concurrent_logins_keep_the_limit_of_tokens(owner: User, settings: Settings) -> None:
    settings.API_TOKENS_PER_USER = 1
    newer, _ = race(lambda: create_token(owner), lambda: create_token(owner))
    assert ApiToken.objects.get() == newer


def test_a_batch_of_usage_that_is_sent_twice_at_the_same_time_is_added_once() -> None:
    account = services.create_account("Acme")
    used = {(timezone.now().replace(minute=0, second=0, microsecond=0), UsedBy(account.pk)): Counts(deliveries=1)}
    assert race(lambda: record_usage("node", 1, used), lambda: record_usage("node", 1, used)) is None
    assert set(Usage.objects.values_list("deliveries", flat=True)) == {1}


def test_two_nodes_that_write_usage_of_the_same_accounts_wait_for_each_other() -> None:
    accounts = [services.create_account(name) for name in ("Acme", "Other")]
    hour = timezone.now().replace(minute=0, second=0, microsecond=0)
    used = {(hour, UsedBy(account.pk)): Counts(deliveries=1, peak_connections=2) for account in accounts}
    backwards = dict(reversed(used.items()))
    assert race(lambda: record_usage("one", 1, used), lambda: record_usage("two", 1, backwards)) is None
    assert set(Usage.objects.values_list("deliveries", "peak_connections")) == {(2, 2)}


def test_a_quota_notice_that_two_nodes_send_at_the_same_time_is_sent_once() -> None:
    owner = User.objects.create_user("owner@example.com")
    account = services.create_account("Acme", owner)
    services.set_quotas(account, max_connections=10)
    assert race(lambda: send_quota_notices({account.pk: 9}), lambda: send_quota_notices({account.pk: 9})) is None
    assert len(mail.outbox) == 1
