"""What a client asks for with the URL and the headers of its handshake."""

import re
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

from realtime.protocols.channels import CHANNEL_PATH
from realtime.protocols.closes import BAD_REQUEST, Refusal

_SOCKET_PATH = re.compile(f"/v3/({CHANNEL_PATH.pattern})/?")
# As browsers write it (RFC 6454, section 6.2): no user, no path. Of anything else, parsers see different hosts.
_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://(?P<authority>(?P<host>[a-z0-9._-]+)(:[0-9]{1,5})?)")
_ON = frozenset(("", "1", "true", "yes", "on"))
_OFF = frozenset(("0", "false", "no", "off"))
MAX_UUID_LENGTH = 64
MAX_USER_LENGTH = 256
MAX_OPTIONS = 100


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
