"""The channels of a cluster now, as the data plane knows them: their connections and the members of presence."""

import contextlib
import json
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Any, NamedTuple

from . import usage
from .models import ApiKey, Cluster

LARGEST = 6
"""How many channels a page lists before somebody searches."""


class Unknown(Exception):
    """The nodes do not answer now."""


class ChannelCount(NamedTuple):
    """A channel and its open connections."""

    path: str
    connections: int


class OpenConnection(NamedTuple):
    """An open connection."""

    id: str
    user: str
    key: ApiKey | None
    """None if it was deleted meanwhile."""
    address: str
    since: datetime


class Member(NamedTuple):
    """A member of presence."""

    uuid: str
    user: str


def channels_of(cluster: Cluster, search: str = "") -> list[ChannelCount]:
    """Return the channels of a cluster with connections, the largest first.

    Args:
        cluster: the cluster.
        search: a part of the channel's ID and namespace.

    Raises:
        Unknown: the nodes do not answer now.
    """
    data_plane = usage.data_plane()
    if data_plane is None:
        return []
    with _unknown_after_timeout():
        counts = data_plane.channels(cluster.pk)
    found = (ChannelCount(path, count) for path, count in counts.items() if search.lower() in path.lower())
    return sorted(found, key=lambda channel: (-channel.connections, channel.path))


def connections_to(cluster: Cluster, channel: str) -> list[OpenConnection]:
    """Return some of the connections to a channel, oldest first.

    Raises:
        Unknown: the nodes do not answer now.
    """
    data_plane = usage.data_plane()
    if data_plane is None:
        return []
    with _unknown_after_timeout():
        rows = data_plane.connections(cluster.cluster_id, channel)
    keys = _keys(cluster, {row["public_key"] for row in rows})
    return [
        OpenConnection(
            row["id"],
            row["user"],
            keys.get(row["public_key"]),
            row["address"],
            datetime.fromtimestamp(row["since"], UTC),
        )
        for row in rows
    ]


def members_of(cluster: Cluster, channel: str) -> list[Member]:
    """Return the members of presence of a channel.

    Raises:
        Unknown: the nodes do not answer now.
    """
    data_plane = usage.data_plane()
    if data_plane is None:
        return []
    with _unknown_after_timeout():
        members = [json.loads(member) for member in data_plane.members(cluster.cluster_id, channel)]
    return [Member(member["uuid"], _text(member["user"])) for member in members]


def disconnect(cluster: Cluster, channel: str, connection_id: str) -> bool:
    """Close a connection; return whether it was still open.

    Raises:
        Unknown: the nodes do not answer now.
    """
    data_plane = usage.data_plane()
    with _unknown_after_timeout():
        return data_plane is not None and data_plane.disconnect(cluster.cluster_id, channel, connection_id)


@contextlib.contextmanager
def _unknown_after_timeout() -> Iterator[None]:
    try:
        yield
    except TimeoutError:
        raise Unknown from None


def _keys(cluster: Cluster, public_keys: Iterable[str]) -> dict[str, ApiKey]:
    return {key.public_key: key for key in cluster.keys.filter(public_key__in=public_keys)}


def _text(user: Any) -> str:
    return user if isinstance(user, str) else json.dumps(user, ensure_ascii=False)
