"""Pusher's protocol: any number of channels, which clients subscribe to with frames."""

import secrets

from accounts.models import WebhookKind
from realtime.base import tasks
from realtime.cluster.recent_actions import CACHE_MISS
from realtime.conf import conf
from realtime.node.connections import Connection, Subscription
from realtime.node.message_quotas import Bucket
from realtime.node.node import Node
from realtime.protocols import pusher_frames as frames
from realtime.protocols.admission import Proof, Target
from realtime.protocols.channels import Channel
from realtime.protocols.closes import TOO_MANY_CHANNELS, Refusal
from realtime.protocols.frames import Message, frame_size
from realtime.protocols.presence import Identity, shown_user
from realtime.protocols.pusher_channels import group_for, is_short_enough, kind_of, path_for
from realtime.protocols.pusher_closes import BAD_SIGN_IN, NOT_AUTHORIZED, error_message, tell_pusher
from realtime.protocols.pusher_frames import CLIENT_EVENTS, Frame, PusherEvents, SignIn, Subscribe
from realtime.protocols.pusher_handshake import read_pusher
from realtime.protocols.pusher_users import MAX_WATCHLIST_USERS, PROTECTED, Denied, Permission, User, authorize, sign_in
from realtime.sessions.base import NOT_ALLOWED, TOO_OFTEN, Notice, Session

BAD_EVENT = Notice(
    "bad_event", "Client events need a private or presence channel, and a name of at most 200 characters."
)

_DROPPED = 4301
_TOO_LONG = 4302
_ENDLESS = float("inf")


