"""Parsing of a client's handshake: its URL and headers."""

import re
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

from realtime.base.asgi import sent_path
from realtime.protocols.channels import CHANNEL_PATH
from realtime.protocols.closes import BAD_REQUEST, BAD_V4_REQUEST, Refusal

V4 = "/v4/"
"""Begins the paths of PieSocket v4."""
_SOCKET_PATH = re.compile(f"/v[34]/({CHANNEL_PATH.pattern})/?")
# As browsers write it (RFC 6454, section 6.2): without user and path. Parsers disagree about the host of anything else.
_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://(?P<authority>(?P<host>[a-z0-9._-]+)(:[0-9]{1,5})?)")
_ON = frozenset(("", "1", "true", "yes", "on"))
_OFF = frozenset(("0", "false", "no", "off"))
MAX_UUID_LENGTH = 64
MAX_USER_LENGTH = 256
MAX_OPTIONS = 100


@dataclass(frozen=True, slots=True)
class Request:
    """A parsed handshake."""

    path: str
    """`CHANNEL_ID` or `NAMESPACE/CHANNEL_ID`, which identifies the channel within its cluster."""
    channel_id: str
    cluster_id: str | None
    """The cluster in the Host header; None if it contains none."""
    api_key: str
    notify_self: bool
    presence: bool
    uuid: str | None
    user: str | None
    jwt: str | None
    origin: str | None


def parse_request(scope: Mapping[str, Any], cluster_domains: Sequence[str]) -> Request:
    """Parse the path, query and headers of a handshake of PieSocket, which are the same in v3 and v4.

    Raises:
        Refusal: the path or an option is not valid.
    """
    path = sent_path(scope)
    match = _SOCKET_PATH.fullmatch(path)
    if match is None:
        raise Refusal(BAD_V4_REQUEST if path.startswith(V4) else BAD_REQUEST)
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


def first_subprotocol(scope: Mapping[str, Any]) -> str | None:
    """Return the first subprotocol that a client offers; browsers fail unless one of theirs is selected."""
    return next(filter(None, scope.get("subprotocols", ())), None)


def parse_options(query_string: bytes) -> dict[str, str]:
    """Return the query parameters of a URL. If a name is repeated, its first value counts.

    The value of a bare parameter is empty. Badly encoded values are decoded leniently.

    Raises:
        Refusal: there are too many parameters.
    """
    if query_string.count(b"&") >= MAX_OPTIONS:
        raise Refusal(BAD_REQUEST.saying(f"A URL may have at most {MAX_OPTIONS} options."))
    pairs = parse_qsl(query_string.decode("latin-1"), keep_blank_values=True, errors="replace")
    return dict(reversed(pairs))


def parse_flag(options: Mapping[str, str], name: str) -> bool:
    """Return whether an option is on.

    It is on if it is bare, empty, or one of `1 true yes on`. It is off if it is absent or one of `0 false no off`. Case
    does not matter.

    Raises:
        Refusal: the option has another value.
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
    """Return the cluster in a Host header: its first label if the rest is a cluster domain, otherwise None."""
    label, _, domain = host.lower().partition(":")[0].rstrip(".").partition(".")
    return label if domain and domain in cluster_domains else None


def origin_matches(origin: str, allowed: Container[str]) -> bool:
    """Return whether the origin of a web page is allowed: by its exact host, or by `*.` and a parent domain."""
    page = _ORIGIN.fullmatch(origin.lower())
    if page is None:
        return False
    for name in {page["host"], page["authority"]}:
        labels = name.split(".")
        if name in allowed or any("*." + ".".join(labels[start:]) in allowed for start in range(1, len(labels))):
            return True
    return False
