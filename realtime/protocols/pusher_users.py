"""Who may subscribe to which channel of Pusher's protocol, and as whom; and who may sign in."""

from typing import Any, NamedTuple

import msgspec

from accounts.key_access import KeyAccess
from realtime.protocols.closes import BAD_SUBSCRIPTION, Close
from realtime.protocols.frames import compact_json
from realtime.protocols.presence import Identity
from realtime.protocols.pusher_channels import MAX_USER_ID_LENGTH, USER_PREFIX, is_valid_name, kind_of
from realtime.protocols.pusher_frames import SignIn, Subscribe
from realtime.protocols.pusher_signatures import auth_text, user_auth_text, verify

MAX_USER_INFO_BYTES = 1024
MAX_WATCHLIST_USERS = 100
PROTECTED = "This API key protects all channels: subscribe to private or presence channels only."

_decode = msgspec.json.Decoder().decode


class Denied(Exception):
    """Raised when a client may not subscribe or sign in. The text tells it why.

    Args:
        sentence: why.
        kind: the type of the error, as clients know it.
        status: the HTTP status that fits.
        close: the close that tells the reason, if other protocols have it too.
    """

    def __init__(self, sentence: str, kind: str = "AuthError", status: int = 401, close: Close | None = None) -> None:
        super().__init__(sentence)
        self.kind = kind
        self.status = status
        self.close = close or Close(status, BAD_SUBSCRIPTION, sentence)


class User(NamedTuple):
    """A user who has signed in."""

    id: str
    info: Any
    """What the others see in presence channels."""
    watchlist: tuple[str, ...] = ()
    """The users of whom it learns whether they are online."""
    has_longer_watchlist: bool = False
    """Whether it has named more users than it may watch."""


class Permission(NamedTuple):
    """What lets a client subscribe to a channel."""

    secret: str | None
    """The secret that has signed it; None if the channel needs no signature."""
    identity: Identity | None = None
    """The member in a presence channel."""
    is_proven: bool = True
    """Whether the client has proved that it may; public channels need no proof."""

    def __repr__(self) -> str:
        return f"Permission(identity={self.identity!r}, is_proven={self.is_proven!r})"


def authorize(access: KeyAccess, socket_id: str, request: Subscribe, user: User | None) -> Permission:
    """Return what lets a client subscribe to a channel.

    Args:
        access: the key of the connection.
        socket_id: the socket ID of the connection.
        request: what the client has sent.
        user: the user of the connection; None if nobody has signed in.

    Raises:
        Denied: the client may not subscribe.
    """
    channel = request.channel
    if not is_valid_name(channel):
        raise Denied("There can be no channel of this name.", "InvalidChannel", 400)
    if channel.startswith(USER_PREFIX):
        if user is None or channel != USER_PREFIX + user.id:
            raise Denied(f"Only its user, after signing in, can subscribe to {channel}.")
        return Permission(None)
    kind = kind_of(channel)
    if not kind.is_private:
        if access.protects_channels:
            raise Denied(PROTECTED)
        return Permission(None, is_proven=False)
    if not request.auth:
        raise Denied(f"Auth info required to subscribe to {channel}")
    # Without channel_data, a user who has signed in is the member.
    channel_data = request.channel_data if kind.is_presence else None
    secret = _check(access, request.auth, auth_text(socket_id, channel, channel_data), f"subscription to {channel}")
    if not kind.is_presence:
        return Permission(secret)
    if channel_data is None:
        if user is None:
            raise Denied(f"Subscribing to {channel} needs channel_data, or a user who has signed in.")
        return Permission(secret, _identity(user.id, user.info))
    data = _read_object(channel_data)
    return Permission(secret, _identity(_read_id(data.get("user_id")), data.get("user_info")))


def sign_in(access: KeyAccess, socket_id: str, request: SignIn) -> tuple[User, str]:
    """Return the user who signs in, and the secret that has signed it.

    Args:
        access: the key of the connection.
        socket_id: the socket ID of the connection.
        request: what the client has sent.

    Raises:
        Denied: the signature is not valid, or it names no user.
    """
    secret = _check(access, request.auth, user_auth_text(socket_id, request.user_data), "sign-in")
    data = _read_object(request.user_data)
    user_id = data.get("id")
    if not isinstance(user_id, str):
        raise Denied("The id of the user must be a string.")
    watched = _read_watchlist(data.get("watchlist"))
    first = tuple(watched[:MAX_WATCHLIST_USERS])
    return User(_read_id(user_id), data.get("user_info"), first, len(first) < len(watched)), secret


def _check(access: KeyAccess, auth: str, text: str, purpose: str) -> str:
    """Return the secret with which a text is signed.

    Raises:
        Denied: it is not signed with a valid secret of the key.
    """
    key, separator, signature = auth.partition(":")
    if not separator:
        raise Denied(f"Auth value for {purpose} is invalid: should be of format 'key:signature'")
    if key != access.public_key:
        raise Denied("Invalid key in subscription auth data")
    for secret in access.valid_secrets():
        if verify(secret, text, signature):
            return secret
    # The text contains what the others see of a user, which is not kept.
    close = Close(401, BAD_SUBSCRIPTION, "The signature is not that of this connection, channel and secret.")
    raise Denied(f"Invalid signature: Expected HMAC SHA256 hex digest of {text}", close=close)


def _read_object(text: str) -> dict[str, Any]:
    try:
        content = _decode(text)
    except (ValueError, RecursionError):
        content = None
    if not isinstance(content, dict):
        raise Denied("The data of the user must be a JSON object.", "InvalidData", 400)
    return content


def _read_watchlist(user_ids: Any) -> list[str]:
    """Return the users in a watchlist, each once, without what can be no user."""
    return list(dict.fromkeys(filter(_is_user_id, user_ids))) if isinstance(user_ids, list) else []


def _is_user_id(user_id: Any) -> bool:
    # No database stores some of the unprintable characters.
    return isinstance(user_id, str) and 1 <= len(user_id) <= MAX_USER_ID_LENGTH and user_id.isprintable()


def _read_id(user_id: Any) -> str:
    if isinstance(user_id, int) and not isinstance(user_id, bool):
        user_id = str(user_id)
    if not _is_user_id(user_id):
        sentence = f"The ID of the user must have 1 to {MAX_USER_ID_LENGTH} printable characters."
        raise Denied(sentence, "InvalidData", 400)
    return str(user_id)


def _identity(user_id: str, info: Any) -> Identity:
    try:
        identity = Identity.from_json(user_id, compact_json(info))
    except ValueError:
        raise Denied("The user_info has too many levels.", "InvalidData", 400) from None
    if identity.size > MAX_USER_INFO_BYTES:
        raise Denied(f"The user_info must have at most {MAX_USER_INFO_BYTES} bytes.", "InvalidData", 400)
    return identity
