"""Webhooks in the management API: settings, secrets, the log, and deliveries that are sent again."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Permission
from pytest_django import DjangoAssertNumQueries, Settings
from rest_framework.test import APIClient

from accounts import crypto, services
from accounts.models import ApiKey, Cluster, DeliveryState, Role, Webhook, WebhookDelivery
from accounts.users import User
from accounts.webhooks import queue
from accounts.webhooks.client import Answer
from accounts.webhooks.exchange import Result, exchange
from accounts.webhooks.queue import NewDelivery
from tests.control.conftest import As

pytestmark = pytest.mark.django_db
URL = "https://example.com/hook"
NEW: dict[str, Any] = {"cluster": "acme", "url": URL, "kinds": ["client_event"]}
EVENTS = [{"name": "client_event", "channel": "chat", "data": "hello"}]


@pytest.fixture
def webhook(cluster: Cluster) -> Webhook:
    return services.create_webhook(cluster, URL, kinds=["client_event"]).webhook


@pytest.fixture
def path(webhook: Webhook) -> str:
    return f"/api/v1/webhooks/{webhook.pk}/"


@pytest.fixture
def client(as_: As, owner: User) -> APIClient:
    return as_(owner)


def deliver(webhook: Webhook, answer: Answer) -> WebhookDelivery:
    """Let a sender send one delivery, and get this answer."""
    queue.add([NewDelivery.of(webhook.pk, EVENTS)])
    (task,) = exchange([], []).tasks
    exchange([Result(task, datetime(2026, 11, 1, 12, tzinfo=UTC), answer)], None)
    return WebhookDelivery.objects.get(message_id=task.message_id)


def test_only_the_answer_that_creates_a_webhook_contains_its_secret(client: APIClient, cluster: Cluster) -> None:
    answer = client.post("/api/v1/webhooks/", {**NEW, "headers": {"X-Two": "2", "Authorization": "Bearer one"}})
    created = answer.json()
    webhook = Webhook.objects.get()
    assert (answer.status_code, answer.headers["Cache-Control"]) == (201, "no-store")
    assert created.pop("secret") == crypto.decrypt(webhook.secret_ciphertext)
    assert created == {
        "id": webhook.pk,
        "cluster": "acme",
        "url": URL,
        "kinds": ["client_event"],
        "channel_prefix": "",
        "batches": False,
        "signing_key": "",
        "header_names": ["Authorization", "X-Two"],
        "enabled": True,
        "disabled_because": "",
        "failures": 0,
        "failing_since": None,
        "last_error": "",
        "dropped": 0,
        "dropped_at": None,
        "created_at": created["created_at"],
        "old_secret_ends_at": None,
    }
    path = f"/api/v1/webhooks/{webhook.pk}/"
    assert client.get(path).json() == created
    assert client.get("/api/v1/webhooks/").json()["results"] == [created]
    for prefix in ("chat", "#a/b_c-1=@,.;"):
        assert client.patch(path, {"channel_prefix": prefix}).json() == {**created, "channel_prefix": prefix}


def test_new_headers_replace_all_and_others_stay(client: APIClient, webhook: Webhook, path: str) -> None:
    assert client.patch(path, {"headers": {"X-One": "1", "X-Two": "2"}}).json()["header_names"] == ["X-One", "X-Two"]
    client.patch(path, {"batches": True})
    client.patch(path, "batches=true", content_type="application/x-www-form-urlencoded")
    webhook.refresh_from_db()
    assert (webhook.batches, services.headers_of(webhook)) == (True, {"X-One": "1", "X-Two": "2"})
    assert client.patch(path, {"headers": {}}).json()["header_names"] == []


def test_headers_that_cannot_be_decrypted_do_not_hide_the_webhook(
    client: APIClient, path: str, settings: Settings
) -> None:
    settings.ENCRYPTION_KEYS = ["another-key" * 4]
    assert client.get(path).json()["header_names"] is None


@pytest.mark.parametrize(
    "values",
    [
        {"cluster": "none"},
        {"url": "https://10.0.0.1/"},
        {"url": "http://example.com/"},
        {"url": None},
        {"url": {}},
        {"url": "https://example.com/\0"},
        {"kinds": []},
        {"kinds": "client_event"},
        {"kinds": ["channel_renamed"]},
        {"kinds": [{}]},
        {"kinds": ["client_event", "client_event"]},
        {"channel_prefix": "a b"},
        {"channel_prefix": "a" * 258},
        {"batches": "perhaps"},
        {"signing_key": "unknown"},
        {"signing_key": "a\0"},
        {"headers": ["X-One"]},
        {"headers": {"Host": "example.com"}},
        {"headers": {"X-One": "a\r\nX-Two: b"}},
        {"headers": {"X-One": {}}},
        {"headers": None},
    ],
)
def test_invalid_values_are_rejected(client: APIClient, webhook: Webhook, path: str, values: dict[str, Any]) -> None:
    before = Webhook.objects.values().get()
    answer = client.post("/api/v1/webhooks/", {**NEW, **values})
    assert (answer.status_code, set(answer.json())) == (400, set(values))
    assert "cluster" in values or client.patch(path, values).status_code == 400
    assert Webhook.objects.values().get() == before


def test_read_only_fields_are_ignored(client: APIClient, webhook: Webhook, path: str) -> None:
    before = Webhook.objects.values().get()
    sent = {"id": 1, "cluster": "b", "secret": "x", "secret_ciphertext": "x", "failures": 3, "dropped": 1}
    assert client.patch(path, sent).status_code == 200
    assert Webhook.objects.values().get() == before


def test_the_quota_of_webhooks_is_kept(client: APIClient, webhook: Webhook) -> None:
    services.set_quotas(webhook.cluster.account, max_webhooks=1)
    assert client.post("/api/v1/webhooks/", NEW).status_code == 409
    assert client.get(f"/api/v1/accounts/{webhook.cluster.account_id}/").json()["max_webhooks"] == 1


def test_the_signing_key_is_one_of_the_cluster(client: APIClient, key: ApiKey, foreign_key: ApiKey) -> None:
    created = client.post("/api/v1/webhooks/", {**NEW, "signing_key": key.public_key})
    assert (created.status_code, created.json()["signing_key"]) == (201, key.public_key)
    assert client.post("/api/v1/webhooks/", {**NEW, "signing_key": foreign_key.public_key}).status_code == 400


def test_a_rotation_can_leave_the_old_secret_valid_for_some_time(
    client: APIClient, webhook: Webhook, path: str
) -> None:
    old = crypto.decrypt(webhook.secret_ciphertext)
    answer = client.post(f"{path}rotate-secret/", {"overlap_seconds": 3600})
    webhook.refresh_from_db()
    assert (answer.status_code, answer.headers["Cache-Control"]) == (200, "no-store")
    assert answer.json()["secret"] == crypto.decrypt(webhook.secret_ciphertext) != old
    assert answer.json()["old_secret_ends_at"] is not None
    assert crypto.decrypt(webhook.old_secret_ciphertext) == old
    ended = client.post(f"{path}end-old-secret/")
    assert (ended.status_code, ended.json()["old_secret_ends_at"], "secret" in ended.json()) == (200, None, False)
    assert client.post(f"{path}rotate-secret/", {"overlap_seconds": 7 * 86400 + 1}).status_code == 400


def test_a_test_event_is_signed_and_sent_as_any_other(client: APIClient, webhook: Webhook, path: str) -> None:
    answer = client.post(f"{path}test/")
    (task,) = exchange([], []).tasks
    assert (answer.status_code, answer.json()["id"], answer.json()["state"]) == (202, task.message_id, "waiting")
    assert client.get(f"{path}deliveries/{task.message_id}/").json()["body"][0]["name"] == "test"


def test_a_webhook_that_is_off_sends_nothing(client: APIClient, webhook: Webhook, path: str) -> None:
    delivery = deliver(webhook, Answer(200, 5))
    assert client.patch(path, {"enabled": False}).json()["enabled"] is False
    for action in ("test/", "redeliver/", f"deliveries/{delivery.message_id}/redeliver/"):
        answer = client.post(f"{path}{action}")
        assert (answer.status_code, "Switch it on" in answer.json()["detail"]) == (409, True)
    assert client.patch(path, {"enabled": True}).json()["enabled"] is True
    assert client.post(f"{path}test/").status_code == 202


def test_the_log_has_each_delivery_with_its_attempts(client: APIClient, webhook: Webhook, path: str) -> None:
    delivery = deliver(webhook, Answer(503, 84, "try later", retry_after=3600))
    listed = client.get(f"{path}deliveries/").json()
    outcome = {"at": "2026-11-01T12:00:00.000+00:00", "status": 503, "milliseconds": 84, "error": ""}
    row = {
        "id": delivery.message_id,
        "state": "waiting",
        "events": 1,
        "bytes": delivery.size,
        "created_at": listed["results"][0]["created_at"],
        "next_attempt_at": "2026-11-01T13:00:00Z",
        "last_attempt": outcome,
    }
    assert listed == {"count": 1, "next": None, "previous": None, "results": [row]}
    whole = client.get(f"{path}deliveries/{delivery.message_id}/").json()
    assert whole == {**row, "body": EVENTS, "attempts": [{**outcome, "answer": "try later"}]}


def test_viewers_see_neither_what_clients_have_sent_nor_what_was_answered(
    as_: As, teammate: User, operator_with: User, webhook: Webhook, path: str
) -> None:
    delivery = deliver(webhook, Answer(200, 5, "hello yourself"))

    def shown(user: User) -> tuple[Any, Any]:
        whole = as_(user).get(f"{path}deliveries/{delivery.message_id}/").json()
        return whole["body"], whole["attempts"][0]["answer"]

    assert shown(teammate) == (None, None)
    services.set_role(teammate.memberships.get(), Role.DEVELOPER)
    assert shown(teammate) == (EVENTS, "hello yourself")
    assert shown(operator_with) == (None, None)
    operator_with.user_permissions.add(Permission.objects.get(codename="view_webhookdelivery"))
    assert shown(User.objects.get(pk=operator_with.pk)) == (EVENTS, "hello yourself")


@pytest.fixture
def operator_with(db: None) -> User:
    """Staff who may see webhooks, but not their deliveries."""
    operator = User.objects.create_user("operator@example.com", is_staff=True)
    operator.user_permissions.add(Permission.objects.get(codename="view_webhook"))
    return User.objects.get(pk=operator.pk)


def test_the_log_can_be_filtered_by_state(client: APIClient, webhook: Webhook, path: str) -> None:
    delivered = deliver(webhook, Answer(200, 5))
    deliver(webhook, Answer(500, 5))
    found = client.get(f"{path}deliveries/?state=delivered").json()["results"]
    assert [row["id"] for row in found] == [delivered.message_id]
    for state in ("none", "%00", ""):
        assert client.get(f"{path}deliveries/?state={state}").status_code == 400


def test_a_finished_delivery_is_sent_again_with_its_id(client: APIClient, webhook: Webhook, path: str) -> None:
    delivery = deliver(webhook, Answer(200, 5))
    again = f"{path}deliveries/{delivery.message_id}/redeliver/"
    answer = client.post(again)
    assert (answer.status_code, answer.json()["id"], answer.json()["state"]) == (202, delivery.message_id, "waiting")
    assert client.post(again).status_code == 409
    assert [task.message_id for task in exchange([], []).tasks] == [delivery.message_id]


def test_all_that_have_failed_since_a_time_are_sent_again(client: APIClient, webhook: Webhook, path: str) -> None:
    deliveries = [deliver(webhook, Answer(200, 5)) for _ in range(3)]
    now = datetime(2026, 11, 1, 12, tzinfo=UTC)
    for age, delivery in enumerate(deliveries):
        delivery.state, delivery.created_at = DeliveryState.FAILED, now - timedelta(hours=age)
        delivery.save()
    since = (now - timedelta(minutes=90)).isoformat()
    assert client.post(f"{path}redeliver/", {"since": since}).json() == {"deliveries": 2}
    assert client.post(f"{path}redeliver/", {"since": since}).json() == {"deliveries": 0}
    assert client.post(f"{path}redeliver/").json() == {"deliveries": 1}
    wrong: list[Any] = ["yesterday", 5, {}, "9999-12-31T23:59:59-14:00"]
    for since in wrong:
        assert client.post(f"{path}redeliver/", {"since": since}).status_code == 400


def test_lists_need_a_constant_number_of_queries(
    client: APIClient, webhook: Webhook, path: str, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    services.set_quotas(webhook.cluster.account, max_webhooks=100)
    for _ in range(10):
        services.create_webhook(webhook.cluster, URL, kinds=["client_event"])
    queue.add([NewDelivery.of(webhook.pk, EVENTS) for _ in range(100)])
    with django_assert_num_queries(3):
        assert client.get("/api/v1/webhooks/").json()["count"] == 11
    with django_assert_num_queries(4):
        page = client.get(f"{path}deliveries/").json()
    assert (page["count"], len(page["results"])) == (100, 50)


def test_operators_do_what_the_admin_permits(as_: As, operator_with: User, webhook: Webhook, path: str) -> None:
    def permitted(*names: str) -> APIClient:
        operator_with.user_permissions.set(Permission.objects.filter(codename__in=names))
        return as_(User.objects.get(pk=operator_with.pk))

    viewer = permitted("view_webhook")
    assert viewer.get(path).status_code == 200
    answers = [
        viewer.patch(path, {"enabled": False}),
        viewer.delete(path),
        *(viewer.post(f"{path}{action}/") for action in ("rotate-secret", "end-old-secret", "test", "redeliver")),
    ]
    assert [answer.status_code for answer in answers] == [403] * len(answers)
    assert permitted("view_webhook", "change_webhook").patch(path, {"enabled": False}).status_code == 200
    services.suspend_account(webhook.cluster.account)
    assert permitted("view_webhook", "change_webhook").delete(path).status_code == 403
    assert permitted("view_webhook", "delete_webhook").delete(path).status_code == 204


def test_a_suspended_account_changes_nothing(client: APIClient, webhook: Webhook, path: str) -> None:
    delivery = deliver(webhook, Answer(200, 5))
    services.suspend_account(webhook.cluster.account)
    answers = [
        client.post("/api/v1/webhooks/", NEW),
        client.patch(path, {"enabled": False}),
        client.delete(path),
        *(client.post(f"{path}{action}/") for action in ("rotate-secret", "end-old-secret", "test", "redeliver")),
        client.post(f"{path}deliveries/{delivery.message_id}/redeliver/"),
    ]
    assert [answer.status_code for answer in answers] == [403] * len(answers)
    assert client.get(f"{path}deliveries/").json()["count"] == 1
