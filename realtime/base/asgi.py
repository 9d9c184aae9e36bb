"""Types for ASGI applications, and HTTP responses for the paths that Django does not serve."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]
Header = tuple[bytes, bytes]

JSON = "application/json"


def sent_path(scope: Mapping[str, Any]) -> str:
    """Return the path of a request as it was sent, if the server tells; otherwise as the server has decoded it."""
    decoded: str = scope["path"]
    sent: bytes | None = scope.get("raw_path")
    return decoded if sent is None else sent.decode("latin-1")


async def answer(send: Send, status: int, body: bytes, *headers: Header, content_type: str = JSON) -> None:
    """Send a complete HTTP response."""
    all_headers = [
        (b"content-type", content_type.encode()),
        (b"content-length", b"%d" % len(body)),
        *headers,
    ]
    await send({"type": "http.response.start", "status": status, "headers": all_headers})
    await send({"type": "http.response.body", "body": body})
