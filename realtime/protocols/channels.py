"""How channels are named: in URLs, when they are counted, and as groups of the channel layer."""

import hashlib
import re
from typing import Any

_NAME = "[A-Za-z0-9_-]{1,128}"
CHANNEL_PATH = re.compile(f"(?:{_NAME}/)?({_NAME})")
"""`CHANNEL_ID`, which is the group of the match, or `NAMESPACE/CHANNEL_ID`."""

Channel = tuple[int, str]
"""The cluster's primary key, and the path of the channel in it."""


def group_name(cluster_id: str, path: str) -> str:
    """The group of a channel: unique, and within what channel layers allow (under 100 of `[A-Za-z0-9._-]`).

    Args:
        cluster_id: a DNS label.
        path: `CHANNEL_ID` or `NAMESPACE/CHANNEL_ID`.
    """
    name = f"channel.{cluster_id}.{path.replace('/', '.')}"
    if len(name) < 100:
        return name
    return f"channel-hash.{hashlib.sha256(name.encode()).hexdigest()}"


def message_event(group: str, data: str | bytes) -> dict[str, Any]:
    """The channel-layer event that delivers a message to the connections of a channel.

    Args:
        group: where it is sent to; one mailbox hears of many groups, so the event has to say it.
        data: a text for a text message, bytes for a binary one.
    """
    return {"type": "channel.message", "group": group, "data": data}
