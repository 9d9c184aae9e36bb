"""The stream of Live to a page of the console: a WebSocket that only the console's own pages may open.

Server-sent events would be an HTTP request that never ends. Requests have a time limit here, their number is limited
for each address and for all of Django, and a page could neither renew its lease nor change its filter on the same
connection. A WebSocket has none of these limits, its backlog is bounded like that of any client, and the ping of the
server notices a browser that has gone.
"""

import asyncio
import heapq
import json
import logging
import re
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.db import Error as DatabaseError
from django.http.cookie import parse_cookie
from django.http.request import split_domain_port, validate_host

from accounts.channels import LARGEST
from accounts.live_access import MayNotWatch, Watched, check_watcher, key_labels
from accounts.remedies import describe
from realtime.base import tasks
from realtime.base.asgi import Receive, Send, sent_path
from realtime.conf import conf
from realtime.fanout.outlets import AsgiOutlet, Outlet
from realtime.live.viewers import KINDS, MAX_FILTER_LENGTH, REFUSAL, Terms
from realtime.live.watches import LEASE_SECONDS, View
from realtime.node.database import background
from realtime.node.node import Node
from realtime.node.running import current_node
from realtime.protocols.channels import counts_connections, is_channel
from realtime.protocols.closes import RESTARTING, Close
from realtime.protocols.frames import Message, compact_json
from realtime.server.addresses import address_limits, client_network
from realtime.server.websocket import outlet_for

logger = logging.getLogger(__name__)

_PATH = re.compile(r"/console/([0-9]{1,18})/live/([a-z0-9-]{1,63})/stream")
# How often the page gets what has happened, how often it gets the number of connections, and how often the right to
# watch is checked again, in seconds.
FRAME_SECONDS = 0.25
COUNT_SECONDS = 2.0
# Counting the connections of a large cluster takes time, and is repeated after this many times as much.
COUNT_PAUSE = 50
CHECK_SECONDS = 5.0
# How many keys the label of which contains the filter are looked for.
MAX_FILTERED_KEYS = 200
# The largest message of the page, in bytes: what it wants to see.
MAX_TERMS_BYTES = 4096
NOTHING: dict[str, Any] = {"kinds": [], "filter": "", "content": False}
FULL = "Five people are watching this cluster already."
ENDED = Close(1000, "live_ended")
"""The page has got the reason, and does not come back."""
LEASE_EXPIRED = Close(4408, "live_lease_expired")

_check_watcher = background.wrap(check_watcher)
_key_labels = background.wrap(key_labels)


class LiveStream:
    """Serves the streams of Live and passes all other connections to another application."""

    def __init__(self, next_application: Callable[..., Awaitable[None]]) -> None:
        """
        Args:
            next_application: the ASGI application for all other paths.
        """
        self._next_application = next_application

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        match = _PATH.fullmatch(sent_path(scope))
        if match is None:
            await self._next_application(scope, receive, send)
            return
        await receive()  # websocket.connect
        session_key = _session_of(scope)
        if session_key is None or address_limits.count_request(client_network(scope, conf().num_proxies)):
            await send({"type": "websocket.close"})  # before it is accepted: 403
            return
        node = current_node()
        outlet = outlet_for(send, node.backlogs, node.counters.closes)
        stream = _Stream(node, outlet or AsgiOutlet(send, node.backlogs, node.counters.closes), session_key)
        try:
            await send({"type": "websocket.accept"})
            await stream.serve(int(match[1]), match[2], receive)
        finally:
            stream.outlet.stop()


