"""What those are told who run a node: whether it is alive, whether it should get clients, and what it counts.

An ASGI application of its own, so that a probe needs no host name that Django knows. What all nodes depend on is shown
and makes none unready: with Redis or the database away each still serves its clients, and a proxy that took all of them
out would end the service.
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
from realtime.metrics.exposition import exposition
from realtime.node.node import Node, current_node
from realtime.protocols.frames import compact_json

Headers = Mapping[bytes, bytes]

# From what lag of the loop on a node is not ready, in seconds: a handshake takes some turns of the loop, and many
# clients give it up after ten seconds.
MAX_LAG_SECONDS = 5.0
# For how long an answer of the database is good, and how long one is waited for, in seconds. Proxies give probes a
# second in all.
DATABASE_SECONDS = 5.0
ANSWER_SECONDS = 0.5
NOT_ALLOWED = (
    "Metrics are not for this address. The operator can add it to METRICS_ALLOWED, "
    "or set METRICS_TOKEN and have it sent as a bearer token; who comes by a proxy needs the token."
)


class Health:
    """Serves `/healthz`, `/readyz` and `/metrics`, and leaves all other paths to another application."""

    def __init__(self, others: Callable[..., Awaitable[None]]) -> None:
        """
        Args:
            others: the ASGI application for all other paths.
        """
        self._others = others
        self._database = Database()
        self._answers = {"/healthz": self._tell_alive, "/readyz": self._tell_ready, "/metrics": self._tell_metrics}

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        tell = self._answers.get(scope["path"])
        if tell is None:
            await self._others(scope, receive, send)
            return
        status, content_type, body = await tell(current_node(), scope)
        await answer(send, status, body, (b"cache-control", b"no-store"), content_type=content_type)

    async def _tell_alive(self, node: Node, scope: Mapping[str, Any]) -> tuple[int, str, bytes]:
        return 200, JSON, _json({"alive": True, "version": settings.VERSION})

    async def _tell_ready(self, node: Node, scope: Mapping[str, Any]) -> tuple[int, str, bytes]:
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

    async def _tell_metrics(self, node: Node, scope: Mapping[str, Any]) -> tuple[int, str, bytes]:
        headers: Headers = dict(scope["headers"])
        if not _may_read_metrics(scope, headers):
            return 403, JSON, _json({"error": NOT_ALLOWED})
        return 200, *exposition(node, headers.get(b"accept", b"").decode("latin-1"))


class Database:
    """Whether the database answers.

    It is asked now and then, when somebody wants to know, in a thread of its own: one that hangs keeps nobody waiting.
    """

    def __init__(self) -> None:
        self._answer: asyncio.Future[bool] | None = None
        self._asked_at = 0.0

    async def is_reachable(self) -> bool:
        """Whether keys can be looked up now, or could some seconds ago."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        if self._answer is None or (self._answer.done() and now - self._asked_at > DATABASE_SECONDS):
            self._answer, self._asked_at = loop.create_future(), now
            threading.Thread(target=_ask_database, args=(loop, self._answer), daemon=True).start()
        await asyncio.wait([self._answer], timeout=max(self._asked_at + ANSWER_SECONDS - now, 0))
        return self._answer.done() and self._answer.result()


def _ask_database(loop: asyncio.AbstractEventLoop, answer: asyncio.Future[bool]) -> None:
    is_reachable = False
    try:
        with contextlib.suppress(DatabaseError):
            check_reachable()
            is_reachable = True
    finally:
        connections.close_all()
        with contextlib.suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(answer.set_result, is_reachable)


def _may_read_metrics(scope: Mapping[str, Any], headers: Headers) -> bool:
    scheme, _, token = headers.get(b"authorization", b"").partition(b" ")
    expected = conf().metrics_token.encode()
    if expected and scheme.lower() == b"bearer" and hmac.compare_digest(token.strip(), expected):
        return True
    # Who comes by a proxy on this machine has its address, and not an own one.
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
