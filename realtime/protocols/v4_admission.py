"""Who may subscribe to which channel of PieSocket v4, with the URL or with a frame, and as which member."""

import contextlib
import hashlib
import uuid
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import msgspec
from msgspec import Raw

from accounts.key_access import KeyAccess
from realtime.protocols.admission import Admission, Handshake, Proof, Target, check_key, verify_jwt, why_not
from realtime.protocols.channels import channel_id
from realtime.protocols.closes import BAD_JWT, BAD_REQUEST, Refusal
from realtime.protocols.frames import compact_json
from realtime.protocols.handshake import MAX_USER_LENGTH, MAX_UUID_LENGTH, Request, parse_flag, parse_request
from realtime.protocols.presence import Identity, shown_user
from realtime.protocols.v4_channels import PATH_PREFIX, group_for, path_for
from realtime.protocols.v4_frames import V4Events, Wish

# No longer than what webhooks and the database take for the ID of a member.
_MAX_KEY_LENGTH = 64
_USER, _UUID = "user:", "uuid:"
# The longest JSON of a permitted user that is a string: all its characters may be escaped.
_MAX_ESCAPED = 6 * MAX_USER_LENGTH + 2
_NOBODY = Raw(b"null")
_decode = msgspec.json.Decoder().decode


class Permission(NamedTuple):
    """What a client may subscribe to."""

    target: Target
    proof: Proof | None
    """The JWT that was checked; None if the client sent none."""
    user: Any
    """The user in the JWT; None if there is none."""


def read_v4(scope: Mapping[str, Any], cluster_domains: Sequence[str]) -> Handshake:
    """Return a handshake of PieSocket v4.

    Raises:
        Refusal: the path or an option is not valid.
    """
    request = parse_request(scope, cluster_domains)
    return Handshake(request.api_key, partial(_decide, request))


def _decide(request: Request, access: KeyAccess | None) -> Admission:
    access = check_key(access, request.cluster_id)
    target, proof, user = permit(access, request, notify_self=request.notify_self, user=request.user)
    return Admission(
        access=access,
        origin=request.origin,
        channel=(access.cluster_pk, PATH_PREFIX),
        target=target,
        proof=proof,
        user=shown_user(request.user if user is None else user),
    )


def permit_wish(access: KeyAccess, name: str, wish: Wish, origin: str | None, *, notify_self: bool) -> Permission:
    """Return what lets a client subscribe to a further channel.

    Args:
        access: the key of the connection.
        name: the name of the channel.
        wish: how the client subscribes.
        origin: the origin of the web page that has connected; None for other clients.
        notify_self: whether the connection gets its own messages.

    Raises:
        Refusal: the client may not subscribe.
    """
    member, user = None if wish.uuid is None else str(wish.uuid), _read_user(wish.user)
    if member is not None and not 1 <= len(member) <= MAX_UUID_LENGTH:
        raise Refusal(BAD_REQUEST.saying(f"The uuid must have 1 to {MAX_UUID_LENGTH} characters."))
    options = {} if wish.presence is None else {"presence": str(wish.presence)}
    request = Request(
        path=name,
        channel_id=channel_id(name),
        cluster_id=None,
        api_key=access.public_key,
        notify_self=notify_self,
        presence=parse_flag(options, "presence") or channel_id(name).startswith("presence-"),
        uuid=member,
        user=None,
        jwt=wish.jwt,
        origin=origin,
    )
    return permit(access, request, notify_self=notify_self, user=user)


def _read_user(sent: Raw) -> Any:
    """Return whom a client says that it subscribes for: a string, or another JSON value.

    Raises:
        Refusal: it is too long, or has a number that nobody can represent.
    """
    is_text = memoryview(sent)[0] == ord('"')
    user: Any = None
    if len(sent) <= (_MAX_ESCAPED if is_text else MAX_USER_LENGTH):
        with contextlib.suppress(ValueError):
            user = _decode(sent)
    if (user is None and sent != _NOBODY) or (is_text and len(user) > MAX_USER_LENGTH):
        raise Refusal(BAD_REQUEST.saying(f"The user must be JSON of at most {MAX_USER_LENGTH} characters."))
    return user


def permit(access: KeyAccess, request: Request, *, notify_self: bool, user: Any) -> Permission:
    """Return what lets a client subscribe to the channel of a request.

    Args:
        access: the key.
        request: the handshake, or a frame as if it were one.
        notify_self: whether the connection gets its own messages.
        user: whom the client says that it connects for.

    Raises:
        Refusal: the client may not subscribe.
    """
    if close := why_not(access, request.path, request.origin, authenticated=request.jwt is not None):
        raise Refusal(close)
    proof, verified = (None, None) if request.jwt is None else verify_jwt(request.jwt, access, request.path)
    target = Target(
        group=group_for(access.cluster_id, request.path),
        channel=(access.cluster_pk, path_for(request.path)),
        notify_self=notify_self,
        identity=_identity(request.uuid or str(uuid.uuid4()), verified, user) if request.presence else None,
        is_proven=proof is not None,
        events=V4Events(request.path),
    )
    return Permission(target, proof, verified)


def _identity(member: str, verified: Any, user: Any) -> Identity:
    """Return the identity of a member. All connections of one user are one member, if JWTs name the user.

    Args:
        member: the `uuid` of the client.
        verified: the user in the JWT; None if there is none.
        user: whom the client says that it connects for.

    Raises:
        Refusal: the user in the JWT cannot be written as JSON.
    """
    try:
        if verified is None:
            # Anybody can send any uuid, but must not become the connection of a verified user.
            key = _key(_UUID, member) if member.startswith(_USER) else member
            shown = "anonymous" if user in (None, "") else user
        else:
            key = _key(_USER, verified if isinstance(verified, str) else compact_json(verified))
            shown = verified
        return Identity.from_json(key, compact_json({"uuid": member, "user": shown}))
    except ValueError:
        raise Refusal(BAD_JWT) from None


def _key(kind: str, name: str) -> str:
    """Return what identifies a member within its channel."""
    if name.isprintable() and len(kind) + len(name) <= _MAX_KEY_LENGTH:
        return kind + name
    digest = hashlib.sha256(name.encode(errors="surrogatepass")).hexdigest()
    return f"{kind}{digest}"[:_MAX_KEY_LENGTH]
