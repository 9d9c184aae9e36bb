"""The services that change webhooks."""

import json
import re
from collections.abc import Mapping
from copy import copy
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import F, QuerySet
from django.utils import timezone
from django.views.decorators.debug import sensitive_variables

from .. import crypto
from ..audit import record_change
from ..locks import Gone, Refused, lock_account, lock_webhooks
from ..models import Account, ApiKey, AuditVerb, Cluster, DeliveryState, Webhook, WebhookDelivery
from ..signals import announce
from ..webhooks import queue
from ..webhooks.addresses import check_host
from ..webhooks.signing import new_secret
from .changes import Conflict, check_room, create_recorded, update_recorded, version_of
from .keys import MAX_OVERLAP

WEBHOOK_SETTINGS = ("url", "kinds", "channel_prefix", "batches", "signing_key", "enabled")
"""The settings of a webhook besides its extra headers, whose values are secret."""
MAX_HEADERS = 10
_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}")
_HEADER_VALUE = re.compile(r"[!-~](?:[\t -~]{0,998}[!-~])?")
_RESERVED_HEADERS = re.compile(
    r"(?i)host|content-.*|transfer-encoding|connection|keep-alive|te|trailer|upgrade|expect|proxy-.*|user-agent|"
    r"accept-encoding|webhook-.*|x-pusher-.*"
)


class WebhookOff(Refused):
    """The operation is impossible because the webhook is off."""


class DeliveryWaits(Refused):
    """A delivery cannot be sent again because it, or too many others, wait to be sent."""


class CreatedWebhook(NamedTuple):
    """A webhook and its secret, which is shown only once."""

    webhook: Webhook
    secret: str

    def __repr__(self) -> str:
        return f"CreatedWebhook(webhook={self.webhook!r})"


@sensitive_variables()
def create_webhook(
    cluster: Cluster, url: str, *, headers: Mapping[str, str] | None = None, **settings: Any
) -> CreatedWebhook:
    """Create a webhook.

    Args:
        cluster: the cluster whose events it gets.
        url: where they are sent.
        headers: extra headers of each request.
        settings: any other settings in WEBHOOK_SETTINGS.

    Raises:
        ValidationError: a setting is invalid.
        QuotaReached: the account has too many webhooks.
        Gone, AccountSuspended: see `lock_account`.
    """
    secret = new_secret()
    webhook = Webhook(
        cluster=cluster,
        url=url,
        secret_ciphertext=crypto.encrypt(secret),
        headers_ciphertext=_encrypted(headers or {}),
        **_checked(cluster, settings),
    )
    # Before a name server is asked, and again while the account is locked.
    _check_room(cluster.account)
    webhook.full_clean()
    check_host(url, cluster.account_id)
    _create(webhook)
    return CreatedWebhook(webhook, secret)


@transaction.atomic
def _create(webhook: Webhook) -> None:
    _check_room(lock_account(webhook.cluster))
    _checked(webhook.cluster, {"signing_key": webhook.signing_key})
    create_recorded(webhook, *WEBHOOK_SETTINGS)
    announce(cluster_pk=webhook.cluster_id)


def _check_room(account: Account) -> None:
    check_room(account, "max_webhooks", Webhook.objects.filter(cluster__account=account).count())


@sensitive_variables()
def update_webhook(
    webhook: Webhook, *, headers: Mapping[str, str] | None = None, version: str | None = None, **settings: Any
) -> None:
    """Change settings of a webhook. Switching it on sends what waits.

    Args:
        webhook: the webhook.
        headers: new extra headers, which replace all; None to keep those that it has.
        version: the `version_of_webhook` that the user has seen; None to overwrite whatever the settings are now.
        settings: new values for any settings in WEBHOOK_SETTINGS.

    Raises:
        ValidationError: a setting is invalid.
        Conflict: the settings have another version now.
        Gone, AccountSuspended: see `lock_account`.
    """
    if "url" in settings and not Webhook.objects.filter(pk=webhook.pk, url=settings["url"]).exists():
        trial = copy(webhook)
        for name, value in _checked(webhook.cluster, settings).items():
            setattr(trial, name, value)
        trial.full_clean()
        _encrypted(headers or {})
        check_host(trial.url, webhook.cluster.account_id)  # not while the account is locked
    _update(webhook, headers, version, settings)


