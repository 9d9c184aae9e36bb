"""What this node reports to the people of an account: events to those who watch live, and refusals to the log.

Callers test `watched` before they report an event that happens often, so that nothing is built while nobody looks.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from django.db import Error as DatabaseError

from accounts.key_access import KeyAccess
from accounts.refused_clients import (
    CHANNEL,
    MAX_CHANNEL_LENGTH,
    MAX_CLIENT_LENGTH,
    MAX_ORIGIN_LENGTH,
    MAX_SHOWN_LENGTH,
    OTHER_CLUSTER,
    UNKNOWN,
    Cause,
    RefusedClient,
)
from realtime.conf import conf
from realtime.live.viewers import (
    CALL,
    CLOSE,
    CONNECT,
    MESSAGE,
    PUBLISH,
    REFUSAL,
    SUBSCRIPTION,
    Allowance,
    Build,
    Subject,
)
from realtime.live.watches import Watches
from realtime.node.connections import Connection, message_limit
from realtime.node.key_cache import KeyCache
from realtime.node.refusal_log import RefusalLog
from realtime.node.usage import Usage
from realtime.protocols.admission import why_off
from realtime.protocols.channels import Channel, channel_id
from realtime.protocols.closes import QUOTA_USED_UP, TOO_BIG, Close
from realtime.protocols.frames import Message
from realtime.protocols.presence import Identity, clean
from realtime.protocols.refused_handshakes import about_quota, describe, explain, key_in
from realtime.server.addresses import client_address

MAX_CONTENT_BYTES = 1024
"""How much of a message is shown."""
LOOKUPS_PER_SECOND = 20
"""How many keys of refused handshakes are looked up in a second. Of further ones, only the cluster is known."""
ENCRYPTED = "private-encrypted-"
"""Begins the IDs of channels whose messages only their clients can read."""

# The reasons of refused requests to publish, by the status of the response.
_REQUEST_REASONS = {401: "bad_secret", 413: TOO_BIG.reason, 429: "day_used_up"}

Count = Callable[[Channel, Callable[[int], None]], None]


class Reports:
    """The reports of one node. Loop thread only."""

    def __init__(self, watches: Watches, refusal_log: RefusalLog, usage: Usage, keys: KeyCache, count: Count) -> None:
        """
        Args:
            watches: the clusters that somebody watches.
            refusal_log: keeps refusals.
            usage: counts refusals.
            keys: the cached API keys.
            count: counts the connections to a channel on all nodes, and calls its second argument with the number.
        """
        self._watched = watches.watched
        self._count = count
        self._watches = watches
        self._refusal_log = refusal_log
        self._usage = usage
        self._keys = keys
        # Lookups of the keys of refused handshakes, which nobody waits for.
        self._lookups: set[asyncio.Task[None]] = set()
        self._lookups_allowed = Allowance(LOOKUPS_PER_SECOND, time.monotonic())

    def connect(self, connection: Connection) -> None:
        """Report that a client has connected."""
        self._report_connection(CONNECT, connection, lambda _: {"origin": connection.admission.origin or ""})

    def subscribe(self, connection: Connection, path: str, identity: Identity | None) -> None:
        """Report that a client has joined the presence of a channel, or has subscribed to it after its handshake."""
        facts = {"member": "" if identity is None else identity.uuid, "left": False}
        self._report_connection(SUBSCRIPTION, connection, lambda _: facts, path)

    def unsubscribe(self, connection: Connection, path: str) -> None:
        """Report that a client has unsubscribed from a channel. Its connection stays open."""
        self._report_connection(SUBSCRIPTION, connection, lambda _: {"member": "", "left": True}, path)

    def close(self, connection: Connection) -> None:
        """Report that a connection has ended."""
        close = connection.ended
        outlet = connection.outlet
        facts = {
            "code": outlet.client_code if close is None else outlet.tell(close).code,
            "reason": "" if close is None else close.reason,
            "by": "client" if close is None else "server",
            "seconds": time.time() - connection.opened_at,
        }
        self._report_connection(CLOSE, connection, lambda _: facts)

    def message(self, connection: Connection, path: str, data: str | bytes, dropped: str = "") -> None:
        """Report a client's message.

        Args:
            connection: the sender.
            path: the path of the channel.
            data: the message.
            dropped: why it was not distributed; empty if it was.
        """
        self._report_connection(
            MESSAGE, connection, lambda content: {**_content(data, path, content), "dropped": dropped}, path
        )

    def publish(self, channel: Channel, public_key: str, message: Message) -> None:
        """Report a message that a server has published, or somebody in the console.

        Args:
            channel: the channel.
            public_key: the API key; empty for the console.
            message: the message.
        """
        cluster_pk, path = channel
        watch = self._watched.get(cluster_pk)
        if watch is not None:
            subject = Subject(path, public_key, "", "")

            def build(content: bool) -> dict[str, Any]:
                event = _event(PUBLISH, subject, lambda content: _content(message.data, path, content), content)
                # The answer arrives before the event is sent, unless Redis takes long.
                self._count(channel, lambda receivers: event.update(receivers=receivers))
                return event

            watch.report(PUBLISH, subject, build)

    def call(self, access: KeyAccess, request: str, network: str | None, status: int, seconds: float) -> None:
        """Report a request to the Cluster API.

        Args:
            access: the API key.
            request: its method and path.
            network: the client's network.
            status: the HTTP status of the response.
            seconds: how long it took.
        """
        watch = self._watched.get(access.cluster_pk)
        if watch is not None:
            subject = Subject("", access.public_key, "", network or "")
            facts = {"request": request, "status": status, "milliseconds": seconds * 1000}
            watch.report(CALL, subject, partial(_event, CALL, subject, lambda _: facts))

    def refuse_handshake(self, close: Close, scope: Mapping[str, Any]) -> None:
        """Log and report a handshake that was refused.

        Args:
            close: the close that the client gets.
            scope: the ASGI scope of the handshake.
        """
        public_key = key_in(scope)
        access = None
        try:
            access = self._keys.find_cached(public_key)
        except KeyError:
            self._lookups_allowed.renew(time.monotonic())
            if self._lookups_allowed.take():
                lookup = asyncio.create_task(self._look_up_and_refuse(close, scope, public_key))
                self._lookups.add(lookup)
                lookup.add_done_callback(self._lookups.discard)
                return
        self._refuse_handshake(close, scope, access)

    def refuse(self, connection: Connection, close: Close, **facts: Any) -> None:
        """Log and report that a connection is refused after its handshake, or for what it has sent.

        Args:
            connection: the connection.
            close: the close that the client gets.
            facts: further values that explain it.
        """
        if close is QUOTA_USED_UP:
            facts = about_quota(connection.access)
        self._refuse_connection(connection, close, connection.path, "", facts)

    def refuse_subscription(self, connection: Connection, path: str, close: Close, jwt: str | None) -> None:
        """Log and report that a client may not subscribe to a channel. Its connection stays open.

        Args:
            connection: the connection.
            path: the path of the channel, which may not be valid.
            close: the close that a connection would get for the same reason.
            jwt: the JWT that the client has sent for the channel.
        """
        detail, facts = explain(close, connection.access, path.partition(":")[2], jwt)
        length = MAX_SHOWN_LENGTH if detail == CHANNEL else MAX_CHANNEL_LENGTH
        self._refuse_connection(connection, close, clean(path, length), detail, facts)

    def refuse_request(self, access: KeyAccess, status: int, network: str | None, client: str) -> None:
        """Log and report a request to publish that was refused for a reason that the account can change.

        Args:
            access: the API key.
            status: the HTTP status of the response.
            network: the client's network.
            client: its `User-Agent`.
        """
        off = why_off(access)
        reason = _REQUEST_REASONS.get(status) if off is None else off.reason
        if reason is not None:
            facts = {"limit": message_limit(access)} if status == 413 else {}
            cause = _cause(access, status, reason)
            client = clean(client, MAX_CLIENT_LENGTH)
            self._refuse(RefusedClient(cause, time.time(), "", "", "", network or "", client, facts))

    async def _look_up_and_refuse(self, close: Close, scope: Mapping[str, Any], public_key: str) -> None:
        access = None
        with contextlib.suppress(DatabaseError):
            access = await self._keys.find(public_key)
        self._refuse_handshake(close, scope, access)

    def _refuse_connection(
        self, connection: Connection, close: Close, path: str, detail: str, facts: Mapping[str, Any]
    ) -> None:
        cause = _cause(connection.access, connection.outlet.tell(close).code, close.reason, detail)
        origin, address = clean(connection.admission.origin or "", MAX_ORIGIN_LENGTH), connection.network or ""
        self._refuse(RefusedClient(cause, time.time(), path, origin, connection.user, address, "", facts))

    def _refuse_handshake(self, close: Close, scope: Mapping[str, Any], access: KeyAccess | None) -> None:
        address = client_address(scope, conf().num_proxies)
        self._refuse(describe(close, scope, access, conf().cluster_domains, address))

    def _refuse(self, client: RefusedClient) -> None:
        self._refusal_log.note(client)
        self._usage.refuse(client.cause)
        if not self._watched:
            return
        cause = client.cause
        is_elsewhere = cause.detail == OTHER_CLUSTER
        watch = self._watches.find(None if is_elsewhere else cause.cluster_pk, cause.cluster_id)
        if watch is None:
            return
        detail, public_key = cause.detail, cause.public_key
        if is_elsewhere and cause.account_pk != watch.account_id:
            detail, public_key = UNKNOWN, ""  # another account's key is never named
        subject = Subject(client.channel, public_key, client.user, client.address)
        facts = {
            "code": cause.code,
            "reason": cause.reason,
            "detail": detail,
            "origin": client.origin,
            "facts": dict(client.facts),
        }
        watch.report(REFUSAL, subject, partial(_event, REFUSAL, subject, lambda _: facts))

    def _report_connection(self, kind: str, connection: Connection, facts: Build, path: str | None = None) -> None:
        watch = self._watched.get(connection.access.cluster_pk)
        if watch is not None:
            path = connection.path if path is None else path
            subject = Subject(path, connection.access.public_key, connection.user, connection.network or "")
            watch.report(kind, subject, partial(_event, kind, subject, facts))


def _event(kind: str, subject: Subject, facts: Build, content: bool) -> dict[str, Any]:
    return {"at": time.time(), "kind": kind, **subject._asdict(), **facts(content)}


def _content(data: str | bytes, path: str, content: bool) -> dict[str, Any]:
    """Return the size of a message, and what a viewer may see of it."""
    size = len(data.encode(errors="replace")) if isinstance(data, str) else len(data)
    if channel_id(path).startswith(ENCRYPTED):
        shown: dict[str, Any] = {"encrypted": True}
    elif isinstance(data, bytes):
        shown = {"binary": True}
    elif content:
        shown = {
            "content": data[:MAX_CONTENT_BYTES].encode(errors="replace")[:MAX_CONTENT_BYTES].decode(errors="ignore")
        }
    else:
        shown = {}
    return {"bytes": size, **shown}


def _cause(access: KeyAccess, code: int, reason: str, detail: str = "") -> Cause:
    return Cause(access.account_id, access.cluster_pk, None, access.public_key, code, reason, detail)
