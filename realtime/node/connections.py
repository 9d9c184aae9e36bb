"""The connections that a node has admitted, and their subscriptions."""

import time
from asyncio import TimerHandle
from collections.abc import Callable

from accounts.key_access import KeyAccess
from realtime.cluster.connection_counts import Place
from realtime.conf import conf
from realtime.fanout.hub import Member, Room
from realtime.fanout.outlets import Outlet
from realtime.node.message_quotas import AccountUse, Bucket
from realtime.node.usage import KeyTraffic
from realtime.protocols.admission import Admission, Target
from realtime.protocols.closes import Close
from realtime.protocols.frames import Message, Sendable, frame_size

# How many tiny fragments a connection may send in a second, also if it may send only a few messages.
MIN_FRAGMENTS_PER_SECOND = 1_000


SignedIn = tuple[int, str]
"""The primary key of a cluster, and the ID of a user in it."""


class Subscription(Member):
    """The membership of a connection in one channel."""

    __slots__ = ("connection", "identity", "is_counted", "is_proven", "on_welcome", "room")

    def __init__(self, connection: "Connection", target: Target, room: Room) -> None:
        super().__init__(connection.outlet, echo=target.notify_self)
        self.connection = connection
        self.identity = target.identity
        self.is_proven = target.is_proven
        self.room = room
        self.is_counted = False
        """Whether it is counted in its channel, besides its connection."""
        self.on_welcome: Callable[[], None] | None = None
        """Called when it has got the list of the members of its channel."""

    def welcome(self, members: Sendable) -> None:
        super().welcome(members)
        if self.on_welcome is not None:
            self.on_welcome()


class Connection:
    """One admitted connection."""

    __slots__ = (
        "_fragment_bucket",
        "access",
        "admission",
        "allows_client_messages",
        "bucket",
        "end_timer",
        "ended",
        "is_accepted",
        "max_frame_bytes",
        "network",
        "opened_at",
        "outlet",
        "place",
        "primary",
        "proof",
        "signed_in",
        "socket_id",
        "subscriptions",
        "takes_messages",
        "traffic",
        "use",
        "user",
    )

    def __init__(  # noqa: PLR0913, PLR0917
        self,
        admission: Admission,
        outlet: Outlet,
        network: str | None,
        place: Place,
        use: AccountUse,
        traffic: KeyTraffic,
    ) -> None:
        self.admission = admission
        self.outlet = outlet
        self.network = network
        self.opened_at = time.time()
        self.place = place
        self.use = use
        self.traffic = traffic
        self.proof = admission.proof
        self.user = admission.user
        self.primary: Subscription | None = None
        """The subscription to the channel in the URL, if the protocol has one there."""
        self.subscriptions: dict[str, Subscription] = {}
        """All subscriptions, by the groups of their channels."""
        self.socket_id = ""
        """Identifies the connection among those of all nodes, if its protocol gives it such an ID."""
        self.signed_in: SignedIn | None = None
        """The user who has signed in with a frame, if the protocol has users."""
        self.takes_messages = False
        """Whether the client's messages are handled: from the handshake until the connection ends."""
        self.ended: Close | None = None
        self.end_timer: TimerHandle | None = None
        self.is_accepted = False
        self._fragment_bucket: Bucket | None = None
        self.bucket = Bucket(admission.access.quotas.messages_per_second)
        self.apply_settings(admission.access)

    @property
    def id(self) -> str:
        """Identifies the connection among those of all nodes."""
        return self.socket_id or f"{id(self):x}-{self.opened_at:.6f}"

    def apply_settings(self, access: KeyAccess) -> None:
        """Apply the current settings of the key."""
        self.access = access
        self.allows_client_messages = access.allows_client_messages
        self.bucket.set_rate(access.quotas.messages_per_second)
        max_message_bytes = message_limit(access)
        self.max_frame_bytes = frame_size(max_message_bytes)
        self.outlet.limit_messages(max_message_bytes)

    def fragment_bucket(self) -> Bucket:
        """Return the rate limit of frames that cost little, such as tiny fragments; most connections never send any."""
        if self._fragment_bucket is None:
            self._fragment_bucket = Bucket(max(self.access.quotas.messages_per_second, MIN_FRAGMENTS_PER_SECOND))
        return self._fragment_bucket

    def send(self, message: Message) -> None:
        """Send a message to this connection only, after everything that was sent to it before."""
        self.flush()
        self.outlet.deliver(message)

    def flush(self) -> None:
        """Deliver the batched messages of its channels now, not at the end of this loop iteration."""
        for subscription in self.subscriptions.values():
            subscription.room.flush()

    @property
    def is_authenticated(self) -> bool:
        """Whether the client has proved that it may use each of its channels."""
        if self.admission.target is not None and self.proof is None:
            return False
        return all(subscription.is_proven for subscription in self.subscriptions.values())

    @property
    def path(self) -> str:
        """The path of the channel in the URL; empty if there is none."""
        target = self.admission.target
        return "" if target is None else target.channel[1]


def message_limit(access: KeyAccess) -> int:
    """Return the size in bytes of the largest message that a key allows."""
    quota, limit = access.quotas.message_bytes, conf().max_message_bytes
    return limit if quota is None else min(quota, limit)
