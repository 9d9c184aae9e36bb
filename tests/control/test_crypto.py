"""Encryption of secrets at rest."""

from datetime import timedelta

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone
from pytest_django import Settings

from accounts import crypto, services
from accounts.access import find_access
from accounts.checks import check_encryption_keys, check_stored_secrets
from accounts.models import ApiKey, Cluster, Webhook
from tests.control.conftest import secret_of

OLD, NEW = "old" * 20, "new" * 20


def test_a_secret_is_encrypted_and_can_be_decrypted(settings: Settings) -> None:
    settings.ENCRYPTION_KEYS = [OLD]
    first, second = crypto.encrypt("secret"), crypto.encrypt("secret")
    assert "secret" not in first
    assert first != second
    assert crypto.decrypt(first) == crypto.decrypt(second) == "secret"


def test_without_encryption_keys_the_secret_key_is_used(settings: Settings) -> None:
    settings.ENCRYPTION_KEYS = []
    settings.SECRET_KEY = OLD
    ciphertext = crypto.encrypt("secret")
    settings.SECRET_KEY, settings.SECRET_KEY_FALLBACKS = NEW, [OLD]
    assert crypto.decrypt(ciphertext) == "secret"


def test_the_error_for_a_missing_key_does_not_contain_the_ciphertext(settings: Settings) -> None:
    settings.ENCRYPTION_KEYS = [OLD]
    ciphertext = crypto.encrypt("secret")
    settings.ENCRYPTION_KEYS = [NEW]
    with pytest.raises(crypto.DecryptionFailed, match="ENCRYPTION_KEYS") as raised:
        crypto.decrypt(ciphertext)
    assert ciphertext not in str(raised.value)


@pytest.mark.django_db
def test_rotating_the_encryption_key_keeps_every_secret(settings: Settings, cluster: Cluster) -> None:
    settings.ENCRYPTION_KEYS = [OLD]
    issued = [services.issue_key(cluster, str(number)) for number in range(3)]
    settings.ENCRYPTION_KEYS = [NEW, OLD]
    assert [secret_of(key) for key, _ in issued] == [secret for _, secret in issued]
    for _ in range(2):
        call_command("reencrypt_secrets")
    settings.ENCRYPTION_KEYS = [NEW]
    assert [secret_of(key) for key, _ in issued] == [secret for _, secret in issued]


@pytest.mark.django_db
def test_rotating_the_encryption_key_keeps_an_old_secret_that_is_still_valid(
    settings: Settings, cluster: Cluster
) -> None:
    settings.ENCRYPTION_KEYS = [OLD]
    (key, old), (ended, _) = (services.issue_key(cluster, label) for label in ("overlapping", "ended"))
    new = services.rotate_secret(key, timedelta(hours=1))
    services.rotate_secret(ended, timedelta(hours=1))
    ApiKey.objects.filter(pk=ended.pk).update(old_secret_ciphertext="lost", old_secret_ends_at=timezone.now())
    settings.ENCRYPTION_KEYS = [NEW, OLD]
    call_command("reencrypt_secrets")
    settings.ENCRYPTION_KEYS = [NEW]
    access = find_access(key.public_key)
    assert access is not None
    assert access.valid_secrets() == (new, old)


@pytest.mark.django_db
def test_a_secret_that_cannot_be_decrypted_is_kept_and_reported(
    settings: Settings, cluster: Cluster, capsys: pytest.CaptureFixture[str]
) -> None:
    settings.ENCRYPTION_KEYS = [OLD]
    lost = services.issue_key(cluster, "lost").key
    settings.ENCRYPTION_KEYS = [NEW]
    services.issue_key(cluster, "kept")
    with pytest.raises(CommandError, match="1 of 2"):
        call_command("reencrypt_secrets")
    assert "lost" in capsys.readouterr().err
    assert ApiKey.objects.get(pk=lost.pk).secret_ciphertext == lost.secret_ciphertext


def test_a_short_encryption_key_is_an_error(settings: Settings) -> None:
    settings.ENCRYPTION_KEYS = [OLD, "short"]
    (error,) = check_encryption_keys(None)
    assert error.id == "accounts.E001"
    assert "Key 2" in error.msg


@pytest.mark.parametrize("column", ["secret_ciphertext", "old_secret_ciphertext", "headers_ciphertext"])
def test_secrets_of_webhooks_that_cannot_be_decrypted_are_reported(
    cluster: Cluster, settings: Settings, column: str
) -> None:
    settings.ENCRYPTION_KEYS = [OLD]
    webhook = services.create_webhook(cluster, "https://example.com/", kinds=["client_event"]).webhook
    assert check_stored_secrets(None, ["default"]) == []
    settings.ENCRYPTION_KEYS = [NEW]
    Webhook.objects.update(
        **{name: crypto.encrypt("{}") for name in ("secret_ciphertext", "headers_ciphertext")}
        | {column: getattr(webhook, column) or webhook.secret_ciphertext}
    )
    (error,) = check_stored_secrets(None, ["default"])
    assert error.id == "accounts.E022"
    assert f"for example that of the webhook {webhook.pk}." in error.msg
    assert "`manage.py webhook delete`" in str(error.hint)
