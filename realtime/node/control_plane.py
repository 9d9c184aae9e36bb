"""The interface to the control plane: it announces access changes, counts open connections and sends messages.

These functions run in any thread and any process, including processes that serve no connections, such as a management
command.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import Future
from contextvars import Context
from typing import Any, TypeVar

import msgspec
from asgiref.sync import async_to_sync
from channels.layers import InMemoryChannelLayer, get_channel_layer
from django.conf import settings
from msgspec import Raw

from accounts.access import find_access_of_people
from accounts.key_access import KeyAccess
from accounts.models import Cluster
from accounts.usage import MaybePublished, NodesState, NotPublished
from realtime.cluster import redis_queries
from realtime.cluster.bus import CONTROL_GROUP
from realtime.node import access_changes, publishing
from realtime.node.connections import message_limit
from realtime.node.message_quotas import ACCOUNTS, account_user, key_user
from realtime.node.node import Node
from realtime.node.running import running_node
from realtime.protocols import v4_channels, v4_publishing
from realtime.protocols.channels import is_channel, is_of_v3
from realtime.protocols.frames import compact_json
from realtime.protocols.publishing import Item, Problem, read_message
from realtime.protocols.pusher_channels import PATH_PREFIX, group_of_path, name_in
from realtime.protocols.pusher_events import Body, Event, read_event
from realtime.webhooks.sender import DUE

logger = logging.getLogger(__name__)

T = TypeVar("T")

# How long a page waits for what the nodes know, in seconds.
ANSWER_SECONDS = 1.0
# How long a request that changes access waits for the channel layer, in seconds.
ANNOUNCE_SECONDS = 2.0
# How long a person who sends a message waits until it is delivered, in seconds.
PUBLISH_SECONDS = 3.0


def on_access_changed(sender: object, **change: Any) -> None:
    """Apply a change of access on this node and announce it to the others; a receiver of `access_changed`."""
    names = ("account_id", "cluster_pk", "public_key")
    _tell_nodes({"type": access_changes.EVENT, **{name: change[name] for name in names}})


def on_webhooks_due(sender: object, **nothing: Any) -> None:
    """Wake the senders of webhooks on all nodes; a receiver of `webhooks_due`."""
    _tell_nodes({"type": DUE})


def _tell_nodes(event: dict[str, Any]) -> None:
    node = running_node()
    if node is not None:
        node.call(node.handle_event, event)
    layer = get_channel_layer()
    if not isinstance(layer, InMemoryChannelLayer):
        try:
            async_to_sync(_announce)(layer, event)
        except Exception as error:
            logger.error("Cannot announce a change; other nodes notice it late: %s", error)


def count_connections(
    *, account_ids: Sequence[int] = (), public_keys: Sequence[str] = (), cluster_pks: Sequence[int] = ()
) -> list[int]:
    """Return how many connections are open on all nodes: of each of these accounts, then keys, then clusters."""
    users = [*map(account_user, account_ids), *map(key_user, public_keys)]
    redis, node = _redis(), running_node()
    if redis is not None:
        return [
            *redis_queries.of_users_everywhere(*redis, users),
            *redis_queries.of_clusters_everywhere(*redis, cluster_pks),
        ]
    if node is None:
        return [0] * (len(users) + len(cluster_pks))
    return [*map(node.counts.of_user, users), *map(node.counts.of_cluster_here, cluster_pks)]


def known_connections(
    *,
    account_ids: Sequence[int] = (),
    public_keys: Sequence[str] = (),
    cluster_pks: Sequence[int] = (),
    seconds: float,
) -> list[int] | None:
    """Return the same as `count_connections`, or None if not all nodes can be counted within some seconds."""
    if not settings.REDIS_URLS:
        return count_connections(account_ids=account_ids, public_keys=public_keys, cluster_pks=cluster_pks)
    redis = _redis()
    if redis is None:
        return None
    users = [*map(account_user, account_ids), *map(key_user, public_keys)]
    return redis_queries.of_all_known(*redis, users, cluster_pks, seconds)


def publish(cluster: Cluster, channel: str, message: str) -> int:
    """Send a text message to a channel on all nodes, and return to how many connections.

    Raises:
        NotPublished: the message was not sent.
        MaybePublished: the message may not have been sent.
    """
    node, access = running_node(), find_access_of_people(cluster.pk)
    if node is None or access is None:
        raise NotPublished("This process cannot send messages." if node is None else "This cluster was deleted.")
    answer: Future[int] = Future()
    node.call(_publish, node, access, channel, message, answer)
    try:
        return answer.result(PUBLISH_SECONDS)
    except Problem as problem:
        raise NotPublished(str(problem)) from None
    except TimeoutError:
        raise MaybePublished("The message may not have been sent, because the server did not answer.") from None


def _publish(node: Node, access: KeyAccess, channel: str, message: str, answer: "Future[int]") -> None:
    """Publish a message, and then set the answer to the number of its receivers or to a `Problem`."""
    try:
        publishing.check_enabled(access)
        if channel.startswith(PATH_PREFIX):
            ((group, content),) = _event(channel, message, access).messages
        else:
            name = channel.removeprefix(v4_channels.PATH_PREFIX)
            item = Item(channelId=Raw(msgspec.json.encode(name)), message=Raw(msgspec.json.encode(message)))
            read = read_message if is_of_v3(channel) else v4_publishing.read_message
            group, content = read(item, access.cluster_id, message_limit(access))
        place = (access.cluster_pk, channel)
        publishing.publish(
            node,
            access,
            [(group, content)],
            find_path=lambda *_: channel,
            on_done=lambda: node.counts.count(place, answer.set_result),
        )
    except Problem as problem:
        answer.set_exception(problem)


def _event(channel: str, message: str, access: KeyAccess) -> Event:
    """Return what clients of Pusher's protocol get of a message from a person."""
    name, data = Raw(msgspec.json.encode(name_in(channel))), Raw(msgspec.json.encode(message))
    body = Body(name=Raw(b'"message"'), channel=name, data=data)
    return read_event(body, access.cluster_id, message_limit(access))


