"""How clients of Pusher's protocol learn that their connection closes: an error, and a code that tells them what to do.

pusher-js gives up after 4000 to 4099 and from 4300 on, reconnects after a second after 4100 to 4199, and immediately
after 4200 to 4299.
"""

from realtime.protocols.closes import (
    BAD_JWT,
    BAD_KEY,
    BAD_ORIGIN,
    BAD_REQUEST,
    DISCONNECTED,
    NO_DATABASE,
    OVER_CAPACITY,
    RESTARTING,
    TOO_FAST,
    TOO_MANY_OF_ADDRESS,
    Close,
    Farewell,
)
from realtime.protocols.frames import Message, compact_json

NOT_A_VERSION = Close(4006, "bad_version", "The option protocol must be a number.")
UNSUPPORTED_VERSION = Close(4007, "bad_version", "This service supports the versions 4 to 7 of Pusher's protocol.")
NO_VERSION = Close(4008, "bad_version", "Provide the version of the protocol as the option protocol in the URL.")
BAD_SIGN_IN = Close(4009, "bad_sign_in", "The sign-in is not signed with the secret of this app key, or names no user.")

NOT_AUTHORIZED = Close(
    4009,
    "not_authorized",
    "Connection not authorized within timeout: sign in, or subscribe to a private or presence channel.",
)

_RETRY_LATER, _RECONNECT = 4100, 4200
_CODES = {
    BAD_REQUEST.reason: 4005,
    BAD_ORIGIN.reason: 4009,
    RESTARTING.reason: _RECONNECT,
    DISCONNECTED.reason: _RECONNECT,
    # The secret that has signed subscriptions is no longer valid. The client can have them signed with the new one.
    BAD_JWT.reason: _RECONNECT,
    OVER_CAPACITY.reason: _RETRY_LATER,
    NO_DATABASE.reason: _RETRY_LATER,
    TOO_MANY_OF_ADDRESS.reason: _RETRY_LATER,
    TOO_FAST.reason: _RETRY_LATER,
}
_SENTENCES = {
    BAD_REQUEST.reason: "Connect to /app/KEY, where KEY is an API key.",
    BAD_KEY.reason: "There is no such app key, or it belongs to another cluster.",
    BAD_JWT.reason: "The secret that has signed subscriptions is no longer valid; reconnect.",
}
_PASSING = "The server cannot keep the connection now; reconnect."


def tell_pusher(close: Close) -> Farewell:
    """Return how clients of Pusher learn of a close."""
    code = _CODES.get(close.reason, close.code)
    sentence = _SENTENCES.get(close.reason) or close.sentence or _PASSING
    return Farewell(code, error_message(sentence, code))


def error_message(sentence: str, code: int | None = None) -> Message:
    """Return an error that concerns the connection."""
    return Message(compact_json({"event": "pusher:error", "data": {"code": code, "message": sentence}}))
