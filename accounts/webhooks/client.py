"""The HTTP client of webhooks. It follows no redirects, ignores proxies of the environment, and reads little."""

import asyncio
import contextlib
import ssl
import time
from collections.abc import AsyncIterator, Sequence
from email.utils import parsedate_to_datetime
from typing import NamedTuple

import httpcore
from django.conf import settings

from .addresses import NoSuchHost, NotPublic
from .network import AnswerTooLong, GuardedNetwork, Network

MAX_SECONDS = 10.0
KEPT_ANSWER_BYTES = 1024
CONNECT_SECONDS = 5.0
IDLE_SECONDS = 30.0
_PIECE_BYTES = 64 * 1024


class Answer(NamedTuple):
    """What a receiver has answered, or why there is no answer."""

    status: int | None
    """The HTTP status; None without an answer."""
    milliseconds: int
    text: str = ""
    """The beginning of the answer."""
    error: str = ""
    """Why there is no answer."""
    retry_after: float = 0.0
    """How long the receiver asks to wait, in seconds."""

    @property
    def is_success(self) -> bool:
        """Whether the receiver has taken the delivery."""
        return self.status is not None and 200 <= self.status < 300

    @property
    def failure(self) -> str:
        """A sentence: why the receiver has not taken the delivery. For answers that are no success."""
        return self.error if self.status is None else f"Your server answered {self.status}."


class WebhookClient:
    """Sends requests over connections that are kept for a while. Loop thread only."""

    def __init__(self, max_connections: int) -> None:
        """
        Args:
            max_connections: how many connections are open at the same time.
        """
        proxy = settings.WEBHOOK_PROXY
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=ssl.create_default_context(),
            proxy=httpcore.Proxy(proxy) if proxy else None,
            max_connections=max_connections,
            keepalive_expiry=IDLE_SECONDS,
            # A proxy of the operator resolves the names, and decides where requests may go.
            network_backend=Network() if proxy else GuardedNetwork(),
        )

    async def post(self, url: str, headers: Sequence[tuple[str, str]], body: bytes) -> Answer:
        """Send a request, and return the answer within `MAX_SECONDS`."""
        started = time.monotonic()
        status, text, retry_after, error = None, "", 0.0, ""
        try:
            async with asyncio.timeout(MAX_SECONDS):
                status, text, retry_after = await self._post(url, headers, body)
        except (TimeoutError, httpcore.TimeoutException):
            error = f"No answer within {MAX_SECONDS:.0f} s."
        except (NotPublic, NoSuchHost) as refused:
            error = str(refused)
        except AnswerTooLong:
            error = "The headers of the answer are too long."
        except (httpcore.NetworkError, httpcore.ProtocolError, httpcore.ProxyError, ssl.SSLError, OSError) as failure:
            error = _sentence(failure)
        return Answer(status, round((time.monotonic() - started) * 1000), text, error, retry_after)

    async def _post(self, url: str, headers: Sequence[tuple[str, str]], body: bytes) -> tuple[int, str, float]:
        timeouts = {"connect": CONNECT_SECONDS, "read": MAX_SECONDS, "write": MAX_SECONDS, "pool": MAX_SECONDS}
        async with self._pool.stream(
            "POST",
            url,
            headers=[*headers, ("Content-Length", str(len(body)))],
            content=_pieces(body),
            extensions={"timeout": timeouts},
        ) as response:
            content = b""
            with contextlib.suppress(AnswerTooLong):
                async for chunk in response.aiter_stream():
                    content += chunk
            text = content[:KEPT_ANSWER_BYTES].decode(errors="replace").replace("\0", "�")
            return response.status, text, _retry_after(response.headers)

    async def close(self) -> None:
        """Close all connections."""
        await self._pool.aclose()


async def _pieces(body: bytes) -> AsyncIterator[bytes]:
    # TLS encrypts each piece while the loop waits.
    for start in range(0, len(body), _PIECE_BYTES):
        yield body[start : start + _PIECE_BYTES]
        await asyncio.sleep(0)


def _retry_after(headers: Sequence[tuple[bytes, bytes]]) -> float:
    value = next((value.decode("latin-1").strip() for name, value in headers if name.lower() == b"retry-after"), "")
    if value.isascii() and value.isdigit():
        return float(value[:9])
    try:
        return max(parsedate_to_datetime(value).timestamp() - time.time(), 0.0)
    except (ValueError, OverflowError):
        return 0.0


def _sentence(failure: Exception) -> str:
    cause: BaseException | None = failure
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return f"The TLS certificate is not valid: {cause.verify_message}."
        if isinstance(cause, ssl.SSLError):
            return "The TLS handshake failed."
        cause = cause.__cause__ or cause.__context__
    if isinstance(failure, httpcore.ConnectError):
        return "Cannot connect."
    if isinstance(failure, httpcore.ProxyError):
        return "The proxy of this service did not allow the request."
    return "The connection ended before the answer was complete."
