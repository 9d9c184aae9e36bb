"""The export of an account: everything that this service stores about it, as JSON, without secrets."""

import json
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

from asgiref.sync import sync_to_async
from django.core.serializers.json import DjangoJSONEncoder
from django.db.models import QuerySet
from django.utils import timezone

from .audit import public_author
from .daily_usage import DailyUsage
from .models import Account, ApiKey, AuditEntry, Cluster, Invitation, Membership, Refusal, Webhook, WebhookDelivery
from .quotas import default_quotas
from .services import CLUSTER_SETTINGS, KEY_SETTINGS, WEBHOOK_SETTINGS
from .usage_rows import RefusedUsage, Usage

# How many rows are read at a time.
_BATCH = 500


async def export(account: Account) -> AsyncIterator[str]:
    """Yield the parts of a JSON document with everything about an account. It reads a few rows at a time."""
    head = {"exported_at": timezone.now(), "account": _account(account)}
    yield f"{_json(head)[:-1]}"
    for name, rows, describe in _sections(account):
        yield f', "{name}": ['
        separator = ""
        async for row in _read(rows):
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


async def _read(rows: QuerySet[Any]) -> AsyncIterator[Any]:
    last = 0
    while batch := await sync_to_async(lambda after: list(rows.filter(pk__gt=after).order_by("pk")[:_BATCH]))(last):
        for row in batch:
            yield row
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
    names = ("created_at", "old_secret_ends_at", "disabled_because", "failing_since", "dropped", "dropped_at")
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
