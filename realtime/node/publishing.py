"""Messages that servers and people send to channels: whether they may, and on which node they are delivered.

Each step but `deliver` is decided without waiting. Loop thread only.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from accounts.key_access import KeyAccess
from accounts.usage import seconds_to_midnight
from realtime.node.message_quotas import DAY_USED_UP
from realtime.node.node import Node
from realtime.protocols.admission import why_off
from realtime.protocols.channels import path_of
from realtime.protocols.frames import Message
from realtime.protocols.publishing import Problem

FindPath = Callable[[str, str], str]


def check_enabled(access: KeyAccess) -> None:
    """Check that a key may be used now.

    Raises:
        Problem: the account is suspended, or the cluster is off.
    """
    if off := why_off(access):
        raise Problem(403, off.sentence)


async def deliver(
    node: Node,
    access: KeyAccess,
    messages: Sequence[tuple[str, Message]],
    find_path: FindPath = path_of,
    keep: Callable[[], Awaitable[None]] | None = None,
) -> None:
    """Publish messages, all of them or none; return when all of them are delivered here and taken by Redis.

    Args:
        node, access, messages, find_path: see `publish`.
        keep: stores what future subscribers get, when the quota allows the messages and before they are delivered.

    Raises:
        Problem: the quota does not allow as many messages today.
    """
    are_done = False
    waiter: asyncio.Future[None] | None = None

    def note_done() -> None:
        nonlocal are_done
        are_done = True
        if waiter is not None and not waiter.done():  # else the client has disconnected
            waiter.set_result(None)

    _take_quota(node, access, len(messages))
    if keep is not None:
        await keep()
    _send(node, access, messages, note_done, find_path)
    if not are_done:
        waiter = node.loop.create_future()
        await waiter


def publish(
    node: Node,
    access: KeyAccess,
    messages: Sequence[tuple[str, Message]],
    find_path: FindPath,
    on_done: Callable[[], None],
) -> None:
    """Publish messages, all of them or none.

    Args:
        node: the node.
        access: what the key allows.
        messages: the channel's group and the message of each.
        find_path: returns the path of the channel of a group in a cluster, which depends on the protocol.
        on_done: called when all of them are delivered here and taken by Redis.

    Raises:
        Problem: the quota does not allow as many messages today.
    """
    _take_quota(node, access, len(messages))
    _send(node, access, messages, on_done, find_path)


def _take_quota(node: Node, access: KeyAccess, messages: int) -> None:
    if not node.message_quotas.account(access).take(messages):
        raise Problem(429, f"{DAY_USED_UP}; nothing was sent.", (b"retry-after", b"%d" % seconds_to_midnight()))


def _send(
    node: Node,
    access: KeyAccess,
    messages: Sequence[tuple[str, Message]],
    on_done: Callable[[], None],
    find_path: FindPath,
) -> None:
    traffic = node.usage.key(access)
    traffic.messages += len(messages)
    for _, message in messages:
        traffic.bytes += len(message.wire)
    if node.watched:
        for group, message in messages:
            channel = (access.cluster_pk, find_path(group, access.cluster_id))
            node.reports.publish(channel, access.public_key, message)
    if len(messages) == 1:
        ((group, message),) = messages
        node.publish_to(group, message, access.account_id, on_done)
        return
    waiting = len(messages)

    def note_done() -> None:
        nonlocal waiting
        waiting -= 1
        if not waiting:
            on_done()

    for group, message in messages:
        node.publish_to(group, message, access.account_id, note_done)
