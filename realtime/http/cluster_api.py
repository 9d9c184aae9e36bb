"""The Cluster API, with which servers publish and inspect their cluster's channels (the wire contract, *Cluster API*).

Applications call it for each of their events. It is therefore a separate ASGI application without middleware, views or
threads, and it does not query the database for keys that are cached.
"""

import logging
from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from django.db import Error as DatabaseError

from accounts.key_access import KeyAccess
from realtime.base.asgi import Receive, Send, answer, sent_path
from realtime.conf import conf
from realtime.http.cluster_requests import SUCCESS, authenticate, check_enabled, check_may_parse, publish
from realtime.http.cors import PREFLIGHT, allow
from realtime.node.connections import message_limit
from realtime.node.node import Node, current_node
from realtime.protocols.frames import Message, compact_json
from realtime.protocols.handshake import origin_matches
from realtime.protocols.publishing import (
    Body,
    Credentials,
    Problem,
    read_batch,
    read_body,
    read_channel,
    read_message,
)
from realtime.server.addresses import address_limits, client_network
from realtime.server.fair_scheduling import RequestTurns

logger = logging.getLogger(__name__)

Application = Callable[..., Awaitable[None]]

# The largest body of a request that publishes nothing.
MAX_QUESTION_BYTES = 64 * 1024
# How many requests run in one iteration of the event loop, at about 150 µs each, before sockets are served again.
REQUESTS_PER_TURN = 4

NO_KEY = "Send the API key as key and its secret as secret, as JSON members or as HTTP headers."


@dataclass(frozen=True, slots=True)
class Operation:
    """The operation that a path stands for."""

    method: str
    run: Callable[[Node, KeyAccess, Body], Awaitable[bytes]]
    """Performs the operation and returns the body of the response."""
    max_body_bytes: Callable[[], int] = lambda: 0
    publishes: bool = False
    """Whether its time counts as that of a publish request."""


class ClusterApi:
    """Serves the paths of the Cluster API and passes all other requests to another application."""

    def __init__(self, next_application: Application) -> None:
        """
        Args:
            next_application: the ASGI application for all other paths.
        """
        self._next_application = next_application
        self._turns = RequestTurns(REQUESTS_PER_TURN)

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        operation = OPERATIONS.get(sent_path(scope).removesuffix("/"))
        if operation is None:
            await self._next_application(scope, receive, send)
            return
        headers: dict[bytes, bytes] = dict(scope["headers"])
        origin = headers.get(b"origin")
        # Anybody may read why a request was rejected before its key was known.
        cors = allow(origin)
        node = current_node()
        started_at = node.loop.time()
        try:
            if scope["method"] == "OPTIONS":
                node.counters.api_answers[204] += 1
                await answer(send, 204, b"", *PREFLIGHT)
                return
            if scope["method"] != operation.method:
                raise Problem(405, f"Use {operation.method} here.", (b"allow", operation.method.encode()))
            request = _Request(node, client_network(scope, conf().num_proxies), _credentials(headers))
            body = Body()
            if operation.method == "POST":
                content = await _receive_body(receive, headers, operation.max_body_bytes())
                started_at = node.loop.time()
                access, body = await request.read(content)
            else:
                access = await request.authenticate(request.credentials, 401)
            if origin is not None and not origin_matches(origin.decode("latin-1"), access.allowed_origins):
                cors = ()
            check_enabled(access)
            await self._turns.wait(access.account_id)
            answered = await operation.run(node, access, body)
        except Problem as problem:
            error = compact_json({"error": str(problem)}).encode()
            node.counters.api_answers[problem.status] += 1
            await answer(send, problem.status, error, *problem.headers, *cors)
        else:
            node.counters.api_answers[200] += 1
            await answer(send, 200, answered, *cors)
            if operation.publishes:
                node.counters.publish_seconds.observe(node.loop.time() - started_at)