@sensitive_variables()
@transaction.atomic
def _update(webhook: Webhook, headers: Mapping[str, str] | None, version: str | None, settings: dict[str, Any]) -> None:
    lock_account(webhook)
    current = Webhook.objects.select_for_update().get(pk=webhook.pk)
    if version is not None and version_of_webhook(current) != version:
        raise Conflict("Someone changed this webhook meanwhile. Check the values and save again.")
    if settings:
        update_recorded(webhook, _checked(webhook.cluster, settings))
    if headers is not None:
        names = [sorted(headers_of(webhook)), sorted(headers)]
        webhook.headers_ciphertext = _encrypted(headers)
        webhook.save(update_fields=["headers_ciphertext"])
        record_change(AuditVerb.CHANGED, webhook, {"headers": (names[0], names[1])})
    announce(cluster_pk=webhook.cluster_id)
    if settings.get("enabled") and not current.enabled:
        fresh = {"failures": 0, "failing_since": None, "last_error": "", "probe_at": None, "disabled_because": ""}
        now = timezone.now()
        Webhook.objects.filter(pk=webhook.pk).update(due_at=now, **fresh)
        webhook.deliveries.filter(state=DeliveryState.WAITING, lease="").update(next_at=now)
        webhook.refresh_from_db()


def version_of_webhook(webhook: Webhook) -> str:
    """Return a text that is another one after each change of the settings of a webhook."""
    return version_of(webhook, (*WEBHOOK_SETTINGS, "headers_ciphertext"))


@transaction.atomic
def delete_webhook(webhook: Webhook, *, suspended_too: bool = False) -> None:
    """Delete a webhook. Its log disappears with it, and is pruned later.

    Args:
        webhook: the webhook.
        suspended_too: whether to delete it even if its account is suspended, which only operators may do.

    Raises:
        Gone, AccountSuspended: see `lock_account`.
    """
    lock_account(webhook, suspended_too=suspended_too)
    lock_webhooks(pk=webhook.pk)
    record_change(AuditVerb.DELETED, webhook)
    announce(cluster_pk=webhook.cluster_id)
    webhook.delete()


@sensitive_variables()
@transaction.atomic
def rotate_webhook_secret(webhook: Webhook, overlap: timedelta = timedelta()) -> str:
    """Replace the signing secret of a webhook, and return the new secret.

    Args:
        webhook: the webhook.
        overlap: how long the old secret also signs; by default, it ends immediately.

    Raises:
        ValidationError: the overlap is negative or too long.
        Gone, AccountSuspended: see `lock_account`.
    """
    if not timedelta() <= overlap <= MAX_OVERLAP:
        raise ValidationError(f"The old secret can stay valid for at most {MAX_OVERLAP.days} days.")
    lock_account(webhook)
    secret, ends_at = new_secret(), timezone.now() + overlap if overlap else None
    Webhook.objects.filter(pk=webhook.pk).update(
        old_secret_ciphertext=F("secret_ciphertext") if overlap else "",
        old_secret_ends_at=ends_at,
        secret_ciphertext=crypto.encrypt(secret),
    )
    webhook.refresh_from_db(fields=["secret_ciphertext", "old_secret_ciphertext", "old_secret_ends_at"])
    changes = {"old_secret_ends_at": (None, ends_at.isoformat())} if ends_at else None
    record_change(AuditVerb.ROTATED, webhook, changes)
    return secret


@transaction.atomic
def end_old_webhook_secret(webhook: Webhook) -> None:
    """Let the old secret of a webhook sign no longer. Does nothing if it has none that is still valid.

    Raises:
        Gone, AccountSuspended: see `lock_account`.
    """
    lock_account(webhook)
    webhook.refresh_from_db(fields=["old_secret_ends_at"])
    if not webhook.has_old_secret:
        return
    ended = {"old_secret_ends_at": (webhook.old_secret_ends_at.isoformat(), None)}  # type: ignore[union-attr]
    webhook.old_secret_ciphertext, webhook.old_secret_ends_at = "", None
    webhook.save(update_fields=["old_secret_ciphertext", "old_secret_ends_at"])
    record_change(AuditVerb.ENDED, webhook, ended)


@transaction.atomic
def send_test_event(webhook: Webhook) -> WebhookDelivery:
    """Send an event that tells the tenant's server nothing, before all that waits, and return its delivery.

    Raises:
        WebhookOff: the webhook is off.
        Gone, AccountSuspended: see `lock_account`.
    """
    _lock_enabled(webhook)
    record_change(AuditVerb.TESTED, webhook)
    event = {"name": "test", "time_ms": int(timezone.now().timestamp() * 1000)}
    (pk,) = queue.add([queue.NewDelivery.of(webhook.pk, [event])])
    delivery = WebhookDelivery.objects.get(pk=pk)
    queue.send_first(delivery)
    return delivery


