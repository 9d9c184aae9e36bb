"""Pusher's signatures: what a text or an HTTP request is signed with, and the exact text that is signed.

A signature is the hexadecimal HMAC-SHA256 of a text with the secret of an API key. Whoever has it proves that somebody
with the secret has agreed to exactly this text.
"""

import hashlib
import hmac
from collections.abc import Iterable, Mapping
from urllib.parse import unquote_plus

MAX_CLOCK_DIFFERENCE = 600
"""How far the timestamp of a request may be from the server's clock, in seconds."""


def sign(secret: str, text: str) -> str:
    """Return the signature of a text, as 64 hexadecimal digits in lower case."""
    return hmac.digest(secret.encode(), text.encode(errors="surrogatepass"), "sha256").hex()


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


def read_query(query: str) -> dict[str, str]:
    """Return the parameters of a query, with names in lower case.

    The values of a list, such as `info[]=a&info[]=b` or `info[0]=a&info[1]=b`, are joined by commas. If another
    parameter occurs several times, the last value counts, as in PHP.
    """
    parameters: dict[str, str] = {}
    lists: dict[str, list[str]] = {}
    is_escaped = "%" in query or "+" in query
    if not is_escaped and "[" not in query:  # almost always
        parts = [part.partition("=") for part in query.split("&")]
        return {name.lower(): value for name, _, value in parts if name}
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


def request_text(method: str, path: str, parameters: Mapping[str, str]) -> str:
    """Return the text to sign for an HTTP request.

    Args:
        method: the method, in upper case.
        path: the path, without the query.
        parameters: the parameters of the query, with names in lower case. The signature is left out.
    """
    pairs = "&".join([f"{name}={parameters[name]}" for name in sorted(parameters) if name != "auth_signature"])
    return f"{method}\n{path}\n{pairs}"


def verify_request(secrets: Iterable[str], method: str, paths: Iterable[str], parameters: Mapping[str, str]) -> bool:
    """Return whether an HTTP request is signed with one of several secrets.

    Args:
        secrets: the valid secrets of the API key.
        method: the method, in upper case.
        paths: the path as it was sent, and decoded: clients sign one or the other.
        parameters: the parameters of the query, with names in lower case.
    """
    signature = parameters.get("auth_signature", "")
    texts = [request_text(method, path, parameters) for path in dict.fromkeys(paths)]
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
