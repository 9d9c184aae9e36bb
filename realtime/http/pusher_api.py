"""Pusher's HTTP API, with which servers that use Pusher's libraries publish events and ask about channels.

Requests are signed with the secret of an API key. They take the same way as those of the Cluster API, and count the
same.
"""

import re
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

from accounts.key_access import KeyAccess
from realtime.base.asgi import Receive, Response, Send, answer, sent_path
from realtime.conf import conf
from realtime.http import pusher_operations as operations
from realtime.http.api_calls import REQUESTS_PER_TURN, ApiCall, error_response, perform, receive_body
from realtime.http.cluster_requests import wrong_secret
from realtime.http.pusher_operations import Inquiry
from realtime.node.node import Node
from realtime.node.running import current_node
from realtime.protocols.publishing import Problem
from realtime.protocols.pusher_signatures import (
    MAX_CLOCK_DIFFERENCE,
    is_current,
    matches_body,
    read_signed_query,
    verify_request,
)
from realtime.server.addresses import client_network
from realtime.server.bodies import MAX_BODY_BYTES
from realtime.server.fair_scheduling import RequestTurns

Application = Callable[..., Awaitable[None]]

NOT_SIGNED = (
    "Sign the request with the secret of the API key: the query must contain auth_key, auth_timestamp, "
    "auth_version=1.0 and auth_signature."
)
WRONG_SIGNATURE = "Invalid signature: the API key, its secret, or what was signed is wrong."
_SIGNED_WITH = ("auth_key", "auth_timestamp", "auth_signature")


@dataclass(frozen=True, slots=True)
class Operation:
    """The operation that a path stands for."""

    method: str
    path: re.Pattern[str]
    """The decoded path. The first group is the app ID, which may be absent; the others are names."""
    name: str
    """What people call it."""
    run: Callable[[Inquiry], Awaitable[bytes]]
    """Performs the operation and returns the body of the response."""
    max_body_bytes: Callable[[], int] = lambda: MAX_BODY_BYTES
    publishes: bool = False
    """Whether its time counts as that of a publish request."""


class Target(NamedTuple):
    """What the path of a request stands for."""

    operation: Operation
    app_id: str | None
    """The app ID; None if the path has none, as one client library sends it."""
    names: Sequence[str]
    """The names in the path, such as that of a channel."""
    paths: Sequence[str]
    """The path as it was sent, and decoded if that is another one: clients sign one or the other."""


class PusherApi:
    """Serves the paths of Pusher's HTTP API and passes all other requests to another application."""

    def __init__(self, next_application: Application) -> None:
        """
        Args:
            next_application: the ASGI application for all other paths.
        """
        self._next_application = next_application
        self._turns = RequestTurns(REQUESTS_PER_TURN)

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        target = find_target(scope["path"], sent_path(scope))
        if target is None:
            await self._next_application(scope, receive, send)
            return
        headers: dict[bytes, bytes] = dict(scope["headers"])
        node = current_node()
        operation = target.operation
        try:
            if scope["method"] != operation.method:
                raise Problem(405, f"Use {operation.method} here.", (b"allow", operation.method.encode()))
            content = await receive_body(receive, headers, operation.max_body_bytes())
        except Problem as problem:
            response = error_response(node, problem)
        else:
            network = client_network(scope, conf().num_proxies)
            call = _PusherCall(node, target, scope["query_string"], headers, network, content)
            response = await perform(call, self._turns.wait)
        await answer(send, response.status, response.body, *response.headers)


def answer_publish(
    path: str, query: bytes, headers: Mapping[bytes, bytes], network: str | None, content: bytes
) -> Coroutine[Any, Any, Response]:
    """Return the performance of a request to publish that has arrived whole, and waits for nobody's turn.

    Args:
        path: the path, of digits and the names of operations, so that there is nothing to decode.
        query: the query, which has the signature.
        headers: the headers of the request, with names in lower case.
        network: the client's network.
        content: the body.
    """
    return perform(_PusherCall(current_node(), _publishing_target(path), query, headers, network, content))


@lru_cache(maxsize=1_000)
def _publishing_target(path: str) -> Target:
    _, _, app_id, name = path.split("/")
    return Target(PUBLISHING[name], app_id, (), (path,))


def find_target(path: str, sent: str) -> Target | None:
    """Return what a path stands for; None if it is not a path of this API.

    Args:
        path: the decoded path.
        sent: the path as it was sent.
    """
    if not path.startswith(("/apps/", "/users/")):
        return None
    for operation in OPERATIONS:
        match = operation.path.fullmatch(path)
        if match is not None:
            app_id, *names = match.groups()
            return Target(operation, app_id, names, (path,) if sent == path else (sent, path))
    return None


