"""PieSocket v4: the channel in the URL, and any number of further channels, to which clients subscribe with frames."""

from collections.abc import Hashable, Mapping
from functools import lru_cache, partial
from typing import Any

from msgspec import Raw

from realtime.base import tasks
from realtime.conf import conf
from realtime.node.connections import Connection, Subscription
from realtime.node.node import Node
from realtime.protocols import commands
from realtime.protocols import v4_frames as frames
from realtime.protocols.admission import why_not
from realtime.protocols.closes import (
    BAD_REQUEST,
    BAD_V4_REQUEST,
    TOO_MANY_CHANNELS,
    Close,
    Refusal,
    tell_piesocket,
)
from realtime.protocols.frames import Message, frame_size, system_message
from realtime.protocols.handshake import parse_options
from realtime.protocols.refused_handshakes import key_in
from realtime.protocols.v4_admission import Permission, permit_wish, read_v4
from realtime.protocols.v4_channels import PATH_PREFIX, group_for, path_for, read_name
from realtime.protocols.v4_frames import Frame, V4Events
from realtime.sessions.base import NOT_ALLOWED, TOO_OFTEN, Notice, Session
from realtime.sessions.piesocket_v3 import FORGED

NOT_SUBSCRIBED = Notice("not_subscribed", "Subscribe to a channel before you send messages to it.")
UNREADABLE = Notice("unreadable", "Send text that is not null, valid JSON, or base64 in a pie::binary.")

_BAD_CHANNEL = "Send the channel in data: 1 to 128 letters, digits, underscores or hyphens."
_BAD_WISH = BAD_REQUEST.saying("The presence, uuid, user or jwt in data is not valid.")
_NOT_SUBSCRIBED = "The connection is not subscribed to this channel."
_IN_URL = "The channel in the URL cannot be left; close the connection instead."
_TOO_BUSY = "Members join and leave too fast; try again later."
_LEFT = "The client has unsubscribed in the meantime."
_ERRORS = {
    frames.SUBSCRIBE: "subscribe_error",
    frames.UNSUBSCRIBE: "unsubscribe_error",
    frames.GET_MEMBERS: "member_list_error",
}
# Raw bytes are for the channel in the URL.
_BINARY = Frame()


