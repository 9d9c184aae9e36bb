"""A node: one server process with its connections, their rooms, and its part in the channel layer.

Only the node changes the hub and the bus, and it changes both in the right order. Everything here belongs to the loop
thread; other threads may only use `Node.call`.
"""

import asyncio
import gc
import logging
import math
import sys
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping
from contextvars import Context
from functools import partial
from typing import Any

from channels.layers import get_channel_layer
from django.conf import settings

from accounts.access import find_access, record_use
from accounts.key_access import KeyAccess
from accounts.quota_notices import send_quota_notices
from accounts.refusals import prune_refusals, record_refusals
from accounts.usage import record_messages
from accounts.usage_history import prune_usage, record_usage
from realtime.base.tasks import KeptTask
from realtime.base.time_slices import run_promptly
from realtime.cluster import bus
from realtime.cluster.bus import make_bus
from realtime.cluster.connection_counts import ConnectionCounts
from realtime.cluster.last_events import LastEvents, SharedLastEvents
from realtime.cluster.recent_actions import RecentActions, SharedRecentActions
from realtime.cluster.redis_connection_counts import RedisConnectionCounts
from realtime.conf import conf
from realtime.fanout.backlogs import CHECK_SECONDS, Backlogs
from realtime.fanout.hub import Hub, Member
from realtime.fanout.outlets import Outlet
from realtime.live.watches import PREFIX as LIVE
from realtime.live.watches import Watches
from realtime.metrics.counters import Counters
from realtime.metrics.lag import Lag
from realtime.node import access_changes, users, watchlists
from realtime.node.access_changes import AccessChanges
from realtime.node.connections import Connection, Subscription
from realtime.node.database import background, lookups
from realtime.node.inquiries import PREFIX as INQUIRY
from realtime.node.inquiries import Inquiries
from realtime.node.key_cache import KeyCache
from realtime.node.key_use import KeyUse
from realtime.node.message_quotas import MessageQuotas, connection_quotas
from realtime.node.refusal_log import RefusalLog
from realtime.node.reports import Reports
from realtime.node.shutdown import Shutdown
from realtime.node.subscription_counts import SubscriptionCounts
from realtime.node.subscriptions import Subscriptions
from realtime.node.usage import Store, Usage
from realtime.node.users import Users
from realtime.node.watchlists import Watchlists
from realtime.node.webhooks import Webhooks
from realtime.presence import shared as shared_presence
from realtime.presence.local import Presence
from realtime.presence.shared import RedisPresence
from realtime.protocols.admission import Admission, Proof, end_of
from realtime.protocols.closes import BAD_JWT, OVER_CAPACITY, QUOTA_USED_UP, RESTARTING, Close, Refusal
from realtime.protocols.frames import Frames, Message
from realtime.server import signals
from realtime.server.addresses import address_limits
from realtime.server.answers import answers
from realtime.server.fair_scheduling import scheduler
from realtime.webhooks import sender as webhook_sender

logger = logging.getLogger(__name__)

# The longest time until a node looks again whether the JWT of a connection has ended.
MAX_TIMER_SECONDS = 3600.0
# How long a thread may compute while the loop waits; Python's default is fifty times as long.
SWITCH_SECONDS = 0.0001