class _Stream:
    """One page that watches a cluster."""

    def __init__(self, node: Node, outlet: Outlet, session_key: str) -> None:
        self.outlet = outlet
        self._node = node
        self._session_key = session_key
        self._terms: dict[str, Any] | None = None
        """What the page has asked for since the lease was last renewed."""
        self._labels: dict[str, tuple[int, str]] = {}
        self._labels_are_old = False

    async def serve(self, account_pk: int, cluster_id: str, receive: Receive) -> None:
        """Send what happens in the cluster until the page leaves, or may not watch any more.

        The page begins by saying what it wants to see.
        """
        self.outlet.open()
        self.outlet.limit_messages(MAX_TERMS_BYTES)
        view: View | None = None
        sending: asyncio.Task[None] | None = None
        try:
            event = await receive()
            try:
                watched = await _check_watcher(self._session_key, account_pk, cluster_id)
                self._labels = await _key_labels(watched.cluster_pk)
            except MayNotWatch as reason:
                self._end(str(reason))
            except DatabaseError:
                self.outlet.close(RESTARTING)
            else:
                if self._node.watches.has_room(watched.cluster_pk):
                    view = View(watched.cluster_pk, watched.cluster_id, watched.account_pk)
                    await self._node.watches.open(view, self._with_keys(_read(event.get("text")) or NOTHING))
                    sending = asyncio.create_task(self._send(watched, view))
                else:
                    self._end(FULL)
            while event["type"] == "websocket.receive":
                event = await receive()
                self._terms = _read(event.get("text")) or self._terms
        finally:
            if sending is not None:
                await tasks.end([sending])
            if view is not None:
                self._node.watches.close(view)

    async def _send(self, watched: Watched, view: View) -> None:
        try:
            await self._send_frames(watched, view)
        except MayNotWatch as reason:
            self._end(str(reason))
        except Exception:
            logger.exception("A stream of Live has failed.")
            self.outlet.close(RESTARTING)

    async def _send_frames(self, watched: Watched, view: View) -> None:
        now = asyncio.get_running_loop().time
        renewed_at = checked_at = now()
        count_at = 0.0
        while not self._node.is_draining:
            if self._terms is not None:
                self._node.watches.renew(view, self._with_keys(self._terms))
                self._terms, renewed_at = None, now()
            if now() - renewed_at > LEASE_SECONDS:
                self.outlet.close(LEASE_EXPIRED)
                return
            if now() - checked_at > CHECK_SECONDS:
                checked_at = now()
                await self._check(watched)
            frame: dict[str, Any] = {}
            if now() > count_at:
                began = now()
                frame = await self._count(view.cluster_pk)
                count_at = now() + max(COUNT_SECONDS, (now() - began) * COUNT_PAUSE)
            events = view.take()
            if events or view.counts.all or frame:
                frame |= {"events": [self._shown(event) for event in events], **view.counts.take()}
                self.outlet.deliver(Message(compact_json(frame)))
            await asyncio.sleep(FRAME_SECONDS)
        self.outlet.close(RESTARTING)

    async def _count(self, cluster_pk: int) -> dict[str, Any]:
        """Return the number of connections on all nodes, the number of channels, and the largest of them."""
        counted = await self._node.counts.of_cluster(cluster_pk)
        connections = sum(count for path, count in counted.items() if counts_connections(path))
        channels = {path: count for path, count in counted.items() if is_channel(path)}
        largest = heapq.nlargest(LARGEST, channels.items(), key=lambda channel: channel[1])
        return {"connections": connections, "channel_count": len(channels), "channels": largest}

    async def _check(self, watched: Watched) -> None:
        """Check that the user may still watch.

        Raises:
            MayNotWatch: the user may not.
        """
        try:
            await _check_watcher(self._session_key, watched.account_pk, watched.cluster_id)
            if self._labels_are_old:
                self._labels = await _key_labels(watched.cluster_pk)
                self._labels_are_old = False
        except DatabaseError as error:  # an outage is reported where clients wait for the database
            logger.debug("Cannot check who watches: %s", error)

    def _end(self, sentence: str) -> None:
        self.outlet.deliver(Message(compact_json({"end": sentence})))
        self.outlet.close(ENDED)

    def _with_keys(self, terms: dict[str, Any]) -> Terms:
        text = terms["filter"].strip().lower()
        named = (public_key for public_key, (_, label) in self._labels.items() if text and text in label.lower())
        keys = [public_key for public_key, _ in zip(named, range(MAX_FILTERED_KEYS), strict=False)]
        return Terms(terms["kinds"], text, keys, terms["content"])

    def _shown(self, event: dict[str, Any]) -> dict[str, Any]:
        """Return an event with the label of its key, and the words for a refusal."""
        shown = {name: value for name, value in event.items() if name != "public_key"}
        public_key = event["public_key"]
        if public_key:
            self._labels_are_old |= public_key not in self._labels
            shown["key"] = self._labels.get(public_key, (0, f"{public_key[:8]}…"))[1]
        if event["kind"] == REFUSAL:
            shown["sentence"] = describe(event["reason"], event["detail"], event["origin"], event["facts"])
            del shown["facts"]
        return shown


def _session_of(scope: MutableMapping[str, Any]) -> str | None:
    """Return the session of a page of the console that opens this connection; None if it is no such page.

    Browsers send cookies with WebSockets of any page, so the page must come from the host that it connects to.
    """
    headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
    host = headers.get(b"host", "").lower()
    origin = urlsplit(headers.get(b"origin", "").lower())
    domain, _ = split_domain_port(host)
    if not domain or origin.netloc != host or not validate_host(domain, settings.ALLOWED_HOSTS):
        return None
    if origin.scheme not in (("https",) if settings.HTTPS else ("http", "https")):
        return None
    key: str | None = parse_cookie(headers.get(b"cookie", "")).get(settings.SESSION_COOKIE_NAME)
    return key


def _read(text: str | None) -> dict[str, Any] | None:
    """Return what a page wants to see; None if that cannot be read."""
    try:
        terms = json.loads(text or "")
    except (ValueError, RecursionError):
        return None
    if not isinstance(terms, dict):
        return None
    kinds, text, content = terms.get("kinds"), terms.get("filter"), terms.get("content")
    if not isinstance(kinds, list) or not isinstance(text, str) or len(text) > MAX_FILTER_LENGTH:
        return None
    return {"kinds": [kind for kind in KINDS if kind in kinds], "filter": text, "content": content is True}
