"""From an ASGI scope to an Admission (which channel, with which rights, as whom), or a Refusal."""

import re
import uuid
from collections.abc import Awaitable, Callable, Container, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

from accounts.key_access import KeyAccess

from . import tokens
from .bus import group_name
from .closes import (
    ACCOUNT_SUSPENDED,
    BAD_JWT,
    BAD_KEY,
    BAD_ORIGIN,
    BAD_REQUEST,
    CLUSTER_OFF,
    KEY_REVOKED,
    Close,
    Refusal,
)
from .roster import Identity
from .shares import Channel

_NAME = "[A-Za-z0-9_-]{1,128}"
CHANNEL_PATH = re.compile(f"(?:{_NAME}/)?({_NAME})")
"""`CHANNEL_ID`, which is the group of the match, or `NAMESPACE/CHANNEL_ID`."""
_SOCKET_PATH = re.compile(f"/v3/({CHANNEL_PATH.pattern})/?")
# As browsers write it (RFC 6454, section 6.2): no user, no path. Of anything else, parsers see different hosts.
_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://(?P<authority>(?P<host>[a-z0-9._-]+)(:[0-9]{1,5})?)")
_ON = frozenset(("", "1", "true", "yes", "on"))
_OFF = frozenset(("0", "false", "no", "off"))
MAX_UUID_LENGTH = 64
MAX_USER_LENGTH = 256
MAX_OPTIONS = 100


@dataclass(frozen=True, slots=True)
class Admission:
    """A connection may be accepted: these are its channel, its key and its options."""

    access: KeyAccess
    group: str
    """The channel-layer group that stands for the channel."""
    channel: Channel
    """The channel for counting."""
    channel_id: str
    origin: str | None
    notify_self: bool
    authenticated: bool
    """Whether a JWT was checked."""
    identity: Identity | None
    """Who takes part in presence; None if presence is off."""


@dataclass(frozen=True, slots=True)
class Request:
    """What a handshake asks for."""

    path: str
    """`CHANNEL_ID` or `NAMESPACE/CHANNEL_ID`: as a whole, the channel within its cluster."""
    channel_id: str
    cluster_id: str | None
    """The cluster that the Host header names, if it names one."""
    api_key: str
    notify_self: bool
    presence: bool
    uuid: str | None
    user: str | None
    jwt: str | None
    origin: str | None


async def admit(
    scope: Mapping[str, Any],
    cluster_domains: Sequence[str],
    find_key: Callable[[str], Awaitable[KeyAccess | None]],
) -> Admission:
    """Decide on a handshake.

    Args:
        scope: of an ASGI `websocket` connection.
        cluster_domains: the domains under which clusters live.
        find_key: returns what is known of a public key, None if there is no such key.

    Raises:
        Refusal: it may not connect; the refusal says why.
    """
    request = parse_request(scope, cluster_domains)
    access = await find_key(request.api_key) if request.api_key else None
    if access is None or access.revoked or request.cluster_id not in (None, access.cluster_id):
        raise Refusal(BAD_KEY)
    authenticated = request.jwt is not None
    if refusal := why_not(access, request.channel_id, request.origin, authenticated=authenticated):
        raise Refusal(refusal)
    user = None
    if request.jwt is not None:
        if access.secret is None:
            raise Refusal(BAD_JWT)
        user = tokens.verify(request.jwt, access.secret, request.channel_id)
    return Admission(
        access=access,
        group=group_name(access.cluster_id, request.path),
        channel=(access.cluster_pk, request.path),
        channel_id=request.channel_id,
        origin=request.origin,
        notify_self=request.notify_self,
        authenticated=authenticated,
        identity=_identity(request, user) if request.presence else None,
    )


def _identity(request: Request, user: Any) -> Identity:
    """
    Args:
        request: what is asked for.
        user: what the JWT says; it stands over what the URL says.
    """
    try:
        return Identity.of(request.uuid or str(uuid.uuid4()), user if user is not None else request.user or "anonymous")
    except ValueError:
        raise Refusal(BAD_JWT) from None


