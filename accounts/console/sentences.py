"""Sentences for the entries of the audit log."""

import re
from collections.abc import Callable
from datetime import UTC
from typing import Any

from django.utils.dateparse import parse_datetime

from accounts.audit import public_author
from accounts.models import AuditEntry, AuditSource, AuditVerb, ResourceKind, WebhookKind

from . import numbers

_NAMES = {
    ResourceKind.ACCOUNT: "the account",
    ResourceKind.MEMBER: "the member",
    ResourceKind.INVITATION: "the invitation of",
    ResourceKind.CLUSTER: "the cluster",
    ResourceKind.KEY: "the API key",
    ResourceKind.WEBHOOK: "the webhook",
    ResourceKind.TOKEN: "the API token",
}
_FIELDS = {
    "max_connections": "quota of connections",
    "max_message_bytes": "largest message in bytes",
    "max_messages_per_second": "messages a second",
    "max_messages_per_day": "messages a day",
    "max_clusters": "quota of clusters",
    "max_keys": "quota of API keys",
    "max_members": "quota of people",
    "max_webhooks": "quota of webhooks",
    "protects_channels": "every channel needs a JWT",
    "allows_client_messages": "clients may send messages",
    "closes_expired_connections": "close connections when their JWT expires",
    "sends_quota_notices": "e-mails about quotas",
    "sends_subscription_counts": "subscription counts",
    "sends_watchlist_events": "watchlist events",
    "closes_unauthorized_connections": "close unauthorized connections",
    "url": "URL",
    "kinds": "events",
    "channel_prefix": "beginning of channel IDs",
    "signing_key": "key for Pusher’s libraries",
    "headers": "extra headers",
}
_SWITCHED = {"enabled", "reason"}


def sentence_of(entry: AuditEntry) -> str:
    """Return what was done, such as "Changed the API key Web shop: label from “web” to “Web shop”."."""
    special = _special(entry)
    if special:
        return f"{special}."
    begin = f"{entry.get_verb_display().capitalize()} {thing_of(entry)}"
    if entry.verb == AuditVerb.CREATED:
        return f"{begin}."
    changes = "; ".join(_change(name, old, new) for name, (old, new) in entry.changes.items() if old != new)
    return f"{begin}: {changes}." if changes else f"{begin}."


def author_of(entry: AuditEntry) -> str:
    """Return who made a change, as tenants may know it: an e-mail address, "an operator" or "this service"."""
    if entry.source == AuditSource.AUTOMATIC:
        return "this service"
    return public_author(entry) or "an operator"


def thing_of(entry: AuditEntry) -> str:
    """Return what an entry is about, such as "the API key Web shop (q7RkV2nZ…)"."""
    kind = ResourceKind(entry.kind)
    name = entry.name if kind in (ResourceKind.MEMBER, ResourceKind.INVITATION) else entry.label
    of_kind = _NAMES.get(kind, f"the {kind.label}")
    if kind == ResourceKind.WEBHOOK:
        name = _without_query(name)
    return of_kind if kind == ResourceKind.ACCOUNT else f"{of_kind} {name}"


