"""One connection to Redis that handles each reply where it arrives.

redis-py connects: addresses, TLS, Unix sockets, Sentinel, users and passwords are its own. Then its transport gets a
protocol of ours, which feeds a parser written in C. A reply costs no task, no future and no `await`.

This needs private names of redis-py (`missing_names`). With a version that lacks them, the same interface is served by
an ordinary redis-py connection, which is several times slower. TLS that asyncio has set up is taken over too
(`_DirectTls`).
"""

import asyncio
import contextlib
import logging
import math
import ssl
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import cache
from typing import Any

import hiredis
from channels_redis.utils import create_pool
from redis.asyncio.connection import ConnectionPool, UnixDomainSocketConnection
from redis.exceptions import ResponseError

logger = logging.getLogger(__name__)

# How long it may take to connect, with TLS and authentication, in seconds.
CONNECT_SECONDS = 5.0
_TCP_OPTIONS = ("socket_keepalive", "socket_keepalive_options", "socket_type")
_PRIVATE_NAMES = ("_reader", "_writer", "_close")
# Those of asyncio's TLS. Without them, as in uvloop, it is used as it is.
_TLS_NAMES = ("_sslobj", "_incoming", "_outgoing", "_transport")
_MAX_RECORD_BYTES = 16 * 1024  # of TLS (RFC 8446, section 5.1)
_NOTHING = object()


def make_pool(host: dict[str, Any]) -> ConnectionPool:
    """Return redis-py's pool for one entry of the layer's hosts.

    Args:
        host: as channels_redis has them: an `address` (URL) or a `host` and `port` or a `master_name`, and options of
            redis-py. Options that only TCP has are ignored for a Unix socket.
    """
    pool: ConnectionPool = create_pool({**host, "protocol": 2})
    if issubclass(pool.connection_class, UnixDomainSocketConnection):
        for name in _TCP_OPTIONS:
            pool.connection_kwargs.pop(name, None)
    return pool


def describe(pool: ConnectionPool) -> str:
    """Return where a pool connects to, without credentials."""
    options = pool.connection_kwargs
    if where := getattr(pool, "service_name", None) or options.get("path"):  # of Sentinel, or a Unix socket
        return str(where)
    return f"{options.get('host', 'localhost')}:{options.get('port', 6379)}"


def missing_names(connection: Any) -> list[str]:
    """Return which private names this version of redis-py lacks; all are needed to take over its transport."""
    return [name for name in _PRIVATE_NAMES if not hasattr(connection, name)]


class ReplyHandler(ABC):
    """The side that uses a connection."""

    @abstractmethod
    def handle_reply(self, reply: Any) -> None:
        """Handle one reply; `hiredis.ReplyError` and redis-py's `ResponseError` are replies too."""

    @abstractmethod
    def handle_end_of_replies(self) -> None:
        """Do what is due once after the replies that arrived together."""

    @abstractmethod
    def handle_loss(self, connection: "Connection", reason: str) -> None:
        """Learn that the connection has ended; called once, and not after `abort`."""


class Connection(ABC):
    """An established connection to Redis. Loop thread only."""

    def __init__(self, handler: ReplyHandler) -> None:
        self._handler = handler
        self._loop = asyncio.get_running_loop()
        self.heard_at = time.monotonic()
        """When something arrived last, by `time.monotonic`."""
        self.ended: asyncio.Future[None] = self._loop.create_future()
        """Completes when the socket is closed."""
        self._is_aborted = False

    @abstractmethod
    def write(self, data: bytes) -> None:
        """Send commands, already encoded. Never waits; what is sent on a dead connection is lost."""

    @abstractmethod
    def abort(self) -> None:
        """Close the connection now, whatever is still to be sent; nothing of it is handled any more."""

    def _handle(self, reply: Any) -> None:
        try:
            self._handler.handle_reply(reply)
        except Exception:
            logger.exception("A reply of Redis could not be handled.")

    def _end(self, reason: str) -> None:
        if not self.ended.done():
            self.ended.set_result(None)
        if not self._is_aborted:
            self._is_aborted = True
            self._handler.handle_loss(self, reason)


class _TakenOver(Connection, asyncio.Protocol):
    """A connection of redis-py's whose transport was taken over."""

    def __init__(self, connection: Any, handler: ReplyHandler) -> None:
        super().__init__(handler)
        self._redis_py = connection  # closes its socket when it is collected
        self._replies = hiredis.Reader(notEnoughData=_NOTHING)
        # There is no await between redis-py's last read and this, so only what has arrived already can be buffered.
        self._transport: asyncio.Transport = self._redis_py._writer.transport
        self._transport.set_protocol(self)
        self._write: Callable[[bytes], object] = self._transport.write
        tls = getattr(self._transport, "_ssl_protocol", None)
        if all(hasattr(tls, name) for name in _TLS_NAMES):
            self._write = _DirectTls(tls, self.data_received).write
        if buffered := bytes(self._redis_py._reader._buffer):
            self._loop.call_soon(self.data_received, buffered)

    def write(self, data: bytes) -> None:
        self._write(data)

    def abort(self) -> None:
        self._is_aborted = True
        self._transport.abort()

    def data_received(self, data: bytes) -> None:
        self.heard_at = time.monotonic()
        try:
            self._replies.feed(data)
            while (reply := self._replies.gets()) is not _NOTHING:
                if self._is_aborted:
                    return
                self._handle(reply)
        except hiredis.ProtocolError:
            self._end("it does not speak the protocol of Redis")
            self._transport.abort()
            return
        self._handler.handle_end_of_replies()

    def connection_lost(self, exc: Exception | None) -> None:
        self._redis_py._close()
        self._end(str(exc) if exc else "the connection was closed")


