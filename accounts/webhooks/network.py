"""The connections of the HTTP client of webhooks: to checked addresses, and with a limit on what a receiver can answer.

A receiver may be hostile. Parsing costs far more for many tiny parts, such as lines or chunks of one byte, than for the
same number of bytes in a few, so both are limited.
"""

import asyncio
import ssl
from typing import Any

import httpcore

from .addresses import resolve

MAX_ANSWER_BYTES = 16 * 1024
MAX_PARTS = 128
"""How much is read of an answer: with its headers, all answers before it such as `100 Continue`, and framing."""
# How much is parsed before others have a turn.
_BYTES_AT_ONCE = 2 * 1024
_LINES_AT_ONCE = 16


class AnswerTooLong(httpcore.ReadError):
    """As much was read of an answer as is allowed."""


class Network(httpcore.AsyncNetworkBackend):
    """Connects to hosts, and limits what is read of their answers."""

    def __init__(self) -> None:
        self._network = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109
        local_address: str | None = None,
        socket_options: Any = None,
    ) -> httpcore.AsyncNetworkStream:
        """Connect to a host."""
        return _LimitedStream(await self._network.connect_tcp(host, port, timeout, local_address, socket_options))

    async def sleep(self, seconds: float) -> None:
        """Wait before httpcore connects again."""
        await self._network.sleep(seconds)


class GuardedNetwork(Network):
    """Connects to hosts by an address that was checked; the certificate must still be that of the host's name."""

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109
        local_address: str | None = None,
        socket_options: Any = None,
    ) -> httpcore.AsyncNetworkStream:
        """Connect to the first address of the host that answers."""
        *others, last = await resolve(host, port)
        for address in others:
            try:
                return await super().connect_tcp(address, port, timeout, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout):
                continue
        return await super().connect_tcp(last, port, timeout, local_address, socket_options)


class _LimitedStream(httpcore.AsyncNetworkStream):
    """A connection over which one request after the other is sent."""

    def __init__(self, stream: httpcore.AsyncNetworkStream) -> None:
        self._stream = stream
        self._bytes = self._parts = 0
        self._rest = b""

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ASYNC109
        """Return the next part of the answer.

        Raises:
            AnswerTooLong: it is too long.
        """
        if self._parts <= 0 or (self._bytes <= 0 and not self._rest):
            raise AnswerTooLong
        if self._rest:
            await asyncio.sleep(0)
        else:
            self._rest = await self._stream.read(min(max_bytes, _BYTES_AT_ONCE, self._bytes), timeout)
            self._bytes -= len(self._rest)
        most = min(_LINES_AT_ONCE, self._parts)
        *lines, _ = self._rest.split(b"\n", most)
        length = sum(map(len, lines)) + most if len(lines) == most else len(self._rest)
        data, self._rest = self._rest[:length], self._rest[length:]
        self._parts -= max(len(lines), 1)
        return data

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ASYNC109
        """Send a part of a request, whose answer may be as long as any."""
        self._bytes, self._parts = MAX_ANSWER_BYTES, MAX_PARTS
        await self._stream.write(buffer, timeout)

    async def aclose(self) -> None:
        """Close the connection."""
        await self._stream.aclose()

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ASYNC109
    ) -> httpcore.AsyncNetworkStream:
        """Return the same connection with TLS."""
        return _LimitedStream(await self._stream.start_tls(ssl_context, server_hostname, timeout))

    def get_extra_info(self, info: str) -> Any:
        """Return what httpcore asks about the connection."""
        return self._stream.get_extra_info(info)
