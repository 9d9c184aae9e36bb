"""Types for ASGI applications, and HTTP responses for the paths that Django does not serve."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, NamedTuple

Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]
Header = tuple[bytes, bytes]

JSON = "application/json"


class Response(NamedTuple):
    """An HTTP response with a JSON body."""

    status: int
    body: bytes
    headers: tuple[Header, ...] = ()
    """Besides those of the body."""
    party: int | None = None
    """The account whose share of the loop's time the request used; None if it is unknown."""

    @property
    def all_headers(self) -> list[Header]:
        """Its headers, with those of the body."""
        return _headers(self.body, JSON, *self.headers)


def sent_path(scope: Mapping[str, Any]) -> str:
    """Return the path of a request as it was sent, if the server tells; otherwise as the server has decoded it."""
    decoded: str = scope["path"]
    sent: bytes | None = scope.get("raw_path")
    return decoded if sent is None else sent.decode("latin-1")


async def answer(send: Send, status: int, body: bytes, *headers: Header, content_type: str = JSON) -> None:
    """Send a complete HTTP response."""
    await send({"type": "http.response.start", "status": status, "headers": _headers(body, content_type, *headers)})
    await send({"type": "http.response.body", "body": body})


def _headers(body: bytes, content_type: str, *headers: Header) -> list[Header]:
    return [(b"content-type", content_type.encode()), (b"content-length", b"%d" % len(body)), *headers]
