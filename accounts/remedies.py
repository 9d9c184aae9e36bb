"""What people read about a refusal: its reason, and what to change so that the client can connect.

The client itself gets a shorter sentence, because it may be anybody's.
"""

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from . import refusal_reasons
from .models import ApiKey, Cluster, Refusal
from .refused_clients import (
    CHANNEL,
    EXPIRED,
    MALFORMED,
    MISSING,
    OPTION,
    OTHER_CHANNEL,
    OTHER_CLUSTER,
    OTHER_SECRET,
    REVOKED,
)

_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://([a-z0-9.-]+(?::[0-9]{1,5})?)", re.IGNORECASE)
REASONS = tuple((reason, shown.name) for reason, shown in refusal_reasons.REASONS.items())
"""Each reason with its name for people."""
_DETAILS = {
    MISSING: "missing",
    REVOKED: "revoked",
    OTHER_CLUSTER: "of another cluster",
    EXPIRED: "expired",
    OTHER_CHANNEL: "for another channel",
    OTHER_SECRET: "signed with another secret",
    MALFORMED: "malformed",
}
_WAIT = "Clients reconnect by themselves. If this lasts, contact support."
_SENTENCES = {
    ("bad_request", CHANNEL): "Channel IDs are 1 to 128 letters, digits, hyphens and underscores.",
    ("bad_key", MISSING): "The client sends no API key. Add the option api_key to its URL.",
    ("bad_key", ""): "Check that the client sends the whole key.",
    ("bad_secret", ""): "Publish with the secret of this key.",
    ("account_suspended", ""): "Contact support.",
    ("too_many_members", ""): "Connect without presence, or use several channels.",
    ("too_many_channels", ""): "Unsubscribe from channels that are no longer needed, or open another connection.",
    ("bad_jwt", MISSING): "This channel needs a JWT. Sign one with the secret of this key.",
    ("bad_jwt", EXPIRED): "Give clients a new JWT before they reconnect.",
    ("bad_jwt", OTHER_SECRET): "Sign with the secret of this key.",
    ("bad_jwt", ""): "Sign the JWT with HS256, and give it the claims sub and exp.",
    ("bad_version", ""): "Clients need version 4, 5, 6 or 7 of Pusher’s protocol.",
    ("bad_sign_in", ""): "Sign with the secret of this key, and name a user whose id is a text.",
    ("not_authorized", ""): "The cluster closes connections that neither sign in nor join a private channel in time.",
    ("over_capacity", ""): _WAIT,
    ("restarting", ""): _WAIT,
    ("no_database", ""): _WAIT,
    ("too_many_of_address", ""): _WAIT,
    ("day_used_up", ""): "Messages are accepted again after midnight UTC. Send less, or ask for a higher quota.",
}


class Remedy(NamedTuple):
    """What to do about a refusal. A link may stand between the two parts of the sentence."""

    before: str
    link: str = ""
    after: str = ""
    target: str = ""
    """What the link leads to: "key" or "cluster"."""
    origin: str = ""
    """The origin that the link fills into the settings of the key."""

    def __str__(self) -> str:
        return f"{self.before}{self.link}{self.after}"


def label_of(reason: str, detail: str) -> str:
    """Return the reason of a refusal for people, such as "JWT not valid: expired"."""
    if reason == "bad_request" and detail in (CHANNEL, OPTION):
        return "Channel ID not valid" if detail == CHANNEL else "Option not valid"
    label, more = refusal_reasons.name_of_reason(reason), _DETAILS.get(detail)
    return label if more is None else f"{label}: {more}"


def describe(reason: str, detail: str, origin: str, facts: Mapping[str, Any]) -> str:
    """Return a line about one refusal, such as "Origin not allowed: https://staging.example.com"."""
    more = ""
    match reason:
        case "bad_origin":
            more = origin
        case "bad_jwt" if detail == OTHER_CHANNEL:
            more = facts.get("jwt_channel", "")
        case "bad_request" if detail == OPTION:
            more = facts.get("sentence", "")
        case "bad_subscription":
            more = facts["sentence"]
        case "too_big" if "bytes" in facts:
            more = f"{facts['bytes']:,} bytes, {facts['limit']:,} are allowed"
        case "too_fast" if "limit" in facts:
            more = f"{facts['rate']:,} a second, {facts['limit']:,} are allowed"
        case "quota_used_up" if "limit" in facts:
            more = f"{facts['limit']:,} of {facts['limit']:,}"
    label = label_of(reason, detail)
    return f"{label}: {more}" if more else label


def remedy_for(refusal: Refusal, cluster: Cluster | None, key: ApiKey | None) -> Remedy:
    """Return what to do about a refusal.

    Args:
        refusal: the refusal; of several for the same reason, the last.
        cluster: the cluster that the client wanted to connect to, if it still exists.
        key: its key, if it has sent a valid one that still exists.
    """
    remedy = None
    match refusal.reason:
        case "bad_request" | "bad_subscription" if refusal.detail != CHANNEL and "sentence" in refusal.facts:
            remedy = Remedy(refusal.facts["sentence"])
        case "bad_key" if key is not None:
            remedy = _about_key(refusal, key)
        case "bad_origin":
            remedy = _allow(refusal.origin)
        case "cluster_off":
            remedy = Remedy("", "Switch the cluster on", ".", "cluster" if cluster is not None else "")
        case "bad_jwt" if refusal.detail == OTHER_CHANNEL:
            jwt_channel = refusal.facts.get("jwt_channel", "")
            remedy = Remedy(f"The JWT is for {jwt_channel}; the client opened {refusal.channel}.")
        case "quota_used_up" | "too_big" | "too_fast" if "limit" in refusal.facts:
            remedy = _about_limit(refusal)
    if remedy is not None:
        return remedy
    sentence = _SENTENCES.get((refusal.reason, refusal.detail)) or _SENTENCES.get((refusal.reason, ""))
    return Remedy(sentence or "")


def _about_key(refusal: Refusal, key: ApiKey) -> Remedy | None:
    if refusal.detail == REVOKED and key.revoked_at is not None:
        day = f"{key.revoked_at.day} {key.revoked_at:%B}"
        return Remedy(f"This key was revoked on {day}. Some clients still use it.")
    if refusal.detail == OTHER_CLUSTER:
        host = refusal.facts.get("host", "another one")
        return Remedy(f"This key belongs to your cluster {key.cluster}; the client connects to {host}.")
    return None


def _about_limit(refusal: Refusal) -> Remedy:
    facts, limit = refusal.facts, f"{refusal.facts['limit']:,}"
    if refusal.reason == "quota_used_up":
        whose = "this key" if facts.get("quota") == "key" else "the account"
        return Remedy(f"{limit} of {limit} connections of {whose} were open. Close some, or ask for a higher quota.")
    if refusal.reason == "too_fast":
        return Remedy(f"The client sent {facts['rate']:,} a second; this key allows {limit}.")
    if "bytes" not in facts:
        return Remedy(f"This key allows messages of {limit} bytes.")
    return Remedy(f"The message had {facts['bytes']:,} bytes; this key allows {limit}.")


def _allow(origin: str) -> Remedy:
    match = _ORIGIN.fullmatch(origin)
    if match is None:
        return Remedy(
            f"“{origin}” cannot be allowed by name. Such pages can connect only with a key that allows all origins."
        )
    return Remedy(f"Is {origin} yours? Then ", "add it to the allowed origins", ".", "key", match[1].lower())