class Pusher(Session):
    """A connection of Pusher's protocol.

    Args:
        node: the node of this process.
        connection: the connection.
    """

    __slots__ = ("_events", "_joining", "_user")

    read = staticmethod(read_pusher)
    tell = staticmethod(tell_pusher)

    def __init__(self, node: Node, connection: Connection) -> None:
        super().__init__(node, connection)
        connection.socket_id = f"{secrets.randbelow(10**10)}.{secrets.randbelow(10**10)}"
        self._user: User | None = None
        self._events: Bucket | None = None
        # The groups that the connection joins now, and whether the client still wants to subscribe.
        self._joining: dict[str, bool] = {}

    def open(self) -> None:
        self.node.sockets[self.connection.socket_id] = self.connection.subscriptions
        self.connection.outlet.deliver(frames.hello(self.connection.socket_id))
        if self.connection.access.closes_unauthorized_connections:
            # A proof replaces this timer by one for its own end.
            self.connection.end_timer = self.node.loop.call_later(conf().authorization_seconds, self._end_unauthorized)

    def _end_unauthorized(self) -> None:
        if self.connection.access.closes_unauthorized_connections:
            self.node.reports.refuse(self.connection, NOT_AUTHORIZED)
            self.node.end(self.connection, NOT_AUTHORIZED)

    def leave(self) -> None:
        super().leave()
        self.node.sockets.pop(self.connection.socket_id, None)

    def receive(self, data: str | bytes) -> None:
        if not self.connection.takes_messages:
            return
        frame = frames.read_frame(data)
        if frame is not None and frame.event.startswith(CLIENT_EVENTS):
            self._relay(frame, data)
            return
        self.count_frame(is_fragment=True)
        if self.connection.ended is not None:
            return
        match None if frame is None else frame.event:
            case "pusher:ping":
                self.connection.outlet.deliver(frames.PONG)
            case "pusher:subscribe" if frame is not None:
                self._subscribe(frames.read_data(frame.data, Subscribe))
            case "pusher:unsubscribe" if frame is not None:
                self._unsubscribe(frames.read_data(frame.data, Subscribe))
            case "pusher:signin" if frame is not None:
                self._sign_in(frames.read_data(frame.data, SignIn))
            case "pusher:pong":
                pass
            case None:
                self._report("Invalid frame: send a JSON object with an event, as text.")
            case _:
                self._report("Unsupported event received on socket")

    def answer_dropped(self, notice: Notice) -> None:
        self._report(notice.sentence, _DROPPED)

    def _report(self, sentence: str, code: int | None = None) -> None:
        self.connection.outlet.deliver(error_message(sentence, code))

    def _relay(self, frame: Frame, data: str | bytes) -> None:
        """Send the event of a client to the others in its channel."""
        connection = self.connection
        channel = frame.channel if frame.channel and is_short_enough(frame.channel) else ""
        subscription = connection.subscriptions.get(group_for(connection.access.cluster_id, channel))
        bucket = connection.bucket
        bucket.tokens -= 1
        if bucket.tokens < 0 and not bucket.refill():
            self.exceed_rate(path_for(channel), data)
        elif not connection.allows_client_messages:
            self.drop(NOT_ALLOWED, path_for(channel), data)
        elif not kind_of(channel).is_private or len(frame.event) > frames.MAX_EVENT_NAME_LENGTH:
            self.drop(BAD_EVENT, path_for(channel), data)
        elif subscription is None:
            pass  # it may have been sent before the answer to an unsubscription
        elif not self._is_within_event_rate():
            self.drop(TOO_OFTEN, path_for(channel), data)
        else:
            identity = subscription.identity
            message = frames.client_event(frame, None if identity is None else identity.uuid)
            size = len(data) if isinstance(data, bytes) or data.isascii() else len(data.encode())
            self.publish(subscription, data, message, frame_size(size))

    def _is_within_event_rate(self) -> bool:
        """Count an event; return whether the client may send it now."""
        if self._events is None:
            self._events = Bucket(conf().client_events_per_second)
        return self._events.take()

    def _subscribe(self, request: Subscribe | None) -> None:
        if request is None:
            self._report("Invalid subscription: send the channel in data.")
            return
        connection, channel = self.connection, request.channel
        if not is_short_enough(channel):
            self._report("The name of the channel is too long.")
            return
        group = group_for(connection.access.cluster_id, channel)
        if group in self._joining:
            self._joining[group] = True
            return
        try:
            is_repeated = group in connection.subscriptions
            limit = conf().max_channels_per_connection
            if not is_repeated and self._has_channels(limit):
                sentence = f"A connection may subscribe to at most {limit} channels."
                raise Denied(sentence, "LimitReached", 403, TOO_MANY_CHANNELS)
            permission = authorize(connection.access, self.connection.socket_id, request, self._user)
            if is_repeated and permission.identity is not None and not connection.bucket.take():
                raise Denied(TOO_OFTEN.sentence, "LimitReached", 429)  # since the list of members may be long
        except Denied as denied:
            self._deny(channel, denied)
            return
        self._note_proof(permission.secret)
        self._joining[group] = True
        tasks.run_and_keep(
            self._answer_again(group, channel) if is_repeated else self._join(group, channel, permission)
        )

    def _has_channels(self, number: int) -> bool:
        """Return whether the connection has so many channels, together with those that it joins now."""
        subscribed, joining = self.connection.subscriptions, self._joining
        # A channel is in both while a repeated subscription is answered.
        most = len(subscribed) + len(joining)
        return most >= number and most - len(subscribed.keys() & joining.keys()) >= number

    async def _join(self, group: str, channel: str, permission: Permission) -> None:
        node, identity = self.node, permission.identity
        subscriptions = node.subscriptions
        counted = (self.connection.access.cluster_pk, path_for(channel))
        target = Target(group, counted, notify_self=False, identity=identity, is_proven=permission.is_proven)
        try:
            subscription = await subscriptions.subscribe(self.connection, target)
        finally:
            is_wanted = self._joining.pop(group)
        if subscription is None:
            return
        if not is_wanted:
            subscriptions.unsubscribe(subscription)
            return
        if self.connection.access.protects_channels and not permission.is_proven:  # since a moment ago
            subscriptions.unsubscribe(subscription)
            self._deny(channel, Denied(PROTECTED))
            return
        if identity is not None and not self._join_presence(subscription, identity, channel):
            return
        if node.watched:
            node.reports.subscribe(self.connection, counted[1], identity)
        if identity is None:
            self.connection.outlet.deliver(frames.subscription_succeeded(channel))
            if kind_of(channel).is_cache:
                await self._send_last_event(group, channel)

    async def _send_last_event(self, group: str, channel: str) -> None:
        event = await self.node.last_events.find(group)
        subscription = self.connection.subscriptions.get(group)
        if subscription is None:
            return
        self.connection.outlet.deliver(frames.cache_miss(channel) if event is None else Message(event.frame))
        if event is None:
            await self._report_miss(subscription.room.channel)

    async def _report_miss(self, channel: Channel) -> None:
        """Report to webhooks that a cache channel has no last event, once for all who subscribe in the next minutes."""
        node = self.node
        is_wanted = channel[0] in node.webhooks.clusters_with_misses
        if is_wanted and await node.recent_actions.claim(CACHE_MISS, *channel):
            node.webhooks.messages.note_event(WebhookKind.MISSED, channel)

    def _join_presence(self, subscription: Subscription, identity: Identity, channel: str) -> bool:
        """Join the presence of a channel, which answers the client with the list of members; return whether it may."""
        if kind_of(channel).is_cache:
            group = subscription.room.name
            subscription.on_welcome = lambda: tasks.run_and_keep(self._send_last_event(group, channel))
        try:
            self.node.subscriptions.join_presence(subscription, identity, PusherEvents(channel))
        except Refusal as refusal:
            self.node.subscriptions.unsubscribe(subscription)
            sentence = refusal.close.sentence or "Members join and leave too fast; try again later."
            self._deny(channel, Denied(sentence, "LimitReached", 403, refusal.close))
            return False
        return True

    async def _answer_again(self, group: str, channel: str) -> None:
        """Answer a client that is subscribed already."""
        is_presence, members = kind_of(channel).is_presence, list[Identity]()
        try:
            if is_presence:
                members = await self.node.presence.members(group, newest_is_listed=PusherEvents.newest_is_listed)
        finally:
            is_wanted = self._joining.pop(group)
        subscription = self.connection.subscriptions.get(group)
        if subscription is None:
            return
        if not is_wanted:
            self.unsubscribe(subscription)
        elif is_presence:
            self.connection.outlet.deliver(PusherEvents(channel).list_message(members))
        else:
            self.connection.outlet.deliver(frames.subscription_succeeded(channel))

    def _deny(self, channel: str, denied: Denied) -> None:
        self.note_refused_subscription(path_for(channel), denied.close)
        message = frames.subscription_error(channel, denied.kind, str(denied), denied.status)
        self.connection.outlet.deliver(message)

    def _unsubscribe(self, request: Subscribe | None) -> None:
        if request is None:
            self._report("Invalid unsubscription: send the channel in data.")
            return
        if not is_short_enough(request.channel):
            return
        group = group_for(self.connection.access.cluster_id, request.channel)
        if group in self._joining:
            self._joining[group] = False
        elif group in self.connection.subscriptions:
            self.unsubscribe(self.connection.subscriptions[group])

    def _sign_in(self, request: SignIn | None) -> None:
        try:
            if request is None:
                raise Denied("Invalid sign-in: send auth and user_data.")
            user, secret = sign_in(self.connection.access, self.connection.socket_id, request)
            if self._user is not None and self._user.id != user.id:
                raise Denied("Another user has signed in on this connection.")
        except Denied as denied:
            self.node.reports.refuse(self.connection, BAD_SIGN_IN)
            self.node.end(self.connection, BAD_SIGN_IN.saying(str(denied)))
            return
        self._user = user
        self._note_proof(secret)
        self.connection.user = shown_user(user.id)
        self.node.users.sign_in(self.connection, user.id)
        self.connection.outlet.deliver(frames.signin_success(request.user_data))
        self.node.watchlists.sign_in(self.connection, user.id, user.watchlist)
        if user.has_longer_watchlist and self.connection.access.sends_watchlist_events:
            self._report(f"A watchlist may have at most {MAX_WATCHLIST_USERS} users; the first ones count.", _TOO_LONG)

    def _note_proof(self, secret: str | None) -> None:
        """Remember the secret that has signed something, since the connection ends when it is not valid any more."""
        if secret is not None:
            self.node.prove(self.connection, Proof(secret, _ENDLESS))
