"""Webhooks and their log in the admin: changed through the services, without secrets, and a log that only grows."""

import json
import re
from typing import Any

import pytest
from django.contrib.auth.models import Permission
from django.test import Client
from pytest_django import DjangoAssertNumQueries, Settings

from accounts import crypto, services
from accounts.models import AuditEntry, AuditSource, Cluster, DeliveryState, Webhook, WebhookDelivery
from accounts.users import User
from accounts.webhooks import queue
from accounts.webhooks.queue import NewDelivery
from tests.control.test_admin import run_action

pytestmark = pytest.mark.django_db(transaction=True)
URL = "https://example.com/hook"
LIST, LOG = "/admin/accounts/webhook/", "/admin/accounts/webhookdelivery/"
ATTEMPT = {
    "at": "2026-11-01T12:00:00.000+00:00",
    "status": 503,
    "milliseconds": 1084,
    "error": "",
    "answer": "<script>alert(1)</script>",
}


@pytest.fixture
def admin(admin_client: Client) -> Client:
    return admin_client


@pytest.fixture
def webhook(cluster: Cluster) -> Webhook:
    return services.create_webhook(cluster, URL, kinds=["client_event"], headers={"X-Mine": "s3cret"}).webhook


@pytest.fixture
def failed(webhook: Webhook) -> WebhookDelivery:
    """A delivery that has failed."""
    (pk,) = queue.add([NewDelivery.of(webhook.pk, [{"name": "client_event", "data": "<b>hello</b>"}])])
    WebhookDelivery.objects.update(state=DeliveryState.FAILED, attempts=[ATTEMPT])
    return WebhookDelivery.objects.get(pk=pk)


def text_of(client: Client, path: str) -> str:
    page = client.get(path)
    assert page.status_code == 200
    return str(page.content.decode())


def test_settings_are_changed_through_the_services(admin: Client, webhook: Webhook) -> None:
    path = f"{LIST}{webhook.pk}/change/"
    form: dict[str, Any] = {"url": f"{URL}/2", "kinds": ["client_event", "channel_vacated"], "channel_prefix": "chat"}
    assert admin.post(path, form).status_code == 302
    webhook.refresh_from_db()
    assert (webhook.url, webhook.channel_prefix) == (f"{URL}/2", "chat")
    assert set(webhook.kinds) == {"client_event", "channel_vacated"}
    assert services.headers_of(webhook) == {"X-Mine": "s3cret"}
    entry = AuditEntry.objects.get(verb="changed")
    assert (entry.source, set(entry.changes)) == (AuditSource.ADMIN, {"url", "kinds", "channel_prefix"})
    assert "Webhooks can only be sent to public addresses." in str(
        admin.post(path, {**form, "url": "https://10.0.0.1/"}).content.decode()
    )


def test_no_page_shows_or_finds_a_secret(admin: Client, webhook: Webhook, failed: WebhookDelivery) -> None:
    pages = [
        *(LIST, f"{LIST}{webhook.pk}/change/", f"{LIST}{webhook.pk}/history/"),
        *(LOG, f"{LOG}{failed.pk}/change/"),
    ]
    text = "".join(text_of(admin, path) for path in pages)
    assert "X-Mine" in text
    for hidden in (crypto.decrypt(webhook.secret_ciphertext), "s3cret", webhook.secret_ciphertext):
        assert hidden not in text
    names = ("secret_ciphertext", "old_secret_ciphertext", "headers_ciphertext")
    for path in [*(f"{LIST}?{name}__gte=a" for name in names), *(f"{LOG}?webhook__{name}__gte=a" for name in names)]:
        assert admin.get(path).status_code == 400
    assert admin.get(f"{LIST}add/").status_code == 403


def test_headers_that_cannot_be_decrypted_do_not_hide_the_webhook(
    admin: Client, webhook: Webhook, settings: Settings
) -> None:
    settings.ENCRYPTION_KEYS = ["another-key" * 4]
    assert "cannot be decrypted" in text_of(admin, f"{LIST}{webhook.pk}/change/")


def test_webhooks_are_switched_off_and_on(admin: Client, webhook: Webhook) -> None:
    run_action(admin, "webhook", "disable", webhook)
    webhook.refresh_from_db()
    assert not webhook.enabled
    assert "This webhook is switched off." in text_of(admin, f"{LIST}{webhook.pk}/change/")
    assert admin.post(f"{LIST}{webhook.pk}/enable/").status_code == 302
    webhook.refresh_from_db()
    assert webhook.enabled


def test_a_test_event_is_sent(admin: Client, webhook: Webhook) -> None:
    admin.post(f"{LIST}{webhook.pk}/test/")
    assert json.loads(webhook.deliveries.get().events)[0]["name"] == "test"


def test_what_has_failed_is_sent_again(admin: Client, webhook: Webhook, failed: WebhookDelivery) -> None:
    run_action(admin, "webhook", "redeliver", webhook)
    failed.refresh_from_db()
    assert failed.state == DeliveryState.WAITING


