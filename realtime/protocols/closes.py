"""Close codes, their sentences, and whether the client may come back: the table *Refusal* of the wire contract."""

from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class Close:
    """Why the server ends a connection.

    A *final* close has a sentence, sent as `{"error": …}` before the close frame: the client must change something
    first, and PieSocket's SDKs stop reconnecting only when they have read such a frame. A *passing* close has none.
    """

    code: int
    reason: str
    """Names it among few, as metrics do."""
    sentence: str | None = None

    def saying(self, sentence: str) -> "Close":
        """The same final close with a more precise sentence. It must tell no credential and no part of one."""
        return replace(self, sentence=sentence)


class Refusal(Exception):
    """A connection cannot be admitted, or not any longer; `close` says how it ends."""

    def __init__(self, close: Close) -> None:
        super().__init__(f"{close.code} {close.sentence or ''}".rstrip())
        self.close = close


NOT_UTF8 = Close(1007, "not_utf8", "A text message must be UTF-8; send other bytes as a binary message.")
TOO_BIG = Close(1009, "too_big", "The message is larger than this server accepts; send less at a time.")
RESTARTING = Close(1012, "restarting")
OVER_CAPACITY = Close(1013, "over_capacity")
NO_DATABASE = Close(1013, "no_database")
TOO_MANY_OF_ADDRESS = Close(1013, "too_many_of_address")
BAD_REQUEST = Close(
    4000, "bad_request", "Connect to /v3/CHANNEL_ID with 1 to 128 letters, digits, _ or - as the channel ID."
)
BAD_KEY = Close(4001, "bad_key", "Provide a valid API key of this cluster as api_key in the URL.")
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
    "The account or API key has as many connections as its quota allows; close some, or have it raised.",
)
TOO_MANY_MEMBERS = Close(
    4004,
    "too_many_members",
    "The channel has as many members in presence as can be told of; connect without presence, or to another channel.",
)
BAD_JWT = Close(4009, "bad_jwt", "Authentication failed, provide valid jwt token.")
TOO_SLOW = Close(4100, "too_slow")
TOO_FAST = Close(
    4301, "too_fast", "Far more messages a second than the quota allows, in spite of notices; send less often."
)
