"""What accounts says of access, applied to the connections that are open: on this node, and told to all others."""

import asyncio
import logging
from typing import Any

from asgiref.sync import async_to_sync
from channels.db import database_sync_to_async
from channels.layers import InMemoryChannelLayer, get_channel_layer
from django.conf import settings
from django.db import Error as DatabaseError

from accounts.access import find_many

from .admission import why_not
from .bus import CONTROL_GROUP
from .limits import account_user, key_user
from .node import Node, reactions, running_node
from .shares import of_user_everywhere

logger = logging.getLogger(__name__)

# How long the person who changes something waits for the channel layer, in seconds.
TELL_SECONDS = 2.0
RETRY_SECONDS = 1.0
EVENT = "access.changed"


def on_access_changed(sender: object, **change: Any) -> None:
    """Receive the signal of accounts, in whatever thread or process the change was made."""
    event = {"type": EVENT, **{name: change[name] for name in ("account_id", "cluster_pk", "public_key")}}
    node = running_node()
    if node is not None:
        node.call(node.react, event)
    layer = get_channel_layer()
    if not isinstance(layer, InMemoryChannelLayer):
        try:
            async_to_sync(_tell)(layer, event)
        except Exception as error:
            logger.error("Other nodes could not be told of a change of access; they learn of it late: %s", error)


def count_connections(*, account_id: int | None = None, public_key: str | None = None) -> int:
    """How many connections of an account or of a key are open on all nodes. Any thread, any process."""
    user = key_user(public_key) if public_key is not None else account_user(account_id or 0)
    node = running_node()
    if node is not None:
        return node.shares.of_user(user)
    return of_user_everywhere(settings.REDIS_URL, user) if settings.REDIS_URL else 0


async def _tell(layer: Any, event: dict[str, Any]) -> None:
    async with asyncio.timeout(TELL_SECONDS):
        await layer.group_send(CONTROL_GROUP, event)


_tasks: set[asyncio.Task[None]] = set()  # the loop itself keeps no task alive


def apply(node: Node, event: dict[str, Any]) -> None:
    """Forget what is known of the keys concerned, and check their open connections anew. Loop thread only."""
    scope = {name: event[name] for name in ("account_id", "cluster_pk", "public_key")}
    node.keys.forget(**scope)
    task = asyncio.create_task(_recheck(node, **scope))
    _tasks.add(task)
    task.add_done_callback(_tasks.discard)


reactions[EVENT] = apply


async def _recheck(node: Node, account_id: int | None, cluster_pk: int | None, public_key: str | None) -> None:
    concerned = [
        connection
        for connection in node.connections
        if (access := connection.admission.access).public_key == public_key
        or access.account_id == account_id
        or access.cluster_pk == cluster_pk
    ]
    if not concerned:
        return
    keys = {connection.admission.access.public_key for connection in concerned}
    while True:
        try:
            known = await database_sync_to_async(find_many)(keys)
            break
        except DatabaseError as error:
            logger.error("A change of access cannot be applied yet, since the database is out of reach: %s", error)
            await asyncio.sleep(RETRY_SECONDS)
    for connection in concerned:
        admission = connection.admission
        access = known.get(admission.access.public_key)
        refusal = why_not(access, admission.channel_id, admission.origin, authenticated=admission.authenticated)
        if refusal is not None:
            node.end(connection, refusal)
        elif access is not None:
            node.change(connection, access)