@dataclass(slots=True)
class _Request:
    """A request whose sender is not known yet."""

    node: Node
    network: str | None
    """The client's network, which failures count for."""
    credentials: Credentials = field(repr=False)
    """The key and the secret in its headers."""

    async def read(self, content: bytes) -> tuple[KeyAccess, Body]:
        """Return the access of its key and the members of its body.

        Raises:
            Problem: the body cannot be read, or the key or the secret is wrong or missing.
        """
        try:
            check_may_parse(self.network, len(content))
        except Problem:
            if None in self.credentials:
                raise
            await self.authenticate(self.credentials, 400)
        try:
            body = read_body(content)
            return await self.authenticate(body.credentials.or_else(self.credentials), 400), body
        except Problem:
            address_limits.count_rejected_json(self.network, len(content))
            raise

    async def authenticate(self, credentials: Credentials, status_if_absent: int) -> KeyAccess:
        """Return the access of the key.

        Raises:
            Problem: the key or the secret is wrong or missing, or the database cannot be asked.
        """
        if credentials.key is None or credentials.secret is None:
            raise Problem(status_if_absent, NO_KEY)
        try:
            access = await self.node.keys.find_current(credentials.key)
        except DatabaseError:
            raise Problem(503, "The key cannot be looked up right now; try again.", (b"retry-after", b"1")) from None
        return authenticate(self.node, self.network, credentials, access)


def _credentials(headers: Mapping[bytes, bytes]) -> Credentials:
    key, secret = (headers[name].decode("latin-1") if name in headers else None for name in (b"key", b"secret"))
    return Credentials(key, secret)


async def _receive_body(receive: Receive, headers: Mapping[bytes, bytes], max_bytes: int) -> bytes:
    """Return the body of a request.

    Raises:
        Problem: the announced or received size exceeds `max_bytes`.
    """
    announced = headers.get(b"content-length", b"0")
    size = int(announced) if announced.isdigit() and len(announced) < 20 else 0
    chunks: list[bytes] = []
    more = size <= max_bytes
    received = 0
    while more and received <= max_bytes:
        event = await receive()
        chunk = event.get("body", b"")
        chunks.append(chunk)
        received += len(chunk)
        more = event.get("more_body", False)
    if max(size, received) > max_bytes:
        raise Problem(413, f"The request is larger than {max_bytes} bytes; send less at a time.")
    return b"".join(chunks)


async def _publish(node: Node, access: KeyAccess, body: Body) -> bytes:
    await _deliver(node, access, [read_message(body, access.cluster_id, message_limit(access))])
    return SUCCESS


async def _publish_batch(node: Node, access: KeyAccess, body: Body) -> bytes:
    await _deliver(node, access, read_batch(body, access.cluster_id, message_limit(access)))
    return SUCCESS


async def _deliver(node: Node, access: KeyAccess, messages: Sequence[tuple[str, Message]]) -> None:
    """Publish messages; return when all of them are delivered here and taken by Redis."""
    all_done = node.loop.create_future()

    def note_done() -> None:
        if not all_done.done():  # else the client has disconnected
            all_done.set_result(None)

    publish(node, access, messages, note_done)
    await all_done


async def _members(node: Node, access: KeyAccess, body: Body) -> bytes:
    members = await node.presence.members(read_channel(body, access.cluster_id))
    listed = ",".join(identity.json for identity in members)
    return f'{{"members":[{listed}],"count":{len(members)}}}'.encode()


async def _connections(node: Node, access: KeyAccess, body: Body) -> bytes:
    channels = await node.counts.of_cluster(access.cluster_pk)
    listed = [{"channel": path, "connections": count} for path, count in channels.items()]
    return compact_json({"channels": listed}).encode()


async def _connections_sum(node: Node, access: KeyAccess, body: Body) -> bytes:
    channels = await node.counts.of_cluster(access.cluster_pk)
    return compact_json({"connections": sum(channels.values())}).encode()


async def _domains(node: Node, access: KeyAccess, body: Body) -> bytes:
    return compact_json({"domains": access.allowed_origins}).encode()


OPERATIONS = {
    "/api/publish": Operation("POST", _publish, lambda: conf().max_publish_bytes, publishes=True),
    "/api/publish/batch": Operation("POST", _publish_batch, lambda: conf().max_request_bytes, publishes=True),
    "/api/members": Operation("POST", _members, lambda: MAX_QUESTION_BYTES),
    "/api/connections": Operation("GET", _connections),
    "/api/connections/sum": Operation("GET", _connections_sum),
    "/api/domains": Operation("GET", _domains),
}