def why_not(access: KeyAccess | None, channel_id: str, origin: str | None, *, authenticated: bool) -> Close | None:
    """Why a key does not give access to a channel now, None if it does; asked when admitted and at each change.

    Args:
        access: what is known of the key.
        channel_id: of the channel.
        origin: of the web page that asks, if it is one.
        authenticated: whether there is a JWT, which is another's business to check.
    """
    if access is None or access.revoked:
        return KEY_REVOKED
    if access.account_suspended:
        return ACCOUNT_SUSPENDED
    if not access.cluster_enabled:
        return CLUSTER_OFF
    if origin is not None and access.allowed_origins and not origin_matches(origin, access.allowed_origins):
        return BAD_ORIGIN
    if not authenticated and (access.protects_channels or channel_id.startswith("private-")):
        return BAD_JWT
    return None


def parse_request(scope: Mapping[str, Any], cluster_domains: Sequence[str]) -> Request:
    """Read path, query and headers of a handshake.

    Raises:
        Refusal: the path names no channel, or an option has no meaning.
    """
    match = _SOCKET_PATH.fullmatch(scope["path"])
    if match is None:
        raise Refusal(BAD_REQUEST)
    options = parse_options(scope["query_string"])
    headers = {name: value.decode("latin-1") for name, value in reversed(scope["headers"])}
    _check_length(options, "uuid", 1, MAX_UUID_LENGTH)
    _check_length(options, "user", 0, MAX_USER_LENGTH)
    presence = parse_flag(options, "presence")
    return Request(
        path=match[1],
        channel_id=match[2],
        cluster_id=cluster_of(headers.get(b"host", ""), cluster_domains),
        api_key=options.get("api_key") or options.get("apiKey") or "",
        notify_self=parse_flag(options, "notify_self"),
        presence=presence or match[2].startswith("presence-"),
        uuid=options.get("uuid"),
        user=options.get("user"),
        jwt=options.get("jwt", headers.get(b"jwt")),
        origin=headers.get(b"origin"),
    )


def parse_options(query_string: bytes) -> dict[str, str]:
    """The parameters of a URL, the first of each name. Bare ones are empty; badly encoded ones are read as can be.

    Raises:
        Refusal: there are too many.
    """
    if query_string.count(b"&") >= MAX_OPTIONS:
        raise Refusal(BAD_REQUEST.saying(f"A URL has at most {MAX_OPTIONS} options."))
    pairs = parse_qsl(query_string.decode("latin-1"), keep_blank_values=True, errors="replace")
    return dict(reversed(pairs))


def parse_flag(options: Mapping[str, str], name: str) -> bool:
    """Whether an option is on: bare or one of `1 true yes on`; off: absent or one of `0 false no off`; in any case.

    Raises:
        Refusal: it is none of these.
    """
    value = options.get(name, "0").lower()
    if value in _ON:
        return True
    if value in _OFF:
        return False
    raise Refusal(BAD_REQUEST.saying(f"The option {name} must be 1 or 0."))


def _check_length(options: Mapping[str, str], name: str, shortest: int, longest: int) -> None:
    if name in options and not shortest <= len(options[name]) <= longest:
        raise Refusal(BAD_REQUEST.saying(f"The option {name} must have {shortest} to {longest} characters."))


def cluster_of(host: str, cluster_domains: Sequence[str]) -> str | None:
    """The cluster that a Host header names: its first label, when the rest is a cluster domain."""
    label, _, domain = host.lower().partition(":")[0].rstrip(".").partition(".")
    return label if domain and domain in cluster_domains else None


def origin_matches(origin: str, allowed: Container[str]) -> bool:
    """Whether a web page's origin is one of those allowed: an exact host, or `*.` and a domain above it."""
    page = _ORIGIN.fullmatch(origin.lower())
    if page is None:
        return False
    for name in {page["host"], page["authority"]}:
        labels = name.split(".")
        if name in allowed or any("*." + ".".join(labels[start:]) in allowed for start in range(1, len(labels))):
            return True
    return False
