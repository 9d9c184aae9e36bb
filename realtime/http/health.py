"""Endpoints for administrators: whether a node is alive, whether it should receive clients, and its metrics.

This is a separate ASGI application, so probes do not need a host name that Django allows. The state of Redis and the
database is reported but does not affect readiness: without them every node still serves its clients, and if a proxy
removed all nodes, the whole service would be down.
"""

import asyncio
import contextlib
import hmac
import threading
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from ipaddress import IPv6Address, ip_address
from typing import Any

from django.conf import settings
from django.db import Error as DatabaseError
from django.db import connections

from accounts.access import check_reachable
from realtime.base.asgi import JSON, Receive, Send, answer
from realtime.conf import conf
from realtime.metrics.exposition import render_metrics
from realtime.node.node import Node
from realtime.node.running import current_node
from realtime.protocols.frames import compact_json

Headers = Mapping[bytes, bytes]

# From which loop lag on a node is not ready, in seconds. A handshake takes several loop iterations, and many clients
# give up after ten seconds.
MAX_LAG_SECONDS = 5.0
# How long the result of a database check is valid, in seconds.
DATABASE_SECONDS = 5.0
# How long a probe waits for the database, in seconds. Proxies often give a probe one second in all.
ANSWER_SECONDS = 0.5
NOT_ALLOWED = (
    "This address may not read the metrics. The administrator can add it to METRICS_ALLOWED, "
    "or set METRICS_TOKEN, which clients send as a bearer token. Requests through a proxy need the token."
)


class Health:
    """Serves `/healthz`, `/readyz` and `/metrics`, and passes all other requests to another application."""

    def __init__(self, next_application: Callable[..., Awaitable[None]]) -> None:
        """
        Args:
            next_application: the ASGI application for all other paths.
        """
        self._next_application = next_application
        self._database = DatabaseProbe()
        self._handlers = {"/healthz": self._liveness, "/readyz": self._readiness, "/metrics": self._metrics}

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        handler = self._handlers.get(scope["path"])
        if handler is None:
            await self._next_application(scope, receive, send)
            return
        status, content_type, body = await handler(current_node(), scope)
        await answer(send, status, body, (b"cache-control", b"no-store"), content_type=content_type)

    async def _liveness(self, node: Node, scope: Mapping[str, Any]) -> tuple[int, str, bytes]:
        return 200, JSON, _json({"alive": True, "version": settings.VERSION})

    async def _readiness(self, node: Node, scope: Mapping[str, Any]) -> tuple[int, str, bytes]:
        lag = node.lag.seconds
        ready = not node.is_draining and lag < MAX_LAG_SECONDS
        content = {
            "ready": ready,
            "draining": node.is_draining,
            "loop_lag_seconds": round(lag, 3),
            "database": await self._database.is_reachable(),
            "redis": node.redis_is_reachable,
        }
        return 200 if ready else 503, JSON, _json(content)

    async def _metrics(self, node: Node, scope: Mapping[str, Any]) -> tuple[int, str, bytes]:
        headers: Headers = dict(scope["headers"])
        if not _may_read_metrics(scope, headers):
            return 403, JSON, _json({"error": NOT_ALLOWED})
        return 200, *render_metrics(node, headers.get(b"accept", b"").decode("latin-1"))


class DatabaseProbe:
    """Checks whether the database answers.

    A check runs on demand, at most every `DATABASE_SECONDS`, in a separate thread: a database that hangs blocks no one.
    """

    def __init__(self) -> None:
        self._answer: asyncio.Future[bool] | None = None
        self._checked_at = 0.0

    async def is_reachable(self) -> bool:
        """Return whether keys could be looked up by the latest check, which is at most some seconds old."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        if self._answer is None or (self._answer.done() and now - self._checked_at > DATABASE_SECONDS):
            self._answer, self._checked_at = loop.create_future(), now
            threading.Thread(target=_check_database, args=(loop, self._answer), daemon=True).start()
        await asyncio.wait([self._answer], timeout=max(self._checked_at + ANSWER_SECONDS - now, 0))
        return self._answer.done() and self._answer.result()


def _check_database(loop: asyncio.AbstractEventLoop, answer: asyncio.Future[bool]) -> None:
    is_reachable = False
    try:
        with contextlib.suppress(DatabaseError):
            check_reachable()
            is_reachable = True
    finally:
        connections.close_all()
        with contextlib.suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(answer.set_result, is_reachable)


def _may_read_metrics(scope: Mapping[str, Any], headers: Headers) -> bool:
    scheme, _, token = headers.get(b"authorization", b"").partition(b" ")
    expected = conf().metrics_token.encode()
    if expected and scheme.lower() == b"bearer" and hmac.compare_digest(token.strip(), expected):
        return True
    # A request through a proxy on this machine has the proxy's address, not the client's.
    if b"x-forwarded-for" in headers or b"forwarded" in headers or not scope.get("client"):
        return False
    try:
        address = ip_address(scope["client"][0])
    except ValueError:
        return False
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return any(address in network for network in conf().metrics_allowed)


def _json(content: Any) -> bytes:
    return compact_json(content).encode()
