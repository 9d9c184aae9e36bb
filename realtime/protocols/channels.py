"""Names of channels: in URLs, in connection counts, and as groups of the channel layer."""

import hashlib
import re
from typing import Any

_NAME = "[A-Za-z0-9_-]{1,128}"
CHANNEL_PATH = re.compile(f"(?:{_NAME}/)?({_NAME})")
"""`CHANNEL_ID` or `NAMESPACE/CHANNEL_ID`. The channel ID is the group of the match."""

Channel = tuple[int, str]
"""The primary key of the cluster, and the path of the channel within it."""


MESSAGE_EVENT = "channel.message"
"""The type of the channel-layer event that delivers a message."""


def is_private(path: str) -> bool:
    """Return whether a channel requires a JWT: its ID or its namespace begins with `private-`."""
    return any(name.startswith("private-") for name in path.split("/"))


def group_name(cluster_id: str, path: str) -> str:
    """Return the group of a channel: unique, and valid for channel layers (under 100 characters of `[A-Za-z0-9._-]`).

    Args:
        cluster_id: the Cluster ID, a DNS label.
        path: `CHANNEL_ID` or `NAMESPACE/CHANNEL_ID`.
    """
    name = f"channel.{cluster_id}.{path.replace('/', '.')}"
    if len(name) < 100:
        return name
    return f"channel-hash.{hashlib.sha256(name.encode()).hexdigest()}"


def path_of(group: str, cluster_id: str) -> str:
    """Return the path of the channel that a group stands for; empty if the group has only the hash of a long path."""
    prefix = f"channel.{cluster_id}."
    return group[len(prefix) :].replace(".", "/") if group.startswith(prefix) else ""


def message_event(group: str, data: str | bytes) -> dict[str, Any]:
    """Return the channel-layer event that delivers a message to the connections of a channel.

    Args:
        group: the group of the channel. The event contains it, since one mailbox receives from many groups.
        data: a string for a text message, bytes for a binary one.
    """
    return {"type": MESSAGE_EVENT, "group": group, "data": data}
