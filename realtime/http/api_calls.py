"""The performance of a request with which a tenant's server publishes or asks, whichever API it uses.

All of them have the same order of checks, the same metrics and usage, and the same errors.
"""

import time
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping

from django.db import Error as DatabaseError

from accounts.key_access import KeyAccess
from realtime.base.asgi import Header, Receive, Response
from realtime.http.cors import allow
from realtime.node.node import Node
from realtime.node.publishing import check_enabled
from realtime.protocols.frames import compact_json
from realtime.protocols.handshake import origin_matches
from realtime.protocols.publishing import Problem
from realtime.server.bodies import TOO_LARGE

WaitForTurn = Callable[[int], Awaitable[None]]

# How many requests of one API run in one iteration of the event loop, at about 150 µs each, before sockets are served.
REQUESTS_PER_TURN = 4


class ApiCall(ABC):
    """A request whose sender is not known yet."""

    __slots__ = ("access", "headers", "name", "network", "node", "origin", "publishes")

    def __init__(  # noqa: PLR0913, PLR0917
        self,
        node: Node,
        name: str,
        publishes: bool,
        headers: Mapping[bytes, bytes],
        network: str | None,
        origin: bytes | None,
    ) -> None:
        """
        Args:
            node: the node.
            name: what people call the request.
            publishes: whether its time counts as that of a publish request.
            headers: the headers of the request, with names in lower case.
            network: the client's network, which failures count for.
            origin: the origin of the page that has sent the request and may be allowed to read the response.
        """
        self.node = node
        self.name = name
        self.publishes = publishes
        self.origin = origin
        self.headers = headers
        self.network = network
        self.access: KeyAccess | None = None
        """What its key allows, even if its secret is wrong; None if there is no such key."""

    @abstractmethod
    async def authenticate(self) -> KeyAccess:
        """Return the access of its key, and set `access` as soon as the key is known.

        Raises:
            Problem: the request cannot be read, or its credentials are wrong or missing.
        """

    @abstractmethod
    def run(self, access: KeyAccess) -> Awaitable[bytes]:
        """Perform the operation and return the body of the response.

        Raises:
            Problem: the operation is not possible.
        """

    async def look_up(self, public_key: str) -> KeyAccess | None:
        """Return the access of a key that is not cached; None if there is no such key.

        Raises:
            Problem: the database cannot be asked.
        """
        try:
            return await self.node.keys.find_current(public_key)
        except DatabaseError:
            raise Problem(503, "The key cannot be looked up right now; try again.", (b"retry-after", b"1")) from None


async def perform(call: ApiCall, wait_for_turn: WaitForTurn | None = None) -> Response:
    """Perform a request and return the response.

    Args:
        call: the request.
        wait_for_turn: waits until an account may run a request.
    """
    node = call.node
    started_at = time.monotonic()
    origin = call.origin
    # Anybody may read why a request was rejected before its key was known.
    cors = allow(origin)
    try:
        access = await call.authenticate()
        if origin is not None and not origin_matches(origin.decode("latin-1"), access.allowed_origins):
            cors = ()
        check_enabled(access)
        if wait_for_turn is not None:
            await wait_for_turn(access.account_id)
        answered = await call.run(access)
    except Problem as problem:
        if call.access is not None:
            seconds = time.monotonic() - started_at
            if call.publishes:
                client = call.headers.get(b"user-agent", b"").decode("latin-1")
                node.reports.refuse_request(call.access, problem.status, call.network, client)
            node.reports.call(call.access, call.name, call.network, problem.status, seconds)
        return error_response(node, problem, cors)
    node.usage.key(access).api_calls += 1
    seconds = time.monotonic() - started_at
    if call.publishes:
        node.counters.publish_seconds.observe(seconds)
    elif node.watched:
        node.reports.call(access, call.name, call.network, 200, seconds)
    return count_response(node, Response(200, answered, cors, access.account_id))


def error_response(node: Node, problem: Problem, cors: tuple[Header, ...] = ()) -> Response:
    """Return the response that tells a problem."""
    body = compact_json({"error": str(problem)}).encode()
    return count_response(node, Response(problem.status, body, (*problem.headers, *cors)))


def count_response(node: Node, response: Response) -> Response:
    """Count a response in the metrics, and return it."""
    node.counters.api_answers[response.status] += 1
    return response


async def receive_body(receive: Receive, headers: Mapping[bytes, bytes], max_bytes: int) -> bytes:
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
