"""The Cluster API, with which servers publish and inspect their cluster's channels (the wire contract, *Cluster API*).

Applications call it for each of their events. It is therefore a separate ASGI application without middleware, views or
threads, and it does not query the database for keys that are cached.
"""

import hmac
import json
import logging
import re
from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from django.db import Error as DatabaseError

from accounts.key_access import KeyAccess, can_be_a_key
from realtime.base.asgi import Header, Receive, Send, answer
from realtime.conf import conf
from realtime.http.cors import Preflights, allow
from realtime.node.connections import message_limit
from realtime.node.message_quotas import DAY_USED_UP, seconds_to_midnight
from realtime.node.node import Node, current_node
from realtime.protocols.admission import why_off
from realtime.protocols.channels import CHANNEL_PATH, group_name
from realtime.protocols.frames import Message, compact_json, frame_size
from realtime.protocols.handshake import origin_matches
from realtime.server.addresses import address_limits, client_network
from realtime.server.fair_scheduling import RequestTurns

logger = logging.getLogger(__name__)

Application = Callable[..., Awaitable[None]]
Values = Mapping[str, Any]

MAX_BATCH_MESSAGES = 1_000
# How much JSON is parsed before key and secret are checked; it takes a millisecond or two of the loop's time.
MAX_UNAUTHENTICATED_BYTES = 64 * 1024
_KEY_MEMBER = re.compile(rb'"key"\s*:\s*"([A-Za-z0-9_-]{60})"')
_SECRET_MEMBER = re.compile(rb'"secret"\s*:\s*"([A-Za-z0-9_-]{60})"')
# How many requests run in one iteration of the event loop, at about 150 µs each, before sockets are served again.
REQUESTS_PER_TURN = 4

CREDENTIALS = ("key", "secret")
SUCCESS = b'{"success":true}'
NOT_JSON = 'The body must be a JSON object, for example {"key":"…","secret":"…","channelId":"…","message":"…"}.'
NO_KEY = "Send the API key as key and its secret as secret, as JSON members or as HTTP headers."
WRONG_KEY = "The API key or its secret is wrong."


class Problem(Exception):
    """A request cannot be served. The response has this status, error sentence and headers."""

    def __init__(self, status: int, sentence: str, *headers: Header) -> None:
        super().__init__(sentence)
        self.status = status
        self.headers = headers


@dataclass(frozen=True, slots=True)
class Operation:
    """The operation that a path stands for."""

    method: str
    run: Callable[[Node, KeyAccess, Values], Awaitable[bytes]]
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
        self._preflights = Preflights()
        self._turns = RequestTurns(REQUESTS_PER_TURN)

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        operation = OPERATIONS.get(scope["path"].rstrip("/"))
        if operation is None:
            await self._next_application(scope, receive, send)
            return
        cors: tuple[Header, ...] = ()
        headers: dict[bytes, bytes] = dict(scope["headers"])
        origin = headers.get(b"origin")
        node = current_node()
        started_at = node.loop.time()
        try:
            if scope["method"] == "OPTIONS":
                node.counters.api_answers[204] += 1
                await answer(send, 204, b"", *await self._preflights.headers(origin))
                return
            if scope["method"] != operation.method:
                raise Problem(405, f"Use {operation.method} here.", (b"allow", operation.method.encode()))
            values: Values = {
                name: headers[name.encode()].decode("latin-1") for name in CREDENTIALS if name.encode() in headers
            }
            network = client_network(scope, conf().num_proxies)
            if operation.method == "POST":
                body = await _read_body(receive, headers, operation.max_body_bytes())
                started_at = node.loop.time()
                if len(body) > MAX_UNAUTHENTICATED_BYTES:
                    await self._authenticate(node, network, {**values, **_find_credentials(body)})
                values = {**values, **_parse_body(body)}
                if values.get("key") is None or values.get("secret") is None:
                    raise Problem(400, NO_KEY)
            access = await self._authenticate(node, network, values)
            if origin is not None and origin_matches(origin.decode("latin-1"), access.allowed_origins):
                cors = allow(origin)
            await self._turns.wait(access.account_id)
            content = await operation.run(node, access, values)
        except Problem as problem:
            body = compact_json({"error": str(problem)}).encode()
            node.counters.api_answers[problem.status] += 1
            await answer(send, problem.status, body, *problem.headers, *cors)
        else:
            node.counters.api_answers[200] += 1
            await answer(send, 200, content, *cors)
            if operation.publishes:
                node.counters.publish_seconds.observe(node.loop.time() - started_at)

    async def _authenticate(self, node: Node, network: str | None, values: Values) -> KeyAccess:
        """Return the access of the key that a request is sent with.

        Raises:
            Problem: the key or the secret is wrong or missing, the account is suspended, or the cluster is off.
        """
        key, secret = values.get("key"), values.get("secret")
        if key is None or secret is None:
            raise Problem(401, NO_KEY)
        key, secret = (value if isinstance(value, str) else "" for value in (key, secret))
        try:
            access = await node.keys.find_current(key)
        except DatabaseError:
            raise Problem(503, "The key cannot be looked up right now; try again.", (b"retry-after", b"1")) from None
        # Always compare, so that the response time does not distinguish a wrong key from a wrong secret.
        secrets = access.valid_secrets() if access is not None else ()
        given = secret.encode(errors="replace")
        matches = [hmac.compare_digest(valid.encode(), given) for valid in secrets or ("-" * len(secret),)]
        if access is None or not secrets or access.revoked or not any(matches):
            self._reject_credentials(network, key)
        node.key_use.note(key)
        if off := why_off(access):
            raise Problem(403, off.sentence)
        return access

    def _reject_credentials(self, network: str | None, key: str) -> NoReturn:
        wait = address_limits.count_wrong_secret(network, key if can_be_a_key(key) else None)
        if wait:
            sentence = f"{WRONG_KEY} There were too many failed attempts; wait {wait} seconds."
            raise Problem(429, sentence, (b"retry-after", str(wait).encode()))
        raise Problem(401, WRONG_KEY)


