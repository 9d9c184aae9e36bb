"""Webhooks as the services create and change them: validated, within quotas and recorded, with hidden secrets."""

import socket
from datetime import timedelta
from threading import Event
from typing import Any

import pytest
from django.core.exceptions import ValidationError
from django.core.management import call_command
from pytest_django import Settings

from accounts import crypto, services
from accounts.models import (
    Account,
    ApiKey,
    AuditEntry,
    AuditVerb,
    Cluster,
    DeliveryState,
    ResourceKind,
    Webhook,
    WebhookKind,
)

pytestmark = pytest.mark.django_db
URL = "https://example.com/hook"


def create(cluster: Cluster, **settings: Any) -> services.CreatedWebhook:
    return services.create_webhook(cluster, **{"url": URL, "kinds": [WebhookKind.OCCUPIED], **settings})


def test_a_webhook_is_created_with_a_secret_that_is_stored_encrypted(cluster: Cluster) -> None:
    created = create(cluster, headers={"Authorization": "Bearer token-123"})
    webhook = Webhook.objects.get()
    assert created.secret.startswith("whsec_")
    assert crypto.decrypt(webhook.secret_ciphertext) == created.secret
    assert services.headers_of(webhook) == {"Authorization": "Bearer token-123"}
    everything = repr(created) + repr(list(Webhook.objects.values())) + repr(list(AuditEntry.objects.values()))
    assert created.secret not in everything
    assert "token-123" not in everything


def test_a_host_that_has_an_internal_address_is_refused_when_saved(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    addresses = {"inside.example.com": ["8.8.8.8", "10.0.0.1"], "outside.example.com": ["8.8.8.8"]}

    def answer(host: str, port: int | None, **options: Any) -> list[Any]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port or 0)) for address in addresses[host]]

    monkeypatch.setattr(socket, "getaddrinfo", answer)
    webhook = create(cluster, url="https://outside.example.com/").webhook
    with pytest.raises(ValidationError, match="public addresses"):
        create(cluster, url="https://inside.example.com/")
    with pytest.raises(ValidationError, match="public addresses"):
        services.update_webhook(webhook, url="https://inside.example.com/")
    assert list(Webhook.objects.values_list("url", flat=True)) == ["https://outside.example.com/"]


def test_a_name_server_that_does_not_answer_keeps_nobody_from_saving(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    is_over = Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: is_over.wait() and [])
    monkeypatch.setattr("accounts.webhooks.addresses.LOOK_UP_SECONDS", 0.1)
    create(cluster)
    is_over.set()


def test_every_change_is_recorded(cluster: Cluster) -> None:
    webhook = create(cluster).webhook
    services.update_webhook(webhook, url=f"{URL}2", headers={"X-Key": "1"})
    services.rotate_webhook_secret(webhook, timedelta(days=1))
    services.end_old_webhook_secret(webhook)
    services.redeliver_failed(webhook)
    delivery = services.send_test_event(webhook)
    webhook.deliveries.update(state=DeliveryState.FAILED)
    services.redeliver(delivery)
    webhook.deliveries.update(state=DeliveryState.FAILED)
    services.redeliver_failed(webhook)
    services.delete_webhook(webhook)
    entries = AuditEntry.objects.filter(kind=ResourceKind.WEBHOOK).order_by("pk")
    assert [(entry.verb, entry.changes) for entry in entries if entry.verb == AuditVerb.CHANGED] == [
        ("changed", {"url": [URL, f"{URL}2"]}),
        ("changed", {"headers": [[], ["X-Key"]]}),
    ]
    verbs = [entry.verb for entry in entries]
    assert verbs == ["created", "changed", "changed", "rotated", "ended", "tested", "resent", "resent", "deleted"]
    assert entries.filter(verb=AuditVerb.RESENT, changes={"deliveries": [None, 1]}).count() == 2
    assert not Webhook.objects.exists()


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"url": "https://127.0.0.1/"}, "url"),
        ({"url": "https://example.com/" + "x" * 2000}, "url"),
        ({"kinds": []}, "kinds"),
        ({"kinds": ["channel_renamed"]}, "kinds"),
        ({"kinds": ["channel_occupied", "channel_occupied"]}, "kinds"),
        ({"kinds": "channel_occupied"}, "kinds"),
        ({"kinds": [["channel_occupied"]]}, "kinds"),
        ({"channel_prefix": "a b"}, "channel_prefix"),
        ({"channel_prefix": "x" * 258}, "channel_prefix"),
        ({"signing_key": "x" * 60}, "signing_key"),
        ({"headers": {"Host": "x"}}, "headers"),
        ({"headers": {"webhook-id": "x"}}, "headers"),
        ({"headers": {"X-Pusher-Key": "x"}}, "headers"),
        ({"headers": {"Content-Length": "1"}}, "headers"),
        ({"headers": {"X-A": "a\r\nX-B: b"}}, "headers"),
        ({"headers": {"X A": "a"}}, "headers"),
        ({"headers": {"X-A": ""}}, "headers"),
        ({"headers": {"X-A": "ü"}}, "headers"),
        ({"headers": {"X-A": "1", "x-a": "2"}}, "headers"),
        ({"headers": {f"X-{number}": "1" for number in range(11)}}, "headers"),
    ],
)
def test_wrong_settings_are_refused_when_creating_and_when_changing(
    cluster: Cluster, wrong: dict[str, Any], field: str
) -> None:
    with pytest.raises(ValidationError) as error:
        create(cluster, **wrong)
    assert list(error.value.message_dict) == [field]
    assert not Webhook.objects.exists()
    webhook = create(cluster).webhook
    with pytest.raises(ValidationError):
        services.update_webhook(webhook, **wrong)


