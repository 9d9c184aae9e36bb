"""Whether this process is alive, and whether it should get clients: for proxies, containers and whoever watches them.

An ASGI application of its own, so that a probe needs no host name that Django knows. What all nodes depend on is shown
and makes none unready: with Redis away each still serves its clients, and a proxy that took all of them out would end
the service.
"""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from .frames import compact_json
from .node import Node, current_node

Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]


class Health:
    """Serves `/healthz` and `/readyz`, and leaves all other paths to another application."""

    def __init__(self, others: Callable[..., Awaitable[None]]) -> None:
        """
        Args:
            others: the ASGI application for all other paths.
        """
        self._others = others

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        probe = PROBES.get(scope["path"])
        if probe is None:
            await self._others(scope, receive, send)
            return
        status, content = probe(current_node())
        body = compact_json(content).encode()
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", b"%d" % len(body)),
            (b"cache-control", b"no-store"),
        ]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})


def _alive(node: Node) -> tuple[int, Any]:
    return 200, {"alive": True}


def _ready(node: Node) -> tuple[int, Any]:
    ready = not node.is_draining
    return 200 if ready else 503, {"ready": ready, "other_nodes_reachable": node.shares.is_reachable}


PROBES = {"/healthz": _alive, "/readyz": _ready}
