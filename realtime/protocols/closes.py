"""Close codes, their sentences, and whether clients may reconnect (the wire contract, *Refusal*)."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

from realtime.protocols.frames import Message, error_message


@dataclass(frozen=True, slots=True)
class Close:
    """Why the server closes a connection.

    A *final* close means that the client must change something before it reconnects. It has a sentence, sent as
    `{"error": …}` before the close frame: PieSocket's SDKs reconnect until they have read such a frame. The sentence of
    a *passing* close is empty.
    """

    code: int
    reason: str
    """The label in metrics."""
    sentence: str = ""

    def saying(self, sentence: str) -> "Close":
        """Return the same final close with a more precise sentence, which must not contain any part of a credential."""
        return replace(self, sentence=sentence)


class Farewell(NamedTuple):
    """How a client learns that its connection closes."""

    code: int
    """The code of the close frame."""
    message: Message | None
    """The message before the close frame."""


Tell = Callable[[Close], Farewell]
"""Returns how the clients of one protocol learn of a close."""


def tell_piesocket(close: Close) -> Farewell:
    """Return how clients of PieSocket learn of a close."""
    return Farewell(close.code, error_message(close.sentence) if close.sentence else None)


class Refusal(Exception):
    """Raised when a connection cannot be admitted. `close` is the close that it gets."""

    def __init__(self, close: Close) -> None:
        super().__init__(f"{close.code} {close.sentence}".rstrip())
        self.close = close


NOT_UTF8 = Close(1007, "not_utf8", "A text message must be UTF-8; send other bytes as a binary message.")
TOO_BIG = Close(1009, "too_big", "The message is too large; send smaller messages.")
RESTARTING = Close(1012, "restarting")
DISCONNECTED = Close(1012, "disconnected")
"""Somebody of the account has closed the connection. The client may come back."""
OVER_CAPACITY = Close(1013, "over_capacity")
NO_DATABASE = Close(1013, "no_database")
TOO_MANY_OF_ADDRESS = Close(1013, "too_many_of_address")
BAD_REQUEST = Close(
    4000,
    "bad_request",
    "Connect to /v3/CHANNEL_ID, where CHANNEL_ID is 1 to 128 letters, digits, underscores or hyphens.",
)
BAD_V4_REQUEST = BAD_REQUEST.saying(BAD_REQUEST.sentence.replace("/v3/", "/v4/"))
BAD_KEY = Close(4001, "bad_key", "Provide a valid API key of this cluster as the option api_key in the URL.")
KEY_REVOKED = BAD_KEY.saying("The API key of this connection is no longer valid; provide another one.")
ACCOUNT_SUSPENDED = Close(
    4003, "account_suspended", "The account is suspended; its owner can find out why from the operator."
)
CLUSTER_OFF = Close(4003, "cluster_off", "The cluster is switched off; its owner can switch it on.")
BAD_ORIGIN = Close(
    4003, "bad_origin", "This API key does not allow connections from this origin; its owner can allow it."
)
QUOTA_USED_UP = Close(
    4004,
    "quota_used_up",
    "The connection quota of the account or API key is used up; close other connections or raise the quota.",
)
TOO_MANY_MEMBERS = Close(
    4004,
    "too_many_members",
    "The presence of this channel is full; connect without presence or to another channel.",
)
TOO_MANY_CHANNELS = Close(4004, "too_many_channels")
"""The connection has as many subscriptions as it may have. Only the next subscription is refused."""
BAD_JWT = Close(4009, "bad_jwt", "Authentication failed, provide valid jwt token.")
TERMINATED = Close(4009, "terminated", "A server of the application has closed all connections of this user.")
BAD_SUBSCRIPTION = "bad_subscription"
"""The reason for which clients of Pusher's protocol may not subscribe to a channel."""
TOO_SLOW = Close(4100, "too_slow")
TOO_FAST = Close(
    4301, "too_fast", "You kept sending far more messages per second than the quota allows; send less often."
)