class PieSocketV4(Session):
    """A connection of PieSocket v4. A message is handled without creating a task or changing the thread.

    Args:
        node: the node of this process.
        connection: the connection.
    """

    __slots__ = ("_asking", "_joining")

    read = staticmethod(read_v4)
    tell = staticmethod(tell_piesocket)

    def __init__(self, node: Node, connection: Connection) -> None:
        super().__init__(node, connection)
        # The groups that the connection joins now, and whether the client still wants to subscribe.
        self._joining: dict[str, bool] = {}
        # The groups whose members are being looked up for the client.
        self._asking: set[str] = set()

    @staticmethod
    def looping_client(scope: Mapping[str, Any]) -> Hashable | None:
        try:
            options = parse_options(scope["query_string"])
        except Refusal:
            options = {}
        # Anybody can send long ones.
        return hash((key_in(scope), options.get("uuid", "")))

    def open(self) -> None:
        """Send nothing: clients subscribe to the channel in the URL by connecting."""

    def receive(self, data: str | bytes) -> None:
        connection = self.connection
        primary = connection.primary
        if primary is None:
            return  # the server has closed the connection
        frame = _BINARY if isinstance(data, bytes) else frames.read_frame(data)
        if frame is not None and frame.control:
            self._control(frame.control, frame.data)
            return
        path = connection.path if frame is None or frame.channel is None else path_for(frame.channel)
        bucket = connection.bucket
        bucket.tokens -= 1
        if bucket.tokens < 0 and not bucket.refill():
            self.exceed_rate(path, data)
        elif isinstance(data, str) and data.startswith(commands.PREFIX):
            commands.answer(data, partial(self.node.counts.count, primary.room.channel), self._answer_here)
        elif not connection.allows_client_messages:
            self.drop(NOT_ALLOWED, path, data)
        elif frame is None:
            self.drop(UNREADABLE, path, data)
        elif frame.event.startswith(frames.SYSTEM):
            self.drop(FORGED, path, data)
        else:
            self._relay(frame, primary, path, data)

    def answer_dropped(self, notice: Notice) -> None:
        self.connection.outlet.deliver(_notice_message(notice, self._place))

    @property
    def _place(self) -> str:
        """The channel in the URL."""
        return self.connection.path.removeprefix(PATH_PREFIX)

    def _answer_here(self, answer: Message) -> None:
        self.connection.send(frames.answer_in(self._place, answer))

    def _relay(self, frame: Frame, primary: Subscription, path: str, data: str | bytes) -> None:
        """Send a message of the client to the others in its channel."""
        connection, subscription = self.connection, primary
        if frame.channel is not None:
            found = connection.subscriptions.get(group_for(connection.access.cluster_id, frame.channel))
            if found is None:
                self.drop(NOT_SUBSCRIBED, path, data)
                return
            subscription = found
        message = _message(frame, path.removeprefix(PATH_PREFIX), data)
        if message is None:
            self.drop(UNREADABLE, path, data)
        else:
            size = len(data) if isinstance(data, bytes) or data.isascii() else len(data.encode())
            self.publish(subscription, data, message, frame_size(size))

    def _control(self, control: str, data: Raw) -> None:
        """Do what a frame asks of the server."""
        self.count_frame(is_fragment=True)
        if self.connection.ended is not None:
            return
        channel = frames.read_channel(data)
        name = read_name(channel)
        if name is None:
            if control == frames.SUBSCRIBE:
                self.note_refused_subscription(path_for("" if channel is None else str(channel)), BAD_V4_REQUEST)
            self._refuse(control, channel, self._place, _BAD_CHANNEL)
        elif control == frames.SUBSCRIBE:
            self._subscribe(name, channel, data)
        elif control == frames.UNSUBSCRIBE:
            self._unsubscribe(name, channel)
        else:
            self._list_members(name, channel)

    def _answer(self, event: str, name: str, channel: str | int | None, **more: str) -> None:
        """Answer a control frame.

        Args:
            event: the name of the answer.
            name: the channel.
            channel: the channel as the client has sent it, by which it recognizes the answer.
            more: further data.
        """
        message = frames.control_message(event, name, {"channel": channel, **more})
        self.connection.outlet.deliver(message)

    def _refuse(self, control: str, channel: str | int | None, name: str, error: str) -> None:
        """Answer that a control frame has no effect."""
        self._answer(_ERRORS[control], name, channel, error=error)
        if control == frames.SUBSCRIBE:
            self.connection.outlet.deliver(frames.subscription_lost(channel, error, self._place))

    def _refuse_subscription(self, name: str, channel: str | int | None, close: Close, jwt: str | None = None) -> None:
        """Answer that a client may not subscribe to a channel, and report why."""
        self.note_refused_subscription(path_for(name), close, jwt)
        self._refuse(frames.SUBSCRIBE, channel, name, close.sentence or _TOO_BUSY)

    def _group(self, name: str) -> str:
        return group_for(self.connection.access.cluster_id, name)

    def _subscribe(self, name: str, channel: str | int | None, data: Raw) -> None:
        connection, group = self.connection, self._group(name)
        if group in self._joining:
            self._joining[group] = True
            return
        wish, known = frames.read_wish(data), connection.subscriptions.get(group)
        if known is not None:
            self._answer("subscribe_success", name, channel)
            if known.identity is not None or (wish is not None and wish.presence):
                self._send_members(name, channel)
            return
        try:
            if wish is None:
                raise Refusal(_BAD_WISH)
            limit = conf().max_channels_per_connection
            if len(connection.subscriptions) + len(self._joining) >= limit:
                raise Refusal(TOO_MANY_CHANNELS.saying(f"A connection may subscribe to at most {limit} channels."))
            target = connection.admission.target
            notify_self = target is not None and target.notify_self
            permission = permit_wish(
                connection.access, name, wish, connection.admission.origin, notify_self=notify_self
            )
        except Refusal as refusal:
            self._refuse_subscription(name, channel, refusal.close, None if wish is None else wish.jwt)
            return
        if permission.proof is not None:
            self.node.prove(connection, permission.proof)
        self._joining[group] = True
        tasks.run_and_keep(self._join(group, name, channel, permission))

    async def _join(self, group: str, name: str, channel: str | int | None, permission: Permission) -> None:
        node, connection, target = self.node, self.connection, permission.target
        try:
            subscription = await node.subscriptions.subscribe(connection, target)
        finally:
            is_wanted = self._joining.pop(group)
        if subscription is None:
            return
        # The access of the key may have changed in the meantime.
        close = why_not(connection.access, name, connection.admission.origin, authenticated=target.is_proven)
        if close is None and target.identity is not None and is_wanted:
            try:
                node.subscriptions.join_presence(subscription, target.identity, target.events)
            except Refusal as refusal:
                close = refusal.close
        if close is not None or not is_wanted:
            node.subscriptions.unsubscribe(subscription)
            if close is None:
                self._refuse(frames.SUBSCRIBE, channel, name, _LEFT)
            else:
                self._refuse_subscription(name, channel, close)
            return
        if node.watched:
            node.reports.subscribe(connection, target.channel[1], target.identity)
        # Clients expect the list of members after this, which presence sends in a later turn of the loop.
        self._answer("subscribe_success", name, channel)

    def _unsubscribe(self, name: str, channel: str | int | None) -> None:
        connection, group = self.connection, self._group(name)
        subscription = connection.subscriptions.get(group)
        if group in self._joining:
            self._joining[group] = False
        elif subscription is None:
            self._refuse(frames.UNSUBSCRIBE, channel, name, _NOT_SUBSCRIBED)
            return
        elif subscription is connection.primary:
            self._refuse(frames.UNSUBSCRIBE, channel, name, _IN_URL)
            return
        else:
            subscription.room.flush()
            self.unsubscribe(subscription)
        self._answer("unsubscribe_success", name, channel)

    def _list_members(self, name: str, channel: str | int | None) -> None:
        if self._group(name) in self.connection.subscriptions:
            self._send_members(name, channel)
        else:
            self._refuse(frames.GET_MEMBERS, channel, name, _NOT_SUBSCRIBED)

    def _send_members(self, name: str, channel: str | int | None) -> None:
        """Send the list of members, unless it is on its way. Since lists may be long, it costs as much as a message."""
        group = self._group(name)
        if not self.connection.bucket.take():
            self._refuse(frames.GET_MEMBERS, channel, name, TOO_OFTEN.sentence)
        elif group not in self._asking:
            self._asking.add(group)
            tasks.run_and_keep(self._look_up_members(group, V4Events(name)))

    async def _look_up_members(self, group: str, events: V4Events) -> None:
        try:
            members = await self.node.presence.members(group, newest_is_listed=events.newest_is_listed)
        finally:
            self._asking.discard(group)
        if group in self.connection.subscriptions:
            self.connection.outlet.deliver(events.list_message(members))


def _message(frame: Frame, channel: str, data: str | bytes) -> Message | None:
    """Return the message with which the others get what a client has sent; None if it is not valid."""
    if isinstance(data, bytes):
        return frames.binary_message(data, channel)
    if frame.members is None:
        return Message(data)
    if frame.event != frames.BINARY:
        return frames.stamped(frame.members, channel)
    content = frames.read_binary(frame.data)
    return None if content is None else frames.binary_message(content, channel, frame.members.get("meta"))


@lru_cache(maxsize=1_000)
def _notice_message(notice: Notice, channel: str) -> Message:
    return frames.answer_in(channel, system_message({"error": notice.sentence}))
