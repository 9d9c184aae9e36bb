"""The channels of PieSocket v4. They are named like those of v3, but have a space of their own in each cluster."""

from functools import lru_cache

from realtime.protocols.channels import CHANNEL_PATH, shortened

PATH_PREFIX = "v4:"
"""Begins the path of each channel of this space. Under this alone, the connections of the protocol are counted."""
MAX_NAME_LENGTH = 257
_KIND = "v4"


def path_for(name: str) -> str:
    """Return the path of a channel within its cluster, under which it is counted and shown."""
    return PATH_PREFIX + name


@lru_cache(maxsize=10_000)
def group_for(cluster_id: str, name: str) -> str:
    """Return the group of a channel.

    Args:
        cluster_id: the Cluster ID, a DNS label.
        name: the valid name of a channel: `CHANNEL_ID` or `NAMESPACE/CHANNEL_ID`.
    """
    return shortened(_KIND, f"{cluster_id}.{name.replace('/', '.')}")


def path_of(group: str, cluster_id: str) -> str:
    """Return the path of the channel that a group stands for; empty if the group has only the hash of a long name."""
    prefix = f"{_KIND}.{cluster_id}."
    return path_for(group[len(prefix) :].replace(".", "/")) if group.startswith(prefix) else ""


def read_name(channel: str | int | None) -> str | None:
    """Return the name of a channel that a client writes as a string or a number; None if there is no such channel."""
    if channel is None:
        return None
    name = str(channel)
    return name if len(name) <= MAX_NAME_LENGTH and CHANNEL_PATH.fullmatch(name) else None
