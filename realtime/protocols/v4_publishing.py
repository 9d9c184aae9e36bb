"""The messages that servers publish to channels of PieSocket v4. Requests are those of `protocols.publishing`."""

from functools import lru_cache

from realtime.protocols.frames import Message, frame_size
from realtime.protocols.publishing import (
    Item,
    Problem,
    channel_json,
    check_is_complete,
    check_size,
    read_path,
    read_text,
)
from realtime.protocols.v4_channels import group_for
from realtime.protocols.v4_frames import message_for


def read_message(item: Item, cluster_id: str, max_bytes: int) -> tuple[str, Message]:
    """Return the channel's group and the message of a request.

    Args:
        item: the request.
        cluster_id: the Cluster ID of the key.
        max_bytes: the size of the largest message that the key allows, as the server has sent it.

    Raises:
        Problem: the channel or the message is missing or invalid.
    """
    check_is_complete(item)
    group, name = read_channel(item, cluster_id)
    text = read_text(item)
    check_size(frame_size(len(text) if text.isascii() else len(text.encode())), max_bytes)
    message = message_for(text, name)
    if message is None:
        raise Problem(400, "The message must not be null, which clients of PieSocket v4 cannot receive.")
    return group, message


def read_channel(item: Item, cluster_id: str) -> tuple[str, str]:
    """Return the group and the name of the channel that a request names.

    Raises:
        Problem: the channel is missing or invalid.
    """
    return _find_channel(channel_json(item), cluster_id)


@lru_cache(maxsize=10_000)
def _find_channel(value: bytes, cluster_id: str) -> tuple[str, str]:
    name = read_path(value)
    return group_for(cluster_id, name), name
