"""The Cluster API, with which servers publish and inspect their cluster's channels (the wire contract, *Cluster API*).

Applications call it for each of their events. It is therefore a separate ASGI application without middleware, views or
threads, and it does not query the database for keys that are cached.
"""

from collections.abc import Awaitable, Callable, Coroutine, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Any

from accounts.key_access import KeyAccess
from realtime.base.asgi import Receive, Response, Send, answer, sent_path
from realtime.conf import conf
from realtime.http.api_calls import (
    REQUESTS_PER_TURN,
    ApiCall,
    count_response,
    error_response,
    perform,
    receive_body,
)
from realtime.http.cluster_requests import SUCCESS, authenticate, check_may_parse
from realtime.http.cors import PREFLIGHT, allow
from realtime.node.connections import message_limit
from realtime.node.node import Node
from realtime.node.publishing import deliver
from realtime.node.running import current_node
from realtime.protocols import v4_channels, v4_publishing
from realtime.protocols.channels import counts_connections, is_of_v3
from realtime.protocols.frames import compact_json
from realtime.protocols.presence import Identity, json_list
from realtime.protocols.publishing import (
    Body,
    Credentials,
    Problem,
    read_batch,
    read_body,
    read_channel,
    read_message,
)
from realtime.protocols.v4_frames import V4Events
from realtime.server.addresses import address_limits, client_network
from realtime.server.bodies import MAX_BODY_BYTES
from realtime.server.fair_scheduling import RequestTurns

Application = Callable[..., Awaitable[None]]

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
                response = count_response(node, Response(204, b"", PREFLIGHT))
            elif scope["method"] != operation.method:
                raise Problem(405, f"Use {operation.method} here.", (b"allow", operation.method.encode()))
            else:
                content = await receive_body(receive, headers, operation.max_body_bytes())
                network = client_network(scope, conf().num_proxies)
                call = _ClusterCall(node, operation, headers, network, content)
                response = await perform(call, self._turns.wait)
        except Problem as problem:
            response = error_response(node, problem, allow(headers.get(b"origin")))
        await answer(send, response.status, response.body, *response.headers)


def answer_publish(
    path: str, query: bytes, headers: Mapping[bytes, bytes], network: str | None, content: bytes
) -> Coroutine[Any, Any, Response]:
    """Return the performance of a request to publish that has arrived whole, and waits for nobody's turn.

    Args:
        path: the path of the operation.
        query: the query, which has no meaning.
        headers: the headers of the request, with names in lower case.
        network: the client's network.
        content: the body.
    """
    return perform(_ClusterCall(current_node(), OPERATIONS[path], headers, network, content))


class _ClusterCall(ApiCall):
    """A request to the Cluster API."""

    __slots__ = ("_body", "_content", "_operation")

    def __init__(
        self,
        node: Node,
        operation: Operation,
        headers: Mapping[bytes, bytes],
        network: str | None,
        content: bytes,
    ) -> None:
        """
        Args:
            node, headers, network: see `ApiCall`.
            operation: the operation that the path of the request stands for.
            content: the body of the request.
        """
        super().__init__(node, operation.name, operation.publishes, headers, network, headers.get(b"origin"))
        self._operation = operation
        self._content = content
        self._body = Body()

    async def authenticate(self) -> KeyAccess:
        credentials = _credentials(self.headers)
        if self._operation.method != "POST":
            return await self._check(credentials, 401)
        size = len(self._content)
        try:
            check_may_parse(self.network, size)
        except Problem:
            if None in credentials:
                raise
            await self._check(credentials, 400)
        try:
            self._body = read_body(self._content)
            return await self._check(self._body.credentials.or_else(credentials), 400)
        except Problem:
            address_limits.count_rejected_json(self.network, size)
            raise

    def run(self, access: KeyAccess) -> Awaitable[bytes]:
        return self._operation.run(self.node, access, self._body)

    async def _check(self, credentials: Credentials, status_if_absent: int) -> KeyAccess:
        """Return the access of the key.

        Raises:
            Problem: the key or the secret is wrong or missing, or the database cannot be asked.
        """
        if credentials.key is None or credentials.secret is None:
            raise Problem(status_if_absent, NO_KEY)
        try:
            self.access = self.node.keys.find_cached(credentials.key)
        except KeyError:
            self.access = await self.look_up(credentials.key)
        return authenticate(self.node, self.network, credentials, self.access)


def _credentials(headers: Mapping[bytes, bytes]) -> Credentials:
    key, secret = headers.get(b"key"), headers.get(b"secret")
    return Credentials(
        None if key is None else key.decode("latin-1"), None if secret is None else secret.decode("latin-1")
    )


async def _publish(node: Node, access: KeyAccess, body: Body) -> bytes:
    await deliver(node, access, [read_message(body, access.cluster_id, message_limit(access))])
    return SUCCESS


async def _publish_batch(node: Node, access: KeyAccess, body: Body) -> bytes:
    await deliver(node, access, read_batch(body, access.cluster_id, message_limit(access)))
    return SUCCESS


async def _members(node: Node, access: KeyAccess, body: Body) -> bytes:
    return _list(await node.presence.members(read_channel(body, access.cluster_id)))


async def _publish_v4(node: Node, access: KeyAccess, body: Body) -> bytes:
    message = v4_publishing.read_message(body, access.cluster_id, message_limit(access))
    await deliver(node, access, [message], v4_channels.path_of)
    return SUCCESS


async def _members_v4(node: Node, access: KeyAccess, body: Body) -> bytes:
    group, _ = v4_publishing.read_channel(body, access.cluster_id)
    return _list(await node.presence.members(group, newest_is_listed=V4Events.newest_is_listed))


def _list(members: Sequence[Identity]) -> bytes:
    return f'{{"members":{json_list(members)},"count":{len(members)}}}'.encode()


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
        Operation("POST", "/api/v4/publish", _publish_v4, lambda: conf().max_publish_bytes, publishes=True),
        Operation("POST", "/api/v4/members", _members_v4, lambda: MAX_BODY_BYTES),
        Operation("GET", "/api/connections", _connections),
        Operation("GET", "/api/connections/sum", _connections_sum),
        Operation("GET", "/api/domains", _domains),
    )
}