def test_the_audit_log_keeps_the_beginning_of_a_long_url(cluster: Cluster) -> None:
    """PostgreSQL refuses longer texts than a column has room for, which SQLite does not."""
    webhook = create(cluster, url=URL + "/x" * 900).webhook
    webhook.full_clean()
    entry = AuditEntry.objects.get(kind=ResourceKind.WEBHOOK)
    entry.full_clean()
    assert entry.label.startswith(URL)


def test_the_signing_key_is_an_active_key_of_the_cluster(key: ApiKey, foreign_key: ApiKey) -> None:
    create(key.cluster, signing_key=key.public_key)
    with pytest.raises(ValidationError):
        create(key.cluster, signing_key=foreign_key.public_key)
    services.revoke_key(key)
    with pytest.raises(ValidationError):
        create(key.cluster, signing_key=key.public_key)


def test_an_account_has_as_many_webhooks_as_its_quota_allows(account: Account, cluster: Cluster) -> None:
    services.set_quotas(account, max_webhooks=2)
    first = create(cluster).webhook
    create(services.create_cluster(account, "second"))
    with pytest.raises(services.QuotaReached, match="2 webhooks"):
        create(cluster)
    services.delete_webhook(first)
    create(cluster)


def test_a_suspended_account_changes_no_webhook(account: Account, cluster: Cluster) -> None:
    webhook = create(cluster).webhook
    services.suspend_account(account)
    for change in (
        lambda: create(cluster),
        lambda: services.update_webhook(webhook, enabled=False),
        lambda: services.rotate_webhook_secret(webhook),
        lambda: services.delete_webhook(webhook),
        lambda: services.send_test_event(webhook),
        lambda: services.redeliver_failed(webhook),
    ):
        with pytest.raises(services.Refused, match="suspended"):
            change()
    services.delete_webhook(webhook, suspended_too=True)


def test_a_deleted_webhook_cannot_be_changed(cluster: Cluster) -> None:
    webhook = create(cluster).webhook
    Webhook.objects.all().delete()
    with pytest.raises(services.Gone):
        services.update_webhook(webhook, enabled=False)


def test_deleting_a_cluster_deletes_its_webhooks_with_their_logs(cluster: Cluster) -> None:
    services.send_test_event(create(cluster).webhook)
    services.delete_cluster(cluster)
    assert not Webhook.objects.exists()


@pytest.mark.parametrize("overlap", [timedelta(seconds=-1), timedelta(days=7, seconds=1)])
def test_the_overlap_of_a_rotation_is_limited(cluster: Cluster, overlap: timedelta) -> None:
    with pytest.raises(ValidationError, match="7 days"):
        services.rotate_webhook_secret(create(cluster).webhook, overlap)


def test_a_webhook_that_is_off_sends_nothing(cluster: Cluster) -> None:
    webhook = create(cluster, enabled=False).webhook
    with pytest.raises(services.WebhookOff, match="Switch it on"):
        services.send_test_event(webhook)
    with pytest.raises(services.WebhookOff):
        services.redeliver_failed(webhook)
    assert not webhook.deliveries.exists()


def test_secrets_are_encrypted_again_with_a_new_key(cluster: Cluster, settings: Settings) -> None:
    settings.ENCRYPTION_KEYS = ["a" * 40]
    created = create(cluster, headers={"X-Key": "1"})
    services.rotate_webhook_secret(created.webhook, timedelta(days=1))
    settings.ENCRYPTION_KEYS = ["b" * 40, "a" * 40]
    call_command("reencrypt_secrets", verbosity=0)
    settings.ENCRYPTION_KEYS = ["b" * 40]
    webhook = Webhook.objects.get()
    assert crypto.decrypt(webhook.old_secret_ciphertext) == created.secret
    assert services.headers_of(webhook) == {"X-Key": "1"}