def _special(entry: AuditEntry) -> str | None:
    """Return a sentence for what people do most often; None for all else."""
    name, is_own = entry.name, entry.name == public_author(entry)
    old, new = next(iter(entry.changes.values()), (None, None))
    sentences: dict[tuple[str, str], Callable[[], str]] = {
        (ResourceKind.ACCOUNT, AuditVerb.CREATED): lambda: f"Created the account {entry.label}",
        (ResourceKind.MEMBER, AuditVerb.CREATED): lambda: f"Joined as {new}" if is_own else f"Added {name} as {new}",
        (ResourceKind.MEMBER, AuditVerb.CHANGED): lambda: f"Changed the role of {name} from {old} to {new}",
        (ResourceKind.MEMBER, AuditVerb.DELETED): lambda: "Left the account" if is_own else f"Removed {name}",
        (ResourceKind.INVITATION, AuditVerb.CREATED): lambda: f"Invited {name} as {new}",
        (ResourceKind.CLUSTER, AuditVerb.PUBLISHED): lambda: f"Sent a message to the channel {new} of {name}",
        (ResourceKind.KEY, AuditVerb.CREATED): lambda: f"Issued {thing_of(entry)}",
        (ResourceKind.KEY, AuditVerb.ROTATED): lambda: f"Rotated the secret of {thing_of(entry)}{_end(new)}",
        (ResourceKind.KEY, AuditVerb.ENDED): lambda: f"Ended the old secret of {thing_of(entry)}",
        (ResourceKind.WEBHOOK, AuditVerb.CREATED): lambda: f"Added {thing_of(entry)}",
        (ResourceKind.WEBHOOK, AuditVerb.ROTATED): lambda: f"Rotated the secret of {thing_of(entry)}{_end(new)}",
        (ResourceKind.WEBHOOK, AuditVerb.ENDED): lambda: f"Ended the old secret of {thing_of(entry)}",
        (ResourceKind.WEBHOOK, AuditVerb.TESTED): lambda: f"Sent a test event to {thing_of(entry)}",
        (ResourceKind.WEBHOOK, AuditVerb.RESENT): lambda: f"Sent {_deliveries(new)} of {thing_of(entry)} again",
    }
    if (entry.kind, entry.verb) == (ResourceKind.CLUSTER, AuditVerb.CHANGED) and list(entry.changes) == ["enabled"]:
        return f"Switched the cluster {name} {'on' if new else 'off'}"
    if (entry.kind, entry.verb) == (ResourceKind.ACCOUNT, AuditVerb.CHANGED) and list(entry.changes) == ["name"]:
        return f"Renamed the account from {_text(old)} to {_text(new)}"
    if (entry.kind, entry.verb) == (ResourceKind.WEBHOOK, AuditVerb.CHANGED) and set(entry.changes) <= _SWITCHED:
        because = f": {reason.removesuffix('.')}" if (reason := entry.changes.get("reason", ["", ""])[1]) else ""
        return f"Switched {thing_of(entry)} {'on' if new else 'off'}{because}"
    sentence = sentences.get((entry.kind, entry.verb))
    return sentence() if sentence else None


def _deliveries(number: Any) -> str:
    return "1 delivery" if number == 1 else f"{_text(number)} deliveries"


def _end(old_secret_ends_at: Any) -> str:
    moment = parse_datetime(old_secret_ends_at) if isinstance(old_secret_ends_at, str) else None
    return f"; the old secret ends on {numbers.moment(moment.astimezone(UTC))}" if moment else ""


def _without_query(text: str) -> str:
    """Return a text without the query of a URL in it, which may contain a credential."""
    return re.sub(r"\?\S*", "", text)


def _shown(field: str, value: Any) -> Any:
    match field, value:
        case "kinds", list():
            labels = dict(WebhookKind.choices)
            return [str(labels.get(kind, kind)).lower() for kind in value]
        case "url", str():
            return _without_query(value)
        case "signing_key", str() if value:
            return f"{value[:8]}…"
        case _:
            return value


def _change(field: str, old: Any, new: Any) -> str:
    name = _FIELDS.get(field, field.replace("_", " "))
    old, new = _shown(field, old), _shown(field, new)
    if isinstance(old, list) and isinstance(new, list):
        parts = [("added", new), ("removed", old)]
        return f"{name}: {', '.join(f'{verb} {_text(items)}' for verb, items in parts if items)}"
    if isinstance(new, bool):
        return f"{name}: {_text(new)}"
    return f"{name} from {_text(old)} to {_text(new)}"


def _text(value: Any) -> str:
    match value:
        case None | "":
            return "the default"
        case bool():
            return "on" if value else "off"
        case list():
            return ", ".join(map(str, value))
        case int():
            return f"{value:,}"
        case _:
            return f"“{value}”"