async def _read_body(receive: Receive, headers: Mapping[bytes, bytes], max_bytes: int) -> bytes:
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


def _parse_body(body: bytes) -> dict[str, Any]:
    try:
        values = json.loads(body, parse_constant=_reject_constant)
    except (ValueError, RecursionError):
        raise Problem(400, NOT_JSON) from None
    if not isinstance(values, dict):
        raise Problem(400, NOT_JSON)
    return values


def _reject_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _find_credentials(body: bytes) -> dict[str, str]:
    """Return what looks like the key and the secret in a body that is not parsed yet."""
    found = {"key": _KEY_MEMBER.search(body), "secret": _SECRET_MEMBER.search(body)}
    return {name: match[1].decode() for name, match in found.items() if match is not None}


async def _publish(node: Node, access: KeyAccess, values: Values) -> bytes:
    group, message = _parse_message(access, values)
    _count_against_quota(node, access, 1)
    await _deliver(node, access, [(group, message)])
    return SUCCESS


async def _publish_batch(node: Node, access: KeyAccess, values: Values) -> bytes:
    messages = values.get("messages")
    if not isinstance(messages, list) or not 1 <= len(messages) <= MAX_BATCH_MESSAGES:
        raise Problem(400, f"Send 1 to {MAX_BATCH_MESSAGES} messages, as a list.")
    checked = []
    for index, item in enumerate(messages):
        try:
            checked.append(_parse_message(access, item if isinstance(item, dict) else {}))
        except Problem as problem:
            raise Problem(problem.status, f"messages[{index}]: {problem} Nothing was sent.") from None
    _count_against_quota(node, access, len(checked))
    await _deliver(node, access, checked)
    return SUCCESS


async def _deliver(node: Node, access: KeyAccess, messages: Sequence[tuple[str, Message]]) -> None:
    """Publish messages; return when all of them are delivered here and taken by Redis."""
    waiting = len(messages)
    all_done = node.loop.create_future()

    def note_done() -> None:
        nonlocal waiting
        waiting -= 1
        if not waiting and not all_done.done():  # else the client has disconnected
            all_done.set_result(None)

    for group, message in messages:
        node.publish_to(group, message, access.account_id, note_done)
    await all_done


def _parse_message(access: KeyAccess, values: Values) -> tuple[str, Message]:
    """Return the channel's group and the message of a publish request.

    Raises:
        Problem: the channel or the message is missing or invalid.
    """
    if values.get("channelId", values.get("roomId")) is None or "message" not in values:
        raise Problem(400, "Send channelId and message.")
    group = _parse_channel(access, values)
    content = values["message"]
    try:
        message = Message(content if isinstance(content, str) else compact_json(content))
    except (ValueError, RecursionError):
        sentence = "The message contains half of a surrogate pair, a number that is not valid JSON, or too many levels."
        raise Problem(400, sentence) from None
    limit = message_limit(access)
    if len(message.wire) > frame_size(limit):
        raise Problem(413, f"The message is larger than {limit} bytes; send less at a time.")
    return group, message


def _parse_channel(access: KeyAccess, values: Values) -> str:
    """Return the group of the channel that a request names.

    Raises:
        Problem: the channel is missing or invalid.
    """
    path = values.get("channelId", values.get("roomId"))
    if path is None:
        raise Problem(400, "Send the channelId.")
    if isinstance(path, bool) or not isinstance(path, str | int) or not CHANNEL_PATH.fullmatch(str(path)):
        raise Problem(400, "The channelId must be 1 to 128 letters, digits, _ or -.")
    return group_name(access.cluster_id, str(path))


def _count_against_quota(node: Node, access: KeyAccess, messages: int) -> None:
    """Count messages against the account's daily quota.

    Raises:
        Problem: the quota does not allow as many messages today.
    """
    if not node.message_quotas.account(access).take(messages):
        raise Problem(429, f"{DAY_USED_UP}; nothing was sent.", (b"retry-after", b"%d" % seconds_to_midnight()))


async def _members(node: Node, access: KeyAccess, values: Values) -> bytes:
    members = await node.presence.members(_parse_channel(access, values))
    listed = ",".join(identity.json for identity in members)
    return f'{{"members":[{listed}],"count":{len(members)}}}'.encode()


async def _connections(node: Node, access: KeyAccess, values: Values) -> bytes:
    channels = await node.counts.of_cluster(access.cluster_pk)
    listed = [{"channel": path, "connections": count} for path, count in channels.items()]
    return compact_json({"channels": listed}).encode()


async def _connections_sum(node: Node, access: KeyAccess, values: Values) -> bytes:
    channels = await node.counts.of_cluster(access.cluster_pk)
    return compact_json({"connections": sum(channels.values())}).encode()


async def _domains(node: Node, access: KeyAccess, values: Values) -> bytes:
    return compact_json({"domains": access.allowed_origins}).encode()


OPERATIONS = {
    "/api/publish": Operation("POST", _publish, lambda: conf().max_publish_bytes, publishes=True),
    "/api/publish/batch": Operation("POST", _publish_batch, lambda: conf().max_request_bytes, publishes=True),
    "/api/members": Operation("POST", _members, lambda: MAX_UNAUTHENTICATED_BYTES),
    "/api/connections": Operation("GET", _connections),
    "/api/connections/sum": Operation("GET", _connections_sum),
    "/api/domains": Operation("GET", _domains),
}
