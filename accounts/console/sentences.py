"""Sentences for the entries of the audit log."""

from typing import Any

from accounts.models import AuditEntry, AuditVerb, ResourceKind

_NAMES = {
    ResourceKind.ACCOUNT: "the account",
    ResourceKind.MEMBER: "the member",
    ResourceKind.INVITATION: "the invitation of",
    ResourceKind.CLUSTER: "the cluster",
    ResourceKind.KEY: "the API key",
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
    "protects_channels": "every channel needs a JWT",
    "allows_client_messages": "clients may send messages",
    "closes_expired_connections": "close connections when their JWT expires",
    "sends_quota_notices": "e-mails about quotas",
    "old_secret_ends_at": "the old secret ends",
}


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


def thing_of(entry: AuditEntry) -> str:
    """Return what an entry is about, such as "the API key Web shop (q7RkV2nZ…)"."""
    kind = ResourceKind(entry.kind)
    name = entry.name if kind in (ResourceKind.MEMBER, ResourceKind.INVITATION) else entry.label
    return _NAMES[kind] if kind == ResourceKind.ACCOUNT else f"{_NAMES[kind]} {name}"


def _special(entry: AuditEntry) -> str | None:
    """Return a sentence for what people do most often; None for all else."""
    name, changes = entry.name, entry.changes
    is_own = entry.name == entry.email
    match entry.kind, entry.verb, list(changes):
        case ResourceKind.ACCOUNT, AuditVerb.CHANGED, ["name"]:
            return f"Renamed the account from {_text(changes['name'][0])} to {_text(changes['name'][1])}"
        case ResourceKind.ACCOUNT, AuditVerb.CREATED, _:
            return f"Created the account {entry.label}"
        case ResourceKind.MEMBER, AuditVerb.CREATED, ["role"]:
            return f"Joined as {changes['role'][1]}" if is_own else f"Added {name} as {changes['role'][1]}"
        case ResourceKind.MEMBER, AuditVerb.CHANGED, ["role"]:
            return f"Changed the role of {name} from {changes['role'][0]} to {changes['role'][1]}"
        case ResourceKind.MEMBER, AuditVerb.DELETED, _:
            return "Left the account" if is_own else f"Removed {name}"
        case ResourceKind.INVITATION, AuditVerb.CREATED, ["role"]:
            return f"Invited {name} as {changes['role'][1]}"
        case ResourceKind.CLUSTER, AuditVerb.CHANGED, ["enabled"]:
            return f"Switched the cluster {name} {'on' if changes['enabled'][1] else 'off'}"
        case ResourceKind.KEY, AuditVerb.CREATED, _:
            return f"Issued {thing_of(entry)}"
        case ResourceKind.KEY, AuditVerb.ROTATED, _:
            begin = f"Rotated the secret of {thing_of(entry)}"
            return begin if not changes else f"{begin}; {_change('old_secret_ends_at', *changes['old_secret_ends_at'])}"
    return None


def _change(field: str, old: Any, new: Any) -> str:
    name = _FIELDS.get(field, field.replace("_", " "))
    if isinstance(old, list) and isinstance(new, list):
        parts = [("added", new), ("removed", old)]
        return f"{name}: {', '.join(f'{verb} {_text(items)}' for verb, items in parts if items)}"
    if isinstance(new, bool):
        return f"{name}: {_text(new)}"
    if field == "old_secret_ends_at":
        return f"{name} at {str(new)[:16].replace('T', ' ')} UTC"
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
