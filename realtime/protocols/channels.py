"""Names of channels: in URLs, in connection counts, and as groups of the channel layer."""

import hashlib
import re
from typing import Any

_NAME = "[A-Za-z0-9_-]{1,128}"
CHANNEL_PATH = re.compile(f"(?:{_NAME}/)?({_NAME})")
"""`CHANNEL_ID` or `NAMESPACE/CHANNEL_ID`. The channel ID is the group of the match."""

Channel = tuple[int, str]
"""The primary key of the cluster, and the path of the channel within it.

Each protocol has channels of its own. Outside v3, their paths begin with the name of the protocol and a colon, which
no path of v3 contains. With nothing behind the colon, a path is no channel: its subscribers are the connections of the
protocol, which may have any number of subscriptions. With another colon there, it is a user of the protocol.
"""


MESSAGE_EVENT = "channel.message"
"""The type of the channel-layer event that delivers a message."""


def is_of_v3(path: str) -> bool:
    """Return whether a channel is one of PieSocket v3."""
    return ":" not in path


def counts_connections(path: str) -> bool:
    """Return whether connections are counted under a path, not their subscriptions."""
    return path.find(":") in (-1, len(path) - 1)


def is_channel(path: str) -> bool:
    """Return whether a path is that of a channel."""
    colon = path.find(":")
    return colon == -1 or path[colon + 1 : colon + 2] not in ("", ":")


def channel_id(path: str) -> str:
    """Return the last part of a path: the ID of the channel, without protocol and namespace."""
    return path.rpartition(":")[2].rpartition("/")[2]


def is_private(path: str) -> bool:
    """Return whether a channel requires a JWT: its ID or its namespace begins with `private-`."""
    return any(name.startswith("private-") for name in path.split("/"))


def group_name(cluster_id: str, path: str) -> str:
    """Return the group of a channel: unique, and valid for channel layers (under 100 characters of `[A-Za-z0-9._-]`).

    Args:
        cluster_id: the Cluster ID, a DNS label.
        path: `CHANNEL_ID` or `NAMESPACE/CHANNEL_ID`.
    """
    return shortened("channel", f"{cluster_id}.{path.replace('/', '.')}")


def shortened(kind: str, name: str) -> str:
    """Return the group with this name, or with a hash in its place if it would be too long for channel layers."""
    group = f"{kind}.{name}"
    return group if len(group) < 100 else f"{kind}-hash.{hashlib.sha256(group.encode()).hexdigest()}"


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
