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
from .bus import CONTROL_GROUP, INTERRUPTED
from .limits import account_user, key_user
from .node import Connection, Node, reactions, running_node
from .redis_shares import of_user_everywhere

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
    if settings.REDIS_URLS and (node is None or node.shares.is_reachable):
        return of_user_everywhere(settings.REDIS_URLS[0], user)
    return node.shares.of_user(user) if node is not None else 0


async def _tell(layer: Any, event: dict[str, Any]) -> None:
    async with asyncio.timeout(TELL_SECONDS):
        await layer.group_send(CONTROL_GROUP, event)


_concerned: set[Connection] = set()  # to be checked anew
_tasks: set[asyncio.Task[None]] = set()  # the loop itself keeps no task alive


def apply(node: Node, event: dict[str, Any]) -> None:
    """Forget what is known of the keys concerned, and check their open connections anew. Loop thread only."""
    scope = {name: event[name] for name in ("account_id", "cluster_pk", "public_key")}
    node.keys.forget(**scope)
    _begin_recheck(
        node,
        [
            connection
            for connection in node.connections
            if (access := connection.admission.access).public_key == scope["public_key"]
            or access.account_id == scope["account_id"]
            or access.cluster_pk == scope["cluster_pk"]
        ],
    )


def make_good(node: Node, event: dict[str, Any]) -> None:
    """Look at everything anew, since other nodes may have told of changes that were not heard. Loop thread only."""
    node.presence.compare()
    node.keys.forget_all()
    _begin_recheck(node, list(node.connections))


reactions[EVENT] = apply
reactions[INTERRUPTED] = make_good


def _begin_recheck(node: Node, concerned: list[Connection]) -> None:
    _concerned.update(concerned)
    if _concerned and all(task.done() for task in _tasks):
        task = asyncio.create_task(_recheck(node))
        _tasks.add(task)
        task.add_done_callback(_tasks.discard)


async def _recheck(node: Node) -> None:
    """Check the access of all connections concerned, until none is left; one task, however often access changes."""
    reachable = True
    while _concerned:
        concerned = set(_concerned)
        _concerned.clear()
        try:
            known = await database_sync_to_async(find_many)({one.admission.access.public_key for one in concerned})
        except DatabaseError as error:
            if reachable:
                logger.error("A change of access cannot be applied yet, since the database is out of reach: %s", error)
            reachable = False
            _concerned.update(concerned)
            await asyncio.sleep(RETRY_SECONDS)
            continue
        for connection in concerned:
            admission = connection.admission
            access = known.get(admission.access.public_key)
            refusal = why_not(access, admission.channel_id, admission.origin, authenticated=admission.authenticated)
            if refusal is not None:
                node.end(connection, refusal)
            elif access is not None:
                node.change(connection, access)
