"""The export of an account: everything that this service stores about it, as JSON, without secrets.

It can be hundreds of megabytes, so it is read and encoded in a thread, a part at a time, when the client has taken the
part before.
"""

import contextlib
import json
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any
from weakref import WeakSet

from asgiref.sync import sync_to_async
from django.core.cache import cache
from django.core.serializers.json import DjangoJSONEncoder
from django.db.models import QuerySet
from django.utils import timezone
from redis.exceptions import RedisError

from .audit import public_author
from .daily_usage import DailyUsage
from .locks import Refused
from .models import Account, ApiKey, AuditEntry, Cluster, Invitation, Membership, Refusal, Webhook, WebhookDelivery
from .quotas import default_quotas
from .services import CLUSTER_SETTINGS, KEY_SETTINGS, WEBHOOK_SETTINGS
from .usage_rows import RefusedUsage, Usage

MAX_AT_ONCE = 4
"""How many exports a process makes at the same time. Each keeps one of the threads that answer requests."""
# How many rows are read at a time.
_BATCH = 200
_PART_BYTES = 64 * 1024
# For how long an export keeps others of its account from running after its process has died, and how often it renews
# that. The server disconnects clients that read too slowly.
_LEASE_SECONDS = 120
_RENEW_SECONDS = 20
_running: "WeakSet[Export]" = WeakSet()


class ExportRuns(Refused):
    """An export must wait until another one has ended."""


class Export:
    """A running export: an asynchronous iterator of the parts of a JSON document. `close` ends it."""

    def __init__(self, account: Account) -> None:
        """
        Raises:
            ExportRuns: another export of the account runs, or too many of other accounts.
        """
        self._account = account
        self._lease = f"export_{account.pk}"
        self._renewed_at = time.monotonic()
        if len(_running) >= MAX_AT_ONCE:
            raise ExportRuns("Other accounts are being exported now. Try again in a few minutes.")
        if not cache.add(self._lease, True, _LEASE_SECONDS):
            raise ExportRuns("This account is already being exported. Try again when that download has ended.")
        _running.add(self)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        parts = _parts(self._account)
        while part := await sync_to_async(self._next)(parts):
            yield part

    def _next(self, parts: Iterator[bytes]) -> bytes:
        if time.monotonic() - self._renewed_at >= _RENEW_SECONDS:
            self._renewed_at = time.monotonic()
            with contextlib.suppress(RedisError):
                cache.touch(self._lease, _LEASE_SECONDS)
        return next(parts, b"")

    def close(self) -> None:
        """Let others run. Django calls this when the response has ended, however it has ended."""
        if self in _running:
            _running.discard(self)
            with contextlib.suppress(RedisError):
                cache.delete(self._lease)


def _parts(account: Account) -> Iterator[bytes]:
    """Yield the JSON document in parts of similar sizes."""
    texts, size = [], 0
    for text in _texts(account):
        texts.append(text)
        size += len(text)
        if size >= _PART_BYTES:
            yield "".join(texts).encode()
            texts, size = [], 0
    yield "".join(texts).encode()


def _texts(account: Account) -> Iterator[str]:
    head = {"exported_at": timezone.now(), "account": _account(account)}
    yield f"{_json(head)[:-1]}"
    for name, rows, describe in _sections(account):
        yield f', "{name}": ['
        separator = ""
        for row in _read(rows):
            yield separator + _json(describe(row))
            separator = ", "
        yield "]"
    yield "}\n"


def _sections(account: Account) -> Iterator[tuple[str, QuerySet[Any], Callable[[Any], dict[str, Any]]]]:
    keys = ApiKey.objects.filter(cluster__account=account).select_related("cluster")
    webhooks = Webhook.objects.filter(cluster__account=account).select_related("cluster")
    # Without the events, which can be gigabytes. The log of each webhook has them.
    deliveries = WebhookDelivery.objects.filter(webhook__cluster__account=account)
    yield "people", account.memberships.select_related("user"), _member
    yield "invitations", account.invitations.all(), _invitation
    yield "clusters", account.clusters.all(), _cluster
    yield "api_keys", keys, _key
    yield "webhooks", webhooks, _webhook
    yield "webhook_deliveries", deliveries.defer("events", "attempts"), _delivery
    yield "messages_per_day", DailyUsage.objects.filter(account_pk=account.pk), _messages
    yield "usage", Usage.objects.filter(account_pk=account.pk), _usage
    yield "refusals", RefusedUsage.objects.filter(account_pk=account.pk), _refusals
    yield "latest_refusals", Refusal.objects.filter(account_pk=account.pk), _refusal
    yield "audit", AuditEntry.objects.filter(account_pk=account.pk), _entry


def _read(rows: QuerySet[Any]) -> Iterator[Any]:
    last = 0
    while batch := list(rows.filter(pk__gt=last).order_by("pk")[:_BATCH]):
        yield from batch
        last = batch[-1].pk


def _json(value: Any) -> str:
    return json.dumps(value, cls=DjangoJSONEncoder)


def _values(row: Any, *names: str) -> dict[str, Any]:
    return {name: getattr(row, name) for name in names}


def _account(account: Account) -> dict[str, Any]:
    return _values(account, "id", "name", "created_at", "suspended_at", "sends_quota_notices", *default_quotas())


def _member(member: Membership) -> dict[str, Any]:
    return {"email": member.user.email, **_values(member, "role", "joined_at")}


def _invitation(invitation: Invitation) -> dict[str, Any]:
    return _values(invitation, "email", "role", "created_at", "expires_at")


def _cluster(cluster: Cluster) -> dict[str, Any]:
    return _values(cluster, "cluster_id", *CLUSTER_SETTINGS, "created_at")


def _key(key: ApiKey) -> dict[str, Any]:
    names = ("public_key", *KEY_SETTINGS, "created_at", "last_used_at", "old_secret_ends_at", "revoked_at")
    return {"key": key.pk, "cluster_id": key.cluster.cluster_id, **_values(key, *names)}


def _webhook(webhook: Webhook) -> dict[str, Any]:
    names = (
        "created_at",
        "old_secret_ends_at",
        "disabled_because",
        "failing_since",
        "last_error",
        "dropped",
        "dropped_at",
    )
    settings = _values(webhook, *WEBHOOK_SETTINGS, *names)
    return {"webhook": webhook.pk, "cluster_id": webhook.cluster.cluster_id, **settings}


def _delivery(delivery: WebhookDelivery) -> dict[str, Any]:
    return {"webhook": delivery.webhook_id, **_values(delivery, "message_id", "state", "count", "size", "created_at")}


def _messages(usage: DailyUsage) -> dict[str, Any]:
    return _values(usage, "day", "messages")


def _usage(usage: Usage) -> dict[str, Any]:
    counts = ("messages", "message_bytes", "deliveries", "delivered_bytes", "api_calls", "peak_connections")
    return {"key": usage.key_pk or None, **_values(usage, "unit", "start", *counts)}


def _refusals(usage: RefusedUsage) -> dict[str, Any]:
    return {"key": usage.key_pk or None, **_values(usage, "unit", "start", "reason", "refusals")}


def _refusal(refusal: Refusal) -> dict[str, Any]:
    causes = ("public_key", "code", "reason", "detail")
    return _values(refusal, "at", *causes, "channel", "origin", "user", "address", "client")


def _entry(entry: AuditEntry) -> dict[str, Any]:
    return {"email": public_author(entry), **_values(entry, "at", "source", "verb", "kind", "name", "label", "changes")}
