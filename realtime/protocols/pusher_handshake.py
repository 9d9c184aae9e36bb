"""The handshake of Pusher's protocol: `/app/KEY?protocol=7&client=js&version=8.6.0`."""

import re
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from accounts.key_access import KeyAccess
from realtime.base.asgi import sent_path
from realtime.protocols.admission import Admission, Handshake, check_key, why_not
from realtime.protocols.closes import BAD_REQUEST, Refusal
from realtime.protocols.handshake import cluster_of, parse_options
from realtime.protocols.pusher_channels import PATH_PREFIX
from realtime.protocols.pusher_closes import NO_VERSION, NOT_A_VERSION, UNSUPPORTED_VERSION

# Clients may put a prefix before `/app`.
_PATH = re.compile(r"(?:/[A-Za-z0-9._~-]+)*/app/([^/]*)/?")
_PIESOCKET = re.compile(r"/v[0-9]+/")
_VERSIONS = range(4, 8)


def is_for_pusher(path: str) -> bool:
    """Return whether the path of a handshake is one of Pusher's."""
    return _PATH.fullmatch(path) is not None and _PIESOCKET.match(path) is None


def key_in_path(path: str) -> str:
    """Return the API key that a path of Pusher's names; empty if it is none of these."""
    match = _PATH.fullmatch(path)
    return "" if match is None else match[1]


def read_pusher(scope: Mapping[str, Any], cluster_domains: Sequence[str]) -> Handshake:
    """Return a handshake of Pusher's protocol.

    Raises:
        Refusal: the version of the protocol is missing or not supported.
    """
    api_key = key_in_path(sent_path(scope))
    if not api_key:
        raise Refusal(BAD_REQUEST)
    _check_version(parse_options(scope["query_string"]))
    headers = {name: value.decode("latin-1") for name, value in reversed(scope["headers"])}
    host, origin = headers.get(b"host", ""), headers.get(b"origin")
    return Handshake(api_key, partial(_decide, cluster_of(host, cluster_domains), origin))


def _check_version(options: Mapping[str, str]) -> None:
    version = options.get("protocol", "")
    if not version:
        raise Refusal(NO_VERSION)
    if not (version.isascii() and version.isdigit()):
        raise Refusal(NOT_A_VERSION)
    if len(version) > 1 or int(version) not in _VERSIONS:
        raise Refusal(UNSUPPORTED_VERSION)


def _decide(cluster_id: str | None, origin: str | None, access: KeyAccess | None) -> Admission:
    access = check_key(access, cluster_id)
    # What a client may subscribe to is decided for each channel.
    if close := why_not(access, "", origin, authenticated=True):
        raise Refusal(close)
    return Admission(
        access=access,
        origin=origin,
        channel=(access.cluster_pk, PATH_PREFIX),
        target=None,
        proof=None,
        user="",
    )
