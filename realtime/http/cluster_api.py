"""The Cluster API, with which servers publish and inspect their cluster's channels (the wire contract, *Cluster API*).

Applications call it for each of their events. It is therefore a separate ASGI application without middleware, views or
threads, and it does not query the database for keys that are cached.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Any

from django.db import Error as DatabaseError

from accounts.key_access import KeyAccess
from realtime.base.asgi import Header, Receive, Response, Send, answer, sent_path
from realtime.conf import conf
from realtime.http.cluster_requests import SUCCESS, authenticate, check_may_parse
from realtime.http.cors import PREFLIGHT, allow
from realtime.node.connections import message_limit
from realtime.node.node import Node, current_node
from realtime.node.publishing import check_enabled, publish
from realtime.protocols.channels import counts_connections, is_of_v3
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
from realtime.server.bodies import MAX_BODY_BYTES, TOO_LARGE
from realtime.server.fair_scheduling import RequestTurns

logger = logging.getLogger(__name__)

Application = Callable[..., Awaitable[None]]

# How many requests run in one iteration of the event loop, at about 150 µs each, before sockets are served again.
REQUESTS_PER_TURN = 4

NO_KEY = "Send the API key as key and its secret as secret, as JSON members or as HTTP headers."


@dataclass(frozen=True, slots=True)
class Operation:
    """The operation that a path stands for."""

    method: str
    path: str
    run: Callable[[Node, KeyAccess, Body], Awaitable[bytes]]
    """Performs the operation and returns the body of the response."""
    max_body_bytes: Callable[[], int] = lambda: 0
    publishes: bool = False
    """Whether its time counts as that of a publish request."""

    @property
    def name(self) -> str:
        return f"{self.method} {self.path}"


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
        node = current_node()
        try:
            if scope["method"] == "OPTIONS":
                response = _count(node, Response(204, b"", PREFLIGHT))
            elif scope["method"] != operation.method:
                raise Problem(405, f"Use {operation.method} here.", (b"allow", operation.method.encode()))
            else:
                content = await _receive_body(receive, headers, operation.max_body_bytes())
                network = client_network(scope, conf().num_proxies)
                response = await perform(node, operation, headers, network, content, self._turns.wait)
        except Problem as problem:
            response = _error(node, problem, allow(headers.get(b"origin")))
        await answer(send, response.status, response.body, *response.headers)


def answer_publish(
    path: str, headers: Mapping[bytes, bytes], network: str | None, content: bytes
) -> Coroutine[Any, Any, Response]:
    """Return the performance of a request to publish that has arrived whole, and waits for nobody's turn.

    Args:
        path: the path of the operation.
        headers: the headers of the request, with names in lower case.
        network: the client's network.
        content: the body.
    """
    return perform(current_node(), OPERATIONS[path], headers, network, content)


async def perform(  # noqa: PLR0913, PLR0917
    node: Node,
    operation: Operation,
    headers: Mapping[bytes, bytes],
    network: str | None,
    content: bytes,
    wait_for_turn: Callable[[int], Awaitable[None]] | None = None,
) -> Response:
    """Perform an operation and return the response.

    Args:
        node: the node.
        operation: the operation that the path of the request stands for.
        headers: the headers of the request, with names in lower case.
        network: the client's network, which failures count for.
        content: the body of the request.
        wait_for_turn: waits until an account may run a request.
    """
    started_at = node.loop.time()
    origin = headers.get(b"origin")
    # Anybody may read why a request was rejected before its key was known.
    cors = allow(origin)
    request = _Request(node, network, _credentials(headers))
    try:
        if operation.method == "POST":
            access, body = await request.read(content)
        else:
            access, body = await request.authenticate(request.credentials, 401), Body()
        if origin is not None and not origin_matches(origin.decode("latin-1"), access.allowed_origins):
            cors = ()
        check_enabled(access)
        if wait_for_turn is not None:
            await wait_for_turn(access.account_id)
        answered = await operation.run(node, access, body)
    except Problem as problem:
        if request.access is not None:
            seconds = node.loop.time() - started_at
            if operation.publishes:
                client = headers.get(b"user-agent", b"").decode("latin-1")
                node.reports.refuse_request(request.access, problem.status, network, client)
            node.reports.call(request.access, operation.name, network, problem.status, seconds)
        return _error(node, problem, cors)
    node.usage.key(access).api_calls += 1
    seconds = node.loop.time() - started_at
    if operation.publishes:
        node.counters.publish_seconds.observe(seconds)
    elif node.watched:
        node.reports.call(access, operation.name, network, 200, seconds)
    return _count(node, Response(200, answered, cors, access.account_id))


def _error(node: Node, problem: Problem, cors: tuple[Header, ...]) -> Response:
    body = compact_json({"error": str(problem)}).encode()
    return _count(node, Response(problem.status, body, (*problem.headers, *cors)))


def _count(node: Node, response: Response) -> Response:
    node.counters.api_answers[response.status] += 1
    return response


class _Request:
    """A request whose sender is not known yet.

    Args:
        node: the node.
        network: the client's network, which failures count for.
        credentials: the key and the secret in its headers.
    """

    __slots__ = ("access", "credentials", "network", "node")

    def __init__(self, node: Node, network: str | None, credentials: Credentials) -> None:
        self.node = node
        self.network = network
        self.credentials = credentials
        self.access: KeyAccess | None = None
        """What its key allows, even if its secret is wrong; None if there is no such key."""

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
            access = self.node.keys.find_cached(credentials.key)
        except KeyError:
            access = await self._look_up(credentials.key)
        self.access = access
        return authenticate(self.node, self.network, credentials, access)

    async def _look_up(self, key: str) -> KeyAccess | None:
        try:
            return await self.node.keys.find_current(key)
        except DatabaseError:
            raise Problem(503, "The key cannot be looked up right now; try again.", (b"retry-after", b"1")) from None


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
        raise Problem(413, TOO_LARGE.format(max_bytes))
    return b"".join(chunks)


async def _publish(node: Node, access: KeyAccess, body: Body) -> bytes:
    await _deliver(node, access, [read_message(body, access.cluster_id, message_limit(access))])
    return SUCCESS


async def _publish_batch(node: Node, access: KeyAccess, body: Body) -> bytes:
    await _deliver(node, access, read_batch(body, access.cluster_id, message_limit(access)))
    return SUCCESS


async def _deliver(node: Node, access: KeyAccess, messages: Sequence[tuple[str, Message]]) -> None:
    """Publish messages; return when all of them are delivered here and taken by Redis."""
    are_done = False
    waiter: asyncio.Future[None] | None = None

    def note_done() -> None:
        nonlocal are_done
        are_done = True
        if waiter is not None and not waiter.done():  # else the client has disconnected
            waiter.set_result(None)

    publish(node, access, messages, note_done)
    if not are_done:
        waiter = node.loop.create_future()
        await waiter


async def _members(node: Node, access: KeyAccess, body: Body) -> bytes:
    members = await node.presence.members(read_channel(body, access.cluster_id))
    listed = ",".join(identity.json for identity in members)
    return f'{{"members":[{listed}],"count":{len(members)}}}'.encode()


async def _connections(node: Node, access: KeyAccess, body: Body) -> bytes:
    channels = await node.counts.of_cluster(access.cluster_pk)
    listed = [{"channel": path, "connections": count} for path, count in channels.items() if is_of_v3(path)]
    return compact_json({"channels": listed}).encode()


async def _connections_sum(node: Node, access: KeyAccess, body: Body) -> bytes:
    channels = await node.counts.of_cluster(access.cluster_pk)
    connections = sum(count for path, count in channels.items() if counts_connections(path))
    return compact_json({"connections": connections}).encode()


async def _domains(node: Node, access: KeyAccess, body: Body) -> bytes:
    return compact_json({"domains": access.allowed_origins}).encode()


OPERATIONS = {
    operation.path: operation
    for operation in (
        Operation("POST", "/api/publish", _publish, lambda: conf().max_publish_bytes, publishes=True),
        Operation("POST", "/api/publish/batch", _publish_batch, lambda: conf().max_request_bytes, publishes=True),
        Operation("POST", "/api/members", _members, lambda: MAX_BODY_BYTES),
        Operation("GET", "/api/connections", _connections),
        Operation("GET", "/api/connections/sum", _connections_sum),
        Operation("GET", "/api/domains", _domains),
    )
}