class Node:
    """A server process and everything that it serves. Created by `current_node`."""

    def __init__(self) -> None:
        self.id = uuid.uuid4().hex
        self.loop = asyncio.get_running_loop()
        self.lag = Lag()
        self.counters = Counters()
        self.backlogs = Backlogs(conf().max_backlog_bytes, conf().max_total_backlog_bytes)
        self.hub = Hub(self.loop.call_soon)
        self.keys = KeyCache(lookups.wrap(find_access), conf().key_cache_seconds)
        note_round_trip = self.counters.round_trip_seconds.observe
        self.bus = make_bus(get_channel_layer(), self._deliver, self.handle_event, note_round_trip)
        if settings.REDIS_URLS:
            counts = RedisConnectionCounts(settings.REDIS_URLS[0], settings.REDIS_PREFIX, self.id)
            self.counts: ConnectionCounts = counts
            self.presence: Presence = RedisPresence(self.id, conf().max_presence_bytes, counts, self.bus.send)
            self.last_events: LastEvents = SharedLastEvents(counts.client)
            self.recent_actions: RecentActions = SharedRecentActions(counts.client)
        else:
            self.last_events = LastEvents()
            self.recent_actions = RecentActions()
            self.counts = ConnectionCounts()
            self.presence = Presence(self.id, conf().max_presence_bytes)
        self.message_quotas = MessageQuotas(background.wrap(record_messages))
        record = background.wrap(partial(record_usage, self.id))
        store = Store(record, background.wrap(prune_usage), background.wrap(send_quota_notices))
        self.usage = Usage(store, self.counts, conf().usage_seconds)
        self.key_use = KeyUse(background.wrap(record_use))
        self.refusal_log = RefusalLog(background.wrap(record_refusals), background.wrap(prune_refusals))
        self.webhooks = Webhooks(self.id, self.counts, self.presence)
        self.messages_reported = self.webhooks.clusters_with_messages
        """Empty while no webhook gets messages; then this is all that webhooks cost a message."""
        self.watches = Watches(self.id, self.bus)
        self.reports = Reports(self.watches, self.refusal_log, self.usage, self.keys, self.counts.count)
        self.watched = self.watches.watched
        """Empty while nobody watches live; then this is all that Live costs a message."""
        self.connections: set[Connection] = set()
        self.sockets: dict[str, Mapping[str, Member]] = {}
        """The subscriptions of each connection that has a socket ID: its memberships of rooms, by their groups."""
        self.users = Users(self.bus, self.end)
        self.watchlists = Watchlists(self.bus, self.counts)
        subscription_counts = SubscriptionCounts(self.counts, self._publish_everywhere, self.webhooks)
        self.subscriptions = Subscriptions(
            self.hub, self.bus, self.counts, self.presence, self.webhooks, subscription_counts
        )
        self.access_changes = AccessChanges(self.keys, self.connections, self.end, self._apply_settings)
        self.inquiries = Inquiries(self.id, self.bus, self.hub, self.counts.living_nodes, self.end)
        self._checking = KeptTask("checking the backlogs", self._check_backlogs)
        self._shutdown = Shutdown(
            self.connections,
            self._close_for_restart,
            [
                self.access_changes.stop,
                self.watches.stop,
                self.watchlists.stop,
                self.webhooks.stop,
                self.refusal_log.stop,
                self.key_use.stop,
                self.message_quotas.stop,
                self.usage.stop,
                self.presence.stop,
                self.counts.stop,
                self.bus.stop,
                self.lag.stop,
                self._checking.stop,
            ],
        )

    def start(self) -> None:
        """Start all parts of the node and make stop signals drain it first."""
        self.lag.start()
        self._checking.start()
        self.bus.start()
        self.counts.start()
        self.message_quotas.start()
        self.usage.start()
        self.key_use.start()
        self.refusal_log.start()
        self.watches.start()
        self.watchlists.start()
        self.webhooks.start()
        self.access_changes.start()
        self.presence.start()
        # Everything loaded until now lives as long as the process. Each garbage collection would block the loop for
        # another 40 ms to look through it.
        gc.freeze()
        # The loop waits this long for a thread that computes, each time that it comes back from a system call. Then it
        # preempts what its core computes.
        sys.setswitchinterval(SWITCH_SECONDS)
        run_promptly()
        scheduler.on_turn = self.hub.flush
        answers.is_delivering = self.hub.has_pending
        signals.before_stop(self._shutdown.drain, self._shutdown.hurry)

    @property
    def redis_is_reachable(self) -> bool | None:
        """Whether this node reaches Redis, for messages and for connection counts; None without Redis."""
        return self.counts.is_reachable and self.bus.is_reachable if settings.REDIS_URLS else None

    @property
    def is_draining(self) -> bool:
        """Whether the node is shutting down and rejects new connections."""
        return self._shutdown.has_begun

    def check_capacity(self) -> None:
        """Check that this node can accept another connection.

        Raises:
            Refusal: the node is shutting down or full.
        """
        if self.is_draining:
            raise Refusal(RESTARTING)
        if len(self.connections) >= conf().max_connections:
            raise Refusal(OVER_CAPACITY)

    def open(self, admission: Admission, outlet: Outlet, network: str | None) -> Connection:
        """Create a connection and count it until it leaves.

        Args:
            admission: what the connection may do.
            outlet: sends messages to the client.
            network: the network that the client connects from; None if it is unknown.

        Raises:
            Refusal: the node is full, or a quota is used up.
        """
        self.check_capacity()
        access = admission.access
        place = self.counts.enter(admission.channel, connection_quotas(access))
        if place is None:
            raise Refusal(QUOTA_USED_UP)
        use, traffic = self.message_quotas.open(access), self.usage.open(access)
        connection = Connection(admission, outlet, network, place, use, traffic)
        self.connections.add(connection)
        self._schedule_end(connection)
        address_limits.open(network)
        self.counters.opened += 1
        return connection

    async def join(self, connection: Connection, accept: Callable[[], Awaitable[None]]) -> None:
        """Complete the handshake of a connection, and add it to the channel in its URL if it has one there.

        The connection receives every message that is sent on any node after its client has seen it open.

        Args:
            connection: a connection that is not accepted yet.
            accept: accepts it, which completes the client's handshake.
        """
        target = connection.admission.target
        if target is not None:
            await self.bus.join(target.group)
        if connection.ended is None:  # its access may have been withdrawn in the meantime
            # First receive, then count: others that count it may send it a message immediately, which the outlet keeps.
            if target is not None:
                connection.primary = self.subscriptions.enter(connection, target)
            if not await self.counts.join(connection.place) and connection.ended is None:
                self.counters.refusals[QUOTA_USED_UP.reason] += 1
                connection.ended = QUOTA_USED_UP
                self.reports.refuse(connection, QUOTA_USED_UP)
        if connection.ended is not None:
            self.leave(connection)
        await accept()
        connection.is_accepted = True
        connection.outlet.open(discard=connection.ended is not None)
        if connection.ended is not None:
            self.leave(connection)
            connection.outlet.close(connection.ended)
            return
        connection.takes_messages = True
        if self.watched:
            self.reports.connect(connection)
        self.key_use.note(connection.access.public_key)
        primary = connection.primary
        if primary is None or target is None:
            return
        self.subscriptions.count(primary)
        self.subscriptions.report(primary)
        if primary.identity is not None:
            try:
                self.subscriptions.join_presence(primary, primary.identity, target.events)
            except Refusal as refusal:
                self.counters.refusals[refusal.close.reason] += 1
                self.reports.refuse(connection, refusal.close)
                self.end(connection, refusal.close)
            else:
                if self.watched:
                    self.reports.subscribe(connection, connection.path, primary.identity)

    def prove(self, connection: Connection, proof: Proof) -> None:
        """Note a proof that a client has given after its handshake. The connection ends when one of them does."""
        known = connection.proof
        if known is None or end_of(connection.access, proof) < end_of(connection.access, known):
            connection.proof = proof
            self._schedule_end(connection)

    def leave(self, connection: Connection) -> None:
        """Remove a connection. It may have left already, or may never have joined."""
        if connection not in self.connections:
            return
        self.connections.remove(connection)
        if self.watched and connection.is_accepted:
            self.reports.close(connection)
        if connection.end_timer is not None:
            connection.end_timer.cancel()
        admission = connection.admission
        self.counts.leave(connection.place)
        self.message_quotas.close(admission.access)
        self.usage.close(admission.access)
        address_limits.close(connection.network)
        for subscription in connection.subscriptions.values():
            self.subscriptions.drop(subscription)
        if connection.primary is None and admission.target is not None:
            self.bus.leave(admission.target.group)  # it has not joined its room
        connection.primary, connection.subscriptions, connection.takes_messages = None, {}, False
        if connection.signed_in is not None:
            self.users.sign_out(connection)
            self.watchlists.leave(connection)

    def end(self, connection: Connection, close: Close) -> None:
        """Close a connection from the server's side. It no longer counts, and neither sends nor receives messages."""
        connection.ended = close
        if connection.is_accepted and connection in self.connections:
            connection.flush()
            self.leave(connection)
            connection.outlet.close(close)

    def publish(self, sender: Subscription, message: Message) -> None:
        """Send a client's message to its channel on all nodes."""
        room, connection = sender.room, sender.connection
        self.hub.publish(room, message, sender)
        self.bus.publish(room.name, message, connection.access.account_id)
        if self.messages_reported and room.channel[0] in self.messages_reported:
            self.webhooks.messages.note(room.channel, message.data, sender)

    def publish_to(self, group: str, message: Message, account_id: int, on_done: Callable[[], None]) -> None:
        """Send a server's message to a channel on all nodes, in one order with other servers' messages.

        Args:
            group: the group of the channel.
            message: the message.
            account_id: the account of the API key.
            on_done: called when this node has delivered the message and Redis, if it is reachable, has taken it.
        """
        self.counters.published += 1
        self.bus.publish_in_order(group, message, account_id, on_done)

    def _publish_everywhere(self, group: str, message: Message, account_id: int) -> None:
        """Send a message of the service itself to a channel on all nodes."""
        self._deliver(group, message)
        self.bus.publish(group, message, account_id)

    def call(self, function: Callable[..., object], *args: Any) -> None:
        """Schedule a function to run on the loop. The only method that other threads may call."""
        # In the caller's context, database calls would be bound to the caller's thread, which may end first.
        self.loop.call_soon_threadsafe(function, *args, context=Context())

    def _close_for_restart(self, connection: Connection) -> None:
        """Ask a client to reconnect elsewhere. Messages that it sends before it sees the close are still published."""
        if connection.ended is None:
            kept = connection.primary, connection.subscriptions, connection.takes_messages
            self.end(connection, RESTARTING)
            connection.primary, connection.subscriptions, connection.takes_messages = kept

    def handle_event(self, event: dict[str, Any]) -> None:
        """Handle an event from another node or from the bus."""
        match event["type"]:
            case access_changes.EVENT:
                self.access_changes.apply(event)
                self.webhooks.change()
            case webhook_sender.DUE:
                self.webhooks.wake()
            case kind if kind.startswith(LIVE):
                self.watches.receive(event)
            case kind if kind.startswith(INQUIRY):
                self.inquiries.receive(event)
            case users.TERMINATE:
                self.users.receive(event)
            case watchlists.CHANGED:
                self.watchlists.receive(event)
            case bus.INTERRUPTED:
                self.presence.compare()
                self.access_changes.check_all()
            case shared_presence.EVENT if isinstance(self.presence, RedisPresence):
                self.presence.receive(event)
            case unknown:
                logger.warning("Ignored an unknown event: %r", unknown)

    def _apply_settings(self, connection: Connection, access: KeyAccess) -> None:
        """Apply the current settings of a key to one of its connections."""
        self.message_quotas.account(access)  # updates the account's quota
        connection.apply_settings(access)
        self._schedule_end(connection)

    def _schedule_end(self, connection: Connection) -> None:
        """Close a connection when its JWT ends. Connections without one need no timer."""
        proof = connection.proof
        if proof is None:
            return
        if connection.end_timer is not None:
            connection.end_timer.cancel()
            connection.end_timer = None
        seconds = end_of(connection.access, proof) - time.time()
        if seconds <= 0:
            self.end(connection, BAD_JWT)
        elif seconds < math.inf:  # clocks can be set, so look again at least every hour
            wait = min(seconds, MAX_TIMER_SECONDS)
            connection.end_timer = self.loop.call_later(wait, self._schedule_end, connection)

    async def _check_backlogs(self) -> None:
        while True:
            await asyncio.sleep(CHECK_SECONDS)
            self.backlogs.check()

    def _deliver(self, group: str, messages: Message | Frames) -> None:
        room = self.hub.rooms.get(group)
        if room is not None:
            excluded = messages.excluded
            self.hub.publish(room, messages, self.sockets.get(excluded, {}).get(group) if excluded else None)