class _PusherCall(ApiCall):
    """A request to Pusher's HTTP API."""

    __slots__ = ("_content", "_query", "_target")

    def __init__(  # noqa: PLR0913, PLR0917
        self,
        node: Node,
        target: Target,
        query: bytes,
        headers: Mapping[bytes, bytes],
        network: str | None,
        content: bytes,
    ) -> None:
        """
        Args:
            node, headers, network: see `ApiCall`.
            target: what the path stands for.
            query: the query, which has the signature.
            content: the body of the request.
        """
        operation = target.operation
        super().__init__(node, operation.name, operation.publishes, headers, network, None)
        self._target = target
        self._query = read_signed_query(query.decode("latin-1"))
        self._content = content

    async def authenticate(self) -> KeyAccess:
        parameters = self._query.parameters
        if not all(map(parameters.get, _SIGNED_WITH)) or parameters.get("auth_version") != "1.0":
            raise Problem(401, NOT_SIGNED)
        key = parameters["auth_key"]
        try:
            access = self.node.keys.find_cached(key)
        except KeyError:
            access = await self.look_up(key)
        self.access = access
        secrets = access.valid_secrets() if access is not None else ()
        # Always compare, so that the response time does not distinguish a wrong key from a wrong signature.
        method = self._target.operation.method
        is_signed = verify_request(secrets or ("-",), method, self._target.paths, self._query)
        if access is None or not secrets or access.revoked or not is_signed:
            raise wrong_secret(self.network, key, WRONG_SIGNATURE)
        self._check_signed(access)
        self.node.key_use.note(key)
        return access

    def run(self, access: KeyAccess) -> Awaitable[bytes]:
        idempotency_key = self.headers.get(b"x-idempotency-key")
        inquiry = Inquiry(self.node, access, self._target.names, self._query.parameters, self._content, idempotency_key)
        return self._target.operation.run(inquiry)

    def _check_signed(self, access: KeyAccess) -> None:
        """Check a request that the secret of a key has signed.

        Raises:
            Problem: it was signed too long ago, for another body, or for an app that is not the key's.
        """
        parameters = self._query.parameters
        timestamp, now = parameters["auth_timestamp"], time.time()
        if not is_current(timestamp, now):
            raise Problem(
                401,
                f"Timestamp expired: the auth_timestamp is not within {MAX_CLOCK_DIFFERENCE} seconds of the server's "
                f"time, which is {now:.0f}. Set the clock of your server.",
            )
        if not matches_body(parameters.get("body_md5"), self._content):
            raise Problem(401, "The body_md5 is not the MD5 of the body that was received.")
        app_id = self._target.app_id
        if app_id is not None and app_id != str(access.cluster_pk):
            raise Problem(404, f"This API key belongs to the app {access.cluster_pk}; use that as the app ID.")


_APP = "/apps/([^/]+)"
_EVENTS = Operation(
    "POST",
    re.compile(f"{_APP}/events"),
    "POST /apps/APP_ID/events",
    operations.publish_event,
    lambda: conf().max_publish_bytes,
    publishes=True,
)
_BATCH_EVENTS = Operation(
    "POST",
    re.compile(f"{_APP}/batch_events"),
    "POST /apps/APP_ID/batch_events",
    operations.publish_batch,
    lambda: conf().max_request_bytes,
    publishes=True,
)
PUBLISHING = {"events": _EVENTS, "batch_events": _BATCH_EVENTS}
OPERATIONS = (
    _EVENTS,
    _BATCH_EVENTS,
    Operation("GET", re.compile(f"{_APP}/channels"), "GET /apps/APP_ID/channels", operations.list_channels),
    Operation(
        "GET", re.compile(f"{_APP}/channels/([^/]+)"), "GET /apps/APP_ID/channels/CHANNEL", operations.show_channel
    ),
    Operation(
        "GET",
        re.compile(f"{_APP}/channels/([^/]+)/users"),
        "GET /apps/APP_ID/channels/CHANNEL/users",
        operations.list_users,
    ),
    Operation("GET", re.compile(f"{_APP}/connections"), "GET /apps/APP_ID/connections", operations.count_connections),
    Operation(
        "POST",
        re.compile(f"(?:{_APP})?/users/(.+)/terminate_connections"),
        "POST /apps/APP_ID/users/USER_ID/terminate_connections",
        operations.terminate_connections,
    ),
)