@transaction.atomic
def redeliver(delivery: WebhookDelivery) -> None:
    """Send a finished delivery again, or send one now that waits for a later time, with the same ID.

    Raises:
        DeliveryWaits: the delivery is due already, or too many others wait.
        WebhookOff: the webhook is off.
        Gone, AccountSuspended: see `lock_account`.
    """
    webhook = _lock_enabled(delivery.webhook)
    rows = WebhookDelivery.objects.filter(pk=delivery.pk)
    # Locked, because finished deliveries are pruned.
    locked = rows.select_for_update(no_key=True).defer("events").first()
    if locked is None:
        raise Gone("This delivery is no longer in the log.")
    if locked.state == DeliveryState.WAITING:
        if not queue.waits_for_later(locked, webhook, timezone.now()):
            raise DeliveryWaits("This delivery already waits to be sent.")
    elif not queue.send_again(rows):
        raise DeliveryWaits("Too many deliveries of this webhook wait. Try again when some of them are sent.")
    queue.send_first(locked)
    _record_redelivery(delivery.webhook, 1)
    delivery.refresh_from_db()


@transaction.atomic
def redeliver_failed(webhook: Webhook, since: datetime | None = None) -> int:
    """Send the deliveries again that have failed or were dropped, with the same IDs, oldest first; return how many.

    Args:
        webhook: the webhook, for which only so many deliveries can wait. The others are left as they are.
        since: only those that were created since then; None for all.

    Raises:
        WebhookOff: the webhook is off.
        Gone, AccountSuspended: see `lock_account`.
    """
    _lock_enabled(webhook)
    number = queue.send_again(failed_deliveries(webhook, since).order_by("pk"))
    if number:
        _record_redelivery(webhook, number)
    return number


def failed_deliveries(webhook: Webhook, since: datetime | None = None) -> QuerySet[WebhookDelivery]:
    """Return the deliveries that have failed or were dropped.

    Args:
        webhook: the webhook.
        since: only those that were created since then; None for all.
    """
    failed = webhook.deliveries.filter(state__in=[DeliveryState.FAILED, DeliveryState.DROPPED])
    return failed if since is None else failed.filter(created_at__gte=since)


def _lock_enabled(webhook: Webhook) -> Webhook:
    lock_account(webhook)
    # The senders lock the webhook too, when they switch it off.
    locked = Webhook.objects.select_for_update(no_key=True).filter(pk=webhook.pk, enabled=True).first()
    if locked is None:
        raise WebhookOff("This webhook is off. Switch it on first.")
    return locked


def _record_redelivery(webhook: Webhook, number: int) -> None:
    record_change(AuditVerb.RESENT, webhook, {"deliveries": (None, number)})


@sensitive_variables()
def headers_of(webhook: Webhook) -> dict[str, str]:
    """Return the extra headers of a webhook, whose values are secret.

    Raises:
        DecryptionFailed: the key that encrypted them is not in the settings.
    """
    headers: dict[str, str] = json.loads(crypto.decrypt(webhook.headers_ciphertext))
    return headers


def _checked(cluster: Cluster, settings: dict[str, Any]) -> dict[str, Any]:
    unknown = set(settings) - set(WEBHOOK_SETTINGS)
    if unknown:
        raise TypeError(f"Unknown settings of a webhook: {', '.join(sorted(unknown))}")
    public_key = settings.get("signing_key")
    if public_key and not ApiKey.objects.filter(cluster=cluster, public_key=public_key, revoked_at=None).exists():
        raise ValidationError({"signing_key": ["Choose an active API key of the cluster."]})
    return settings


@sensitive_variables()
def _encrypted(headers: Mapping[str, str]) -> str:
    if len(headers) > MAX_HEADERS:
        raise ValidationError({"headers": [f"Enter at most {MAX_HEADERS} headers."]})
    for name, value in headers.items():
        if not isinstance(name, str) or not _HEADER_NAME.fullmatch(name):
            raise ValidationError({"headers": ["The name of a header has letters, digits and hyphens."]})
        if _RESERVED_HEADERS.fullmatch(name):
            raise ValidationError({"headers": [f"The header {name} is set by this service."]})
        if not isinstance(value, str) or not _HEADER_VALUE.fullmatch(value):
            raise ValidationError(
                {"headers": [f"The value of {name} must have 1 to 1,000 printable ASCII characters."]}
            )
    if len({name.lower() for name in headers}) < len(headers):
        raise ValidationError({"headers": ["Enter each header once."]})
    return crypto.encrypt(json.dumps(dict(headers)))
