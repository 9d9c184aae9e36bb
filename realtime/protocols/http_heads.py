"""The head of an HTTP request, read so that no proxy on the way can have read it differently (RFC 9112).

A proxy that finds the end of a request elsewhere than this server could be made to pass on a request of its client as
part of somebody else's. What is not valid is therefore refused, and nothing is repaired.
"""

import re
from collections.abc import Iterable
from typing import NamedTuple

_TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]++"
_FIELD = _TOKEN + rb":[\t\x20-\x7e\x80-\xff]*+"
_FIELD_LINE = re.compile(_FIELD)
# Sections 3 and 5. Without bare CR or LF, other control characters, spaces before colons, and folded lines.
_HEAD = re.compile(rb"(?P<method>%b) (?P<target>[\x21-\x7e]++) HTTP/1\.(?P<minor>[01])(?:\r\n%b)*+" % (_TOKEN, _FIELD))
_SAYS_WHERE = re.compile(rb"\r\n(host|content-length|transfer-encoding):[\t ]*+([^\r]*)", re.IGNORECASE)
_LENGTH = re.compile(rb"[0-9]{1,100}")
# RFC 3986, section 3.2, without a user.
_HOST = re.compile(rb"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._~!$&'()*+,;=%-]*)(?::[0-9]*)?")
_ABSOLUTE = re.compile(rb"(?:https?|wss?)://(?P<authority>[^/?]+)(?P<path>[^?]*)(?P<query>.*)", re.IGNORECASE)


class Target(NamedTuple):
    """What a request asks for."""

    authority: bytes | None
    """What takes the place of the Host header (section 3.2.2); None if the Host header counts."""
    path_and_query: bytes


def read_target(head: bytes) -> Target | None:
    """Return what a request asks for; None if it must be refused and its connection closed.

    Args:
        head: the request line and the header lines, without the empty line at the end.
    """
    request = _HEAD.fullmatch(head)
    if request is None:
        return None
    fields: dict[bytes, list[bytes]] = {b"host": [], b"content-length": [], b"transfer-encoding": []}
    for name, value in _SAYS_WHERE.findall(head):
        fields[name.lower()].append(value.rstrip(b"\t "))
    is_old = request["minor"] == b"0"
    if not _is_one_host(fields[b"host"], is_optional=is_old):
        return None
    if not _is_one_length(fields[b"content-length"], fields[b"transfer-encoding"], may_be_chunked=not is_old):
        return None
    return _split(request["target"], request["method"])


def are_trailers(lines: Iterable[bytes]) -> bool:
    """Return whether the lines after the last chunk of a body are header lines (section 7.1.2)."""
    return all(_FIELD_LINE.fullmatch(line) for line in lines)


def _is_one_host(hosts: list[bytes], *, is_optional: bool) -> bool:
    if not hosts:
        return is_optional
    return len(hosts) == 1 and _HOST.fullmatch(hosts[0]) is not None


def _is_one_length(lengths: list[bytes], codings: list[bytes], *, may_be_chunked: bool) -> bool:
    """Return whether headers say in at most one way how long the body is (section 6.3)."""
    if codings:
        return may_be_chunked and not lengths and len(codings) == 1 and codings[0].lower() == b"chunked"
    return not lengths or (len(lengths) == 1 and _LENGTH.fullmatch(lengths[0]) is not None)


def _split(target: bytes, method: bytes) -> Target | None:
    if b"#" in target:
        return None
    if target.startswith(b"/") or (target == b"*" and method == b"OPTIONS"):
        return Target(None, target)
    absolute = _ABSOLUTE.fullmatch(target)
    if absolute is None or not _HOST.fullmatch(absolute["authority"]):
        return None
    return Target(absolute["authority"], (absolute["path"] or b"/") + absolute["query"])