class _DirectTls(asyncio.Protocol):
    """Encrypts and decrypts what a connection exchanges, in place of asyncio's TLS, which has set it up.

    asyncio takes 20 µs to send a message and to receive one, most of it for the states and limits of its buffers. This
    takes 10 µs, most of it in OpenSSL. How the connection ends is still left to asyncio.
    """

    def __init__(self, tls: Any, receive: Callable[[bytes], object]) -> None:
        """
        Args:
            tls: asyncio's protocol, whose handshake is done.
            receive: gets what has been decrypted.
        """
        self._tls = tls
        self._receive = receive
        self._session: ssl.SSLObject = tls._sslobj
        self._incoming: ssl.MemoryBIO = tls._incoming
        self._outgoing: ssl.MemoryBIO = tls._outgoing
        self._socket: asyncio.Transport = tls._transport
        self._socket.set_protocol(self)
        self._error: Exception | None = None

    def write(self, data: bytes) -> None:
        try:
            sent = self._session.write(data)
            while sent < len(data):  # at most one record at a time
                sent += self._session.write(memoryview(data)[sent:])
        except ssl.SSLError as error:
            self._fail(error)
        else:
            self._socket.write(self._outgoing.read())

    def data_received(self, data: bytes) -> None:
        self._incoming.write(data)
        try:
            while True:
                decrypted = self._session.read(_MAX_RECORD_BYTES)
                if not decrypted:
                    self._socket.close()
                    break
                self._receive(decrypted)
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLError as error:
            self._fail(error)
        if self._outgoing.pending:  # an answer of TLS itself, such as a change of keys
            self._socket.write(self._outgoing.read())

    def connection_lost(self, exc: Exception | None) -> None:
        self._tls.connection_lost(self._error or exc)

    def _fail(self, error: ssl.SSLError) -> None:
        self._error = error
        self._socket.abort()


class _Ordinary(Connection):
    """A connection of redis-py's that is used as it is: by one task that reads and one that writes."""

    def __init__(self, connection: Any, handler: ReplyHandler) -> None:
        super().__init__(handler)
        self._redis_py = connection
        self._redis_py.socket_timeout = None  # silence is noticed by the heartbeat
        self._commands: asyncio.Queue[bytes] = asyncio.Queue()
        self._work = self._loop.create_task(self._exchange())

    def write(self, data: bytes) -> None:
        self._commands.put_nowait(data)

    def abort(self) -> None:
        self._is_aborted = True
        self._work.cancel()

    async def _exchange(self) -> None:
        reason = "the connection was closed"
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._read())
                tasks.create_task(self._send())
        except ExceptionGroup as errors:
            reason = str(errors.exceptions[0]) or reason
        finally:
            with contextlib.suppress(Exception):
                await self._redis_py.disconnect(nowait=True)
            self._end(reason)

    async def _read(self) -> None:
        while True:
            try:
                reply = await self._redis_py.read_response(disable_decoding=True, timeout=math.inf)
            except ResponseError as error:
                reply = error
            self.heard_at = time.monotonic()
            self._handle(reply)
            self._handler.handle_end_of_replies()

    async def _send(self) -> None:
        while True:
            await self._redis_py.send_packed_command([await self._commands.get()], check_health=False)


@cache
def _warn_of(missing: tuple[str, ...]) -> None:
    logger.warning("This version of redis-py lacks %s: the channel layer is slower with it.", ", ".join(missing))


async def open_connection(pool: ConnectionPool, handler: ReplyHandler) -> Connection:
    """Connect to Redis.

    Args:
        pool: made by `make_pool`; it makes the connection, and does not keep it.
        handler: gets the replies.

    Raises:
        redis.exceptions.RedisError, OSError: Redis cannot be reached, or refuses.
        TimeoutError: that took more than `CONNECT_SECONDS`.
    """
    connection: Any = pool.make_connection()  # type: ignore[no-untyped-call]
    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            await connection.connect()
    except BaseException as error:
        with contextlib.suppress(Exception):
            await connection.disconnect(nowait=True)
        if isinstance(error, TimeoutError):
            raise TimeoutError(f"no connection within {CONNECT_SECONDS:g} s") from None
        raise
    if missing := missing_names(connection):
        _warn_of(tuple(missing))
        return _Ordinary(connection, handler)
    return _TakenOver(connection, handler)
