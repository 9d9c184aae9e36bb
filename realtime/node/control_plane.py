"""The interface to the control plane: it announces access changes and asks how many connections are open.

These functions run in any thread and any process, including processes that serve no connections, such as a management
command.
"""

import asyncio
import logging
from collections.abc import Sequence
from typing import Any

from asgiref.sync import async_to_sync
from channels.layers import InMemoryChannelLayer, get_channel_layer
from django.conf import settings

from accounts.usage import NodesState
from realtime.cluster import redis_queries
from realtime.cluster.bus import CONTROL_GROUP
from realtime.node import access_changes
from realtime.node.message_quotas import ACCOUNTS, account_user, key_user
from realtime.node.node import running_node

logger = logging.getLogger(__name__)

# How long a request that changes access waits for the channel layer, in seconds.
ANNOUNCE_SECONDS = 2.0


def on_access_changed(sender: object, **change: Any) -> None:
    """Apply a change of access on this node and announce it to the others; a receiver of `access_changed`."""
    event = {
        "type": access_changes.EVENT,
        **{name: change[name] for name in ("account_id", "cluster_pk", "public_key")},
    }
    node = running_node()
    if node is not None:
        node.call(node.handle_event, event)
    layer = get_channel_layer()
    if not isinstance(layer, InMemoryChannelLayer):
        try:
            async_to_sync(_announce)(layer, event)
        except Exception as error:
            logger.error("Cannot announce a change of access; other nodes notice it late: %s", error)


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


def _redis() -> tuple[str, str] | None:
    """Return the URL and the prefix of the Redis to ask; None if there is none or this node cannot reach it."""
    node = running_node()
    if not settings.REDIS_URLS or (node is not None and not node.counts.is_reachable):
        return None
    return settings.REDIS_URLS[0], settings.REDIS_PREFIX


async def _announce(layer: Any, event: dict[str, Any]) -> None:
    async with asyncio.timeout(ANNOUNCE_SECONDS):
        await layer.group_send(CONTROL_GROUP, event)
