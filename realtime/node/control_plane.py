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

from realtime.cluster.bus import CONTROL_GROUP
from realtime.cluster.redis_queries import of_users_everywhere
from realtime.node import access_changes
from realtime.node.message_quotas import account_user, key_user
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


def count_connections(*, account_ids: Sequence[int] = (), public_keys: Sequence[str] = ()) -> list[int]:
    """Return how many connections are open on all nodes: of each of these accounts, and then of each of these keys."""
    users = [*map(account_user, account_ids), *map(key_user, public_keys)]
    node = running_node()
    if settings.REDIS_URLS and (node is None or node.counts.is_reachable):
        return of_users_everywhere(settings.REDIS_URLS[0], settings.REDIS_PREFIX, users)
    return [node.counts.of_user(user) if node is not None else 0 for user in users]


async def _announce(layer: Any, event: dict[str, Any]) -> None:
    async with asyncio.timeout(ANNOUNCE_SECONDS):
        await layer.group_send(CONTROL_GROUP, event)
