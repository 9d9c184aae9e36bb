"""The channels of Pusher's protocol: their names and kinds, and where they are in this service.

They have a space of their own in each cluster: a client of another protocol never meets them, even in a channel of the
same name.
"""

import hashlib
import re
from functools import lru_cache
from typing import NamedTuple

from realtime.protocols import v4_channels
from realtime.protocols.channels import group_name

USER_PREFIX = "#server-to-user-"
"""Begins the name of the channel in which a signed-in user receives messages from servers."""
PATH_PREFIX = "pusher:"
"""Begins the path of each channel of this space. Under this alone, the connections of the protocol are counted."""
_USER_PATH_PREFIX = "pusher::"
MAX_NAME_LENGTH = 164
MAX_USER_ID_LENGTH = 128

_NAME = re.compile(rf"[A-Za-z0-9_\-=@,.;]{{1,{MAX_NAME_LENGTH}}}")
_GROUP_PREFIX = "pusher."
# The characters that the names of groups do not allow, and the one that escapes them.
_ESCAPES = {".": ".d", "=": ".e", "@": ".a", ",": ".c", ";": ".s", "#": ".h"}
_ESCAPE = str.maketrans(_ESCAPES)
_UNESCAPE = {escape: character for character, escape in _ESCAPES.items()}
_ESCAPED = re.compile(r"\..")
_IN_GROUPS = re.compile(r"[A-Za-z0-9._-]*")


class Kind(NamedTuple):
    """What the beginning of a channel's name says about the channel."""

    is_private: bool = False
    """Whether subscribing needs a signature."""
    is_encrypted: bool = False
    """Whether only its clients can read its messages."""
    is_presence: bool = False
    """Whether its subscribers see each other. Such a channel is private too."""
    is_cache: bool = False
    """Whether new subscribers get its last event."""


PUBLIC = Kind()
_KINDS = {
    "private-encrypted-cache-": Kind(is_private=True, is_encrypted=True, is_cache=True),
    "private-encrypted-": Kind(is_private=True, is_encrypted=True),
    "private-cache-": Kind(is_private=True, is_cache=True),
    "private-": Kind(is_private=True),
    "presence-cache-": Kind(is_private=True, is_presence=True, is_cache=True),
    "presence-": Kind(is_private=True, is_presence=True),
    "cache-": Kind(is_cache=True),
}


@lru_cache(maxsize=10_000)
def kind_of(name: str) -> Kind:
    """Return the kind of a channel."""
    return next((kind for prefix, kind in _KINDS.items() if name.startswith(prefix)), PUBLIC)


def is_short_enough(name: str) -> bool:
    """Return whether a name is short enough to look it up, although perhaps not valid."""
    return len(name) <= MAX_NAME_LENGTH


def is_valid_name(name: str) -> bool:
    """Return whether there can be a channel of this name."""
    if name.startswith(USER_PREFIX):
        return len(USER_PREFIX) < len(name) <= len(USER_PREFIX) + MAX_USER_ID_LENGTH
    return _NAME.fullmatch(name) is not None


def path_for(name: str) -> str:
    """Return the path of a channel within its cluster, under which it is counted and shown."""
    return PATH_PREFIX + name


def name_in(path: str) -> str:
    """Return the name of the channel that has this path."""
    return path[len(PATH_PREFIX) :]


def path_of_user(user_id: str) -> str:
    """Return the path under which the connections of a signed-in user are counted."""
    return _USER_PATH_PREFIX + user_id


@lru_cache(maxsize=10_000)
def group_for(cluster_id: str, name: str) -> str:
    """Return the group of a channel: unique, and valid for channel layers (under 100 characters of `[A-Za-z0-9._-]`).

    Args:
        cluster_id: the Cluster ID, a DNS label.
        name: the name of a channel. The cache keeps it, so it must be short enough.
    """
    group = f"{_GROUP_PREFIX}{cluster_id}.{name.translate(_ESCAPE)}"
    if len(group) < 100 and _IN_GROUPS.fullmatch(group):
        return group
    return f"pusher-hash.{hashlib.sha256(f'{cluster_id}.{name}'.encode(errors='surrogatepass')).hexdigest()}"


def path_of(group: str, cluster_id: str) -> str:
    """Return the path of the channel that a group stands for; empty if the group has only the hash of a long name."""
    prefix = f"{_GROUP_PREFIX}{cluster_id}."
    if not group.startswith(prefix):
        return ""
    return path_for(_ESCAPED.sub(lambda escape: _UNESCAPE[escape[0]], group[len(prefix) :]))


def group_of_path(cluster_id: str, path: str) -> str:
    """Return the group of a channel of any protocol, by its path."""
    if path.startswith(v4_channels.PATH_PREFIX):
        return v4_channels.group_for(cluster_id, path.removeprefix(v4_channels.PATH_PREFIX))
    return group_for(cluster_id, name_in(path)) if path.startswith(PATH_PREFIX) else group_name(cluster_id, path)


def is_group(group: str) -> bool:
    """Return whether a group is that of a channel of Pusher's protocol."""
    return group.startswith("pusher")
