"""The application with an additional path that reports what its process holds; for tests only."""

import asyncio
import gc
import json
import os
import threading
from collections import Counter
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from channels.layers import get_channel_layer

from piesite.asgi import application as service
from realtime.cluster.redis_connection_counts import RedisConnectionCounts
from realtime.node.running import current_node

from .watch import PATH

# Modules whose objects come and go with connections and requests.
MODULES = ("accounts.", "realtime.", "daphne.", "autobahn.", "twisted.internet.tcp", "twisted.web.http", "channels.")
# Classes whose objects are kept on purpose, in limited numbers.
KEPT = {
    "realtime.cluster.batches.Address",
    "realtime.http.pusher_api.Target",
    "realtime.node.key_cache._Entry",
    "realtime.protocols.pusher_events._Channel",
}
POOLS = ("database-", "django", "webhook-", "saved-webhook-")


async def application(
    scope: MutableMapping[str, Any],
    receive: Callable[[], Awaitable[dict[str, Any]]],
    send: Callable[[dict[str, Any]], Awaitable[None]],
) -> None:
    if scope.get("path") != PATH:
        await service(scope, receive, send)
        return
    if scope["query_string"] != b"without-collection":
        gc.collect()
    body = json.dumps(held()).encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]})
    await send({"type": "http.response.body", "body": body})


def held() -> dict[str, int]:
    """Return how many of each resource this process holds, including the connection that asks."""
    node = current_node()
    bus, counted, presence = node.bus, node.counts, node.presence
    counts = {
        "connections": len(node.connections),
        "rooms": len(node.hub.rooms),
        "rosters": len(presence._rosters),
        "members in presence": len(presence._members),
        "channels counted": sum(len(paths) for paths in counted._channels.values()),
        "users signed in": len(node.watchlists._visits) + len(node.users._connections),
        "users watched": len(node.watchlists._watched),
        "sockets known": len(node.sockets),
        "users counted": len(counted._users),
        "accounts in use": len(node.message_quotas._accounts),
        "groups joined": len(getattr(bus, "_joins", ())),
        "groups of the layer": len(getattr(get_channel_layer(), "groups", ())),
        "keys being asked for": len(node.keys._loading),
        "tasks": len(asyncio.all_tasks()),
        # Pools have a fixed size, and start their threads and connections when they first need them.
        "threads": sum(not thread.name.startswith(POOLS) for thread in threading.enumerate()),
        "sockets": sum(_is_socket(name) for name in os.listdir("/proc/self/fd")) - _pooled(counted),
    }
    kinds = Counter(f"{type(item).__module__}.{type(item).__qualname__}" for item in gc.get_objects())
    objects = {name: count for name, count in sorted(kinds.items()) if name.startswith(MODULES) and name not in KEPT}
    return counts | {f"objects: {name}": count for name, count in objects.items()}


def _pooled(counted: object) -> int:
    """Return how many connections a node's client of Redis has."""
    if not isinstance(counted, RedisConnectionCounts):
        return 0
    pool: Any = counted.client.redis.connection_pool
    return sum(each.is_connected for each in [*pool._available_connections, *pool._in_use_connections])


def _is_socket(name: str) -> bool:
    try:
        return os.readlink(f"/proc/self/fd/{name}").startswith("socket:")
    except FileNotFoundError:
        return False