def channels(cluster_pk: int) -> dict[str, int]:
    """Return the number of connections to each channel of a cluster on all nodes, by the channel's path.

    Raises:
        TimeoutError: the nodes do not answer now.
    """

    async def ask(node: Node) -> dict[str, int]:
        counted = await node.counts.of_cluster(cluster_pk)
        return {path: count for path, count in counted.items() if is_channel(path)}

    return _ask(ask, {})


def connections(cluster_id: str, channel: str) -> list[dict[str, Any]]:
    """Return some of the connections to a channel on all nodes: `id`, `user`, `public_key`, `address` and `since`.

    Raises:
        TimeoutError: the nodes do not answer now.
    """
    nothing: list[dict[str, Any]] = []
    return _ask(lambda node: node.inquiries.connections(group_of_path(cluster_id, channel)), nothing)


def members(cluster_id: str, channel: str) -> list[str]:
    """Return the members of presence of a channel on all nodes, each as JSON with its `uuid` and `user`.

    Raises:
        TimeoutError: the nodes do not answer now.
    """

    async def ask(node: Node) -> list[str]:
        group = group_of_path(cluster_id, channel)
        members = await node.presence.members(group, newest_is_listed=is_of_v3(channel))
        if channel.startswith(PATH_PREFIX):
            return [f'{{"uuid":{compact_json(identity.uuid)},"user":{identity.json}}}' for identity in members]
        return [identity.json for identity in members]

    return _ask(ask, [])


def disconnect(cluster_id: str, channel: str, connection_id: str) -> bool:
    """Close a connection to a channel, on whichever node it is; return whether it was found.

    Raises:
        TimeoutError: the nodes do not answer now.
    """
    return _ask(lambda node: node.inquiries.disconnect(group_of_path(cluster_id, channel), connection_id), False)


def nodes_state() -> NodesState:
    """Return the state of all nodes, or of this one while Redis is unreachable."""
    redis, node = _redis(), running_node()
    everywhere = redis_queries.of_all_everywhere(*redis, ACCOUNTS) if redis is not None else None
    here = (0, 0) if node is None else (1, len(node.connections))
    nodes, connections = everywhere or here
    return NodesState(
        nodes=nodes,
        connections=connections,
        redis_is_reachable=everywhere is not None if settings.REDIS_URLS else None,
        loop_lag_seconds=None if node is None else node.lag.seconds,
    )


def _ask(question: Callable[[Node], Awaitable[T]], otherwise: T) -> T:
    """Return what the node of this process answers; `otherwise` if it serves no connections.

    Raises:
        TimeoutError: it does not answer within `ANSWER_SECONDS`.
    """
    node = running_node()
    if node is None:
        return otherwise

    async def answer() -> T:
        return await question(node)

    # In the context of this thread, database calls would be bound to it.
    asked = Context().run(asyncio.run_coroutine_threadsafe, answer(), node.loop)
    try:
        return asked.result(ANSWER_SECONDS)
    except TimeoutError:
        asked.cancel()
        raise


def _redis() -> tuple[str, str] | None:
    """Return the URL and the prefix of the Redis to ask; None if there is none or this node cannot reach it."""
    node = running_node()
    if not settings.REDIS_URLS or (node is not None and not node.counts.is_reachable):
        return None
    return settings.REDIS_URLS[0], settings.REDIS_PREFIX


async def _announce(layer: Any, event: dict[str, Any]) -> None:
    async with asyncio.timeout(ANNOUNCE_SECONDS):
        await layer.group_send(CONTROL_GROUP, event)