def test_one_delivery_is_sent_again(admin: Client, webhook: Webhook, failed: WebhookDelivery) -> None:
    assert "redeliver/" in text_of(admin, f"{LOG}{failed.pk}/change/")
    assert admin.post(f"{LOG}{failed.pk}/redeliver/").status_code == 302
    failed.refresh_from_db()
    assert failed.state == DeliveryState.WAITING
    assert AuditEntry.objects.get(verb="resent").source == AuditSource.ADMIN
    assert "redeliver/" not in text_of(admin, f"{LOG}{failed.pk}/change/")
    page = run_action(admin, "webhookdelivery", "redeliver", failed, select_across="1")
    assert "Select deliveries of one page." in text_of(admin, page.headers["Location"])
    page = run_action(admin, "webhookdelivery", "redeliver", failed)
    assert "The delivery waits already" in text_of(admin, page.headers["Location"])


def test_the_log_shows_attempts_and_events_as_text(admin: Client, failed: WebhookDelivery) -> None:
    text = text_of(admin, f"{LOG}{failed.pk}/change/")
    for shown in ("503", "1,084 ms", "&lt;script&gt;alert(1)", "&lt;b&gt;hello&lt;/b&gt;", failed.message_id):
        assert shown in text
    assert not re.search(r"<(input|textarea|select)[^>]*name=.(state|events)", text)
    assert admin.get(f"{LOG}add/").status_code == 403
    assert admin.post(f"{LOG}{failed.pk}/change/", {"state": "delivered"}).status_code == 403
    assert admin.post(f"{LOG}{failed.pk}/delete/", {"post": "yes"}).status_code == 403


def test_operators_who_may_only_look_send_nothing(client: Client, webhook: Webhook, failed: WebhookDelivery) -> None:
    viewer = User.objects.create_user("viewer@example.com", is_staff=True)
    viewer.user_permissions.set(Permission.objects.filter(codename__in=["view_webhook", "view_webhookdelivery"]))
    client.force_login(viewer)
    assert "redeliver/" not in text_of(client, f"{LOG}{failed.pk}/change/")
    paths = [f"{LIST}{webhook.pk}/{name}/" for name in ("disable", "test", "redeliver")]
    paths.append(f"{LOG}{failed.pk}/redeliver/")
    assert [client.post(path).status_code for path in paths] == [403] * len(paths)


def test_a_suspended_account_has_a_banner_and_only_a_deletion_is_left(
    admin: Client, webhook: Webhook, failed: WebhookDelivery
) -> None:
    services.suspend_account(webhook.cluster.account)
    assert "is suspended since" in text_of(admin, f"{LIST}{webhook.pk}/change/")
    for path in (f"{LIST}{webhook.pk}/enable/", f"{LIST}{webhook.pk}/test/", f"{LOG}{failed.pk}/redeliver/"):
        admin.post(path)
    failed.refresh_from_db()
    assert (failed.state, WebhookDelivery.objects.count()) == (DeliveryState.FAILED, 1)
    assert admin.post(f"{LIST}{webhook.pk}/delete/", {"post": "yes"}).status_code == 302
    assert not Webhook.objects.exists()


def test_the_page_before_a_deletion_counts_webhooks(admin: Client, webhook: Webhook) -> None:
    for path in (f"cluster/{webhook.cluster_id}", f"account/{webhook.cluster.account_id}"):
        assert "Webhooks: 1" in text_of(admin, f"/admin/accounts/{path}/delete/")


@pytest.mark.parametrize(
    ("query", "count"),
    [
        ("webhook/?q=hook", 1),
        ("webhook/?q=acme", 1),
        ("webhook/?q=none", 0),
        ("webhook/?enabled__exact=0", 0),
        ("webhook/?health=yes", 0),
    ],
)
def test_webhooks_are_found(admin: Client, webhook: Webhook, query: str, count: int) -> None:
    assert text_of(admin, f"/admin/accounts/{query}").count('class="action-select"') == count


def test_deliveries_are_found(admin: Client, webhook: Webhook, failed: WebhookDelivery) -> None:
    for query, count in {
        f"q={failed.message_id}": 1,
        "q=msg_other": 0,
        "state__exact=failed": 1,
        "state__exact=waiting": 0,
        f"webhook__id__exact={webhook.pk}": 1,
        f"webhook__id__exact={webhook.pk + 1}": 0,
    }.items():
        assert text_of(admin, f"{LOG}?{query}").count('class="action-select"') == count


def test_lists_need_no_more_queries_for_thousands_of_deliveries(
    admin: Client, webhook: Webhook, django_assert_max_num_queries: DjangoAssertNumQueries
) -> None:
    queue.add([NewDelivery.of(webhook.pk, [{"name": "client_event"}]) for _ in range(3_000)])
    for path in (LIST, LOG, f"{LIST}{webhook.pk}/change/"):
        with django_assert_max_num_queries(11):
            text_of(admin, path)
