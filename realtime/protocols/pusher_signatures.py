"""Pusher's signatures: what a text or an HTTP request is signed with, and the exact text that is signed.

A signature is the hexadecimal HMAC-SHA256 of a text with the secret of an API key. Whoever has it proves that somebody
with the secret has agreed to exactly this text.
"""

import hashlib
import hmac
import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import NamedTuple
from urllib.parse import unquote_plus

MAX_CLOCK_DIFFERENCE = 600
"""How far the timestamp of a request may be from the server's clock, in seconds."""

# The query of a request to publish as libraries send it: in the order in which it is signed, and then the signature.
_USUAL_QUERY = re.compile(
    r"(auth_key=(\w+)&auth_timestamp=([0-9]+)&auth_version=(1\.0)&body_md5=([0-9a-f]+))&auth_signature=([0-9a-f]+)",
    re.ASCII,
)
_USUAL_NAMES = ("auth_key", "auth_timestamp", "auth_version", "body_md5", "auth_signature")


class SignedQuery(NamedTuple):
    """The query of a signed request."""

    parameters: Mapping[str, str]
    """The parameters, with names in lower case; see `read_query`."""
    signed: str
    """Those that the signature is for, in the order in which they are signed."""


def sign(secret: str, text: str) -> str:
    """Return the signature of a text, as 64 hexadecimal digits in lower case."""
    signature = _begin(secret).copy()
    signature.update(text.encode(errors="surrogatepass"))
    return signature.hexdigest()


@lru_cache(maxsize=1_000)
def _begin(secret: str) -> hmac.HMAC:
    """Return what all signatures with a secret begin with."""
    return hmac.new(secret.encode(), digestmod="sha256")


def verify(secret: str, text: str, signature: str) -> bool:
    """Return whether a signature is that of a text. The time that this takes does not depend on how much is right."""
    return hmac.compare_digest(sign(secret, text).encode(), signature.encode(errors="surrogatepass"))


def auth_text(socket_id: str, channel: str, channel_data: str | None = None) -> str:
    """Return the text to sign so that a connection may subscribe to a channel.

    Args:
        socket_id: the connection's socket ID.
        channel: the name of the channel.
        channel_data: who subscribes, for presence channels; the very string that the client sends.
    """
    text = f"{socket_id}:{channel}"
    return text if channel_data is None else f"{text}:{channel_data}"


def user_auth_text(socket_id: str, user_data: str) -> str:
    """Return the text to sign so that a connection may sign in as a user.

    Args:
        socket_id: the connection's socket ID.
        user_data: who signs in; the very string that the client sends.
    """
    return f"{socket_id}::user::{user_data}"


def read_signed_query(query: str) -> SignedQuery:
    """Return the parameters of a query, and those that the signature is for."""
    usual = _USUAL_QUERY.fullmatch(query)
    if usual is not None:
        signed, *values = usual.groups()
        return SignedQuery(dict(zip(_USUAL_NAMES, values, strict=True)), signed)
    parameters = read_query(query)
    names = sorted(name for name in parameters if name != "auth_signature")
    return SignedQuery(parameters, "&".join(f"{name}={parameters[name]}" for name in names))


def read_query(query: str) -> dict[str, str]:
    """Return the parameters of a query, with names in lower case.

    The values of a list, such as `info[]=a&info[]=b` or `info[0]=a&info[1]=b`, are joined by commas. If another
    parameter occurs several times, the last value counts, as in PHP.
    """
    parameters: dict[str, str] = {}
    lists: dict[str, list[str]] = {}
    is_escaped = "%" in query or "+" in query
    for part in query.split("&"):
        name, _, value = part.partition("=")
        if is_escaped:
            name, value = unquote_plus(name), unquote_plus(value)
        name = name.lower()
        if name.endswith("]") and "[" in name:
            lists.setdefault(name[: name.index("[")], []).append(value)
        elif name:
            parameters[name] = value
    parameters.update((name, ",".join(values)) for name, values in lists.items())
    return parameters


def verify_request(secrets: Iterable[str], method: str, paths: Iterable[str], query: SignedQuery) -> bool:
    """Return whether an HTTP request is signed with one of several secrets.

    Args:
        secrets: the valid secrets of the API key.
        method: the method, in upper case.
        paths: the paths of which clients sign one.
        query: the query.
    """
    signature = query.parameters.get("auth_signature", "")
    texts = [f"{method}\n{path}\n{query.signed}" for path in paths]
    matches = [verify(secret, text, signature) for secret in secrets for text in texts]
    return any(matches)


def matches_body(body_md5: str | None, body: bytes) -> bool:
    """Return whether the parameter `body_md5` of a request fits its body. Only an empty body may go without it."""
    if body_md5 is None:
        return not body
    return body_md5.lower() == hashlib.md5(body, usedforsecurity=False).hexdigest()


def is_current(timestamp: str, now: float) -> bool:
    """Return whether the parameter `auth_timestamp` of a request is near enough to the time, in Unix seconds."""
    is_number = timestamp.isascii() and timestamp.isdigit() and len(timestamp) < 20
    return is_number and abs(int(timestamp) - now) <= MAX_CLOCK_DIFFERENCE
