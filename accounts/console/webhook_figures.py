"""How pages describe webhooks: their names, their states, and what they are sent."""

from typing import Any, NamedTuple

from django.db.models import Count, IntegerField, OuterRef, Q, Subquery
from django.db.models.functions import Coalesce

from accounts.models import Account, ApiKey, DeliveryState, Webhook, WebhookDelivery, WebhookKind
from accounts.webhooks import schedule


class Row(NamedTuple):
    """A webhook in the list."""

    webhook: Any
    name: str
    events: str
    state: str


def name_of(webhook: Webhook) -> str:
    """Return the URL of a webhook without its scheme and query, which may contain a credential."""
    return webhook.url.partition("://")[2].partition("?")[0].removesuffix("/")


def webhooks_of(account: Account) -> Any:
    """Return the webhooks of an account by cluster, each with its last delivery and how many wait."""
    deliveries = WebhookDelivery.objects.filter(webhook=OuterRef("pk"))
    waiting = deliveries.filter(state=DeliveryState.WAITING).order_by().values("webhook").annotate(rows=Count("pk"))
    found = Webhook.objects.filter(cluster__account=account).select_related("cluster__account")
    return found.annotate(
        last_delivery=Subquery(deliveries.order_by("-pk").values("created_at")[:1]),
        waiting=Coalesce(Subquery(waiting.values("rows"), output_field=IntegerField()), 0),
    ).order_by("cluster__cluster_id", "pk")


def webhooks_in_trouble(account: Account) -> list[Row]:
    """Return the webhooks of an account that have failed for a while, or were switched off because they failed."""
    fails = Q(enabled=True, failures__gte=schedule.PROBE_AFTER)
    return [
        row_of(webhook) for webhook in webhooks_of(account).filter(fails | Q(enabled=False) & ~Q(disabled_because=""))
    ]


def row_of(webhook: Webhook) -> Row:
    """Return a webhook with what a list shows of it."""
    return Row(webhook, name_of(webhook), events_of(webhook), state_of(webhook))


def state_of(webhook: Webhook) -> str:
    """Return "suspended", "off", "failing" or "healthy"."""
    if webhook.cluster.account.suspended:
        return "suspended"
    if not webhook.enabled:
        return "off"
    return "failing" if webhook.failures else "healthy"


def is_probed(webhook: Webhook) -> bool:
    """Return whether a webhook has failed so often that it gets only one request a minute."""
    return bool(webhook.failures >= schedule.PROBE_AFTER)


def events_of(webhook: Webhook) -> str:
    """Return the events that a webhook is sent, such as "Channel occupied, channel vacated"."""
    names = [label for kind, label in WebhookKind.choices if kind in webhook.kinds]
    text = ", ".join(map(str.lower, names))
    return text[:1].upper() + text[1:]


def signing_key_of(webhook: Webhook) -> ApiKey | None:
    """Return the API key whose secret signs for Pusher's libraries; None if the cluster has no active key."""
    active = ApiKey.objects.filter(cluster=webhook.cluster_id, revoked_at=None)
    chosen = active.filter(public_key=webhook.signing_key).first() if webhook.signing_key else None
    return chosen or active.order_by("pk").first()
