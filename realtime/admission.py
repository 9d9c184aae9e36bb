"""From an ASGI scope to an Admission (which channel, with which rights), or a Refusal."""

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from accounts.access import KeyAccess

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

_NAME = "[A-Za-z0-9_-]{1,128}"
_CHANNEL_PATH = re.compile(f"/v3/((?:{_NAME}/)?({_NAME}))/?")
_ON = frozenset(("", "1", "true", "yes", "on"))
_OFF = frozenset(("0", "false", "no", "off"))
MAX_UUID_LENGTH = 64
MAX_USER_LENGTH = 256


@dataclass(frozen=True, slots=True)
class Admission:
    """A connection may be accepted: these are its channel, its key and its options."""

    access: KeyAccess
    group: str
    """The channel-layer group that stands for the channel."""
    channel_id: str
    origin: str | None
    notify_self: bool


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
    if refusal := why_not(access, request.channel_id, request.origin):
        raise Refusal(refusal)
    if request.jwt is not None:
        raise Refusal(BAD_JWT)  # one that is sent must be valid, and there is nothing yet that could say so
    return Admission(
        access, group_name(access.cluster_id, request.path), request.channel_id, request.origin, request.notify_self
    )


def why_not(access: KeyAccess | None, channel_id: str, origin: str | None) -> Close | None:
    """Why a key does not give access to a channel now, None if it does; asked when admitted and at each change."""
    if access is None or access.revoked:
        return KEY_REVOKED
    if access.account_suspended:
        return ACCOUNT_SUSPENDED
    if not access.cluster_enabled:
        return CLUSTER_OFF
    if not _origin_allowed(origin, access.allowed_origins):
        return BAD_ORIGIN
    if access.protects_channels or channel_id.startswith("private-"):
        return BAD_JWT
    return None


def parse_request(scope: Mapping[str, Any], cluster_domains: Sequence[str]) -> Request:
    """Read path, query and headers of a handshake.

    Raises:
        Refusal: the path names no channel, or an option has no meaning.
    """
    match = _CHANNEL_PATH.fullmatch(scope["path"])
    if match is None:
        raise Refusal(BAD_REQUEST)
    options = parse_options(scope["query_string"])
    headers = {name: value.decode("latin-1") for name, value in reversed(scope["headers"])}
    _check_length(options, "uuid", 1, MAX_UUID_LENGTH)
    _check_length(options, "user", 0, MAX_USER_LENGTH)
    parse_flag(options, "presence")
    return Request(
        path=match[1],
        channel_id=match[2],
        cluster_id=cluster_of(headers.get(b"host", ""), cluster_domains),
        api_key=options.get("api_key") or options.get("apiKey") or "",
        notify_self=parse_flag(options, "notify_self"),
        jwt=options.get("jwt", headers.get(b"jwt")),
        origin=headers.get(b"origin"),
    )


def parse_options(query_string: bytes) -> dict[str, str]:
    """The parameters of a URL, the first of each name. Bare ones are empty; badly encoded ones are read as can be."""
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


def _origin_allowed(origin: str | None, allowed: Sequence[str]) -> bool:
    """Whether a browser on a page of this origin may use the key; who sends none is no browser."""
    if origin is None or not allowed:
        return True
    try:
        page = urlsplit(origin.lower())
        host, full_host = page.hostname or "", page.netloc
    except ValueError:
        return False
    for pattern in allowed:
        if pattern in (host, full_host):
            return True
        if pattern.startswith("*.") and (host.endswith(pattern[1:]) or full_host.endswith(pattern[1:])):
            return True
    return False
