"""How far the other side of a TCP connection has come with what was sent to it."""

import contextlib
import socket
import struct
import sys
from typing import Any, NamedTuple

try:
    import fcntl
    import termios
except ImportError:  # Windows has neither; they are used on Linux only
    pass

# The place of `tcpi_bytes_acked` in the kernel's `struct tcp_info` (linux/tcp.h, from Linux 4.1 on).
_BYTES_ACKED = struct.Struct("<Q")
_BYTES_ACKED_OFFSET = 120


class Progress(NamedTuple):
    """What the peer's kernel has taken, which it goes on doing only while the peer reads."""

    taken: int
    """In bytes, since the connection was opened; only changes of it mean something."""
    waiting: int
    """What was sent and not taken yet, in bytes."""


def tcp_progress(connection: Any) -> Progress:
    """Return the progress of a connection.

    Args:
        connection: a Twisted TCP transport. On systems other than Linux, only its own buffer is seen.
    """
    buffered = int(len(connection.dataBuffer) - connection.offset + connection._tempDataLen)
    if sys.platform == "linux" and connection.connected:
        with contextlib.suppress(OSError, struct.error):
            info = connection.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256)
            (taken,) = _BYTES_ACKED.unpack_from(info, _BYTES_ACKED_OFFSET)
            (queued,) = struct.unpack("i", fcntl.ioctl(connection.socket.fileno(), termios.TIOCOUTQ, b"\0" * 4))
            return Progress(taken, buffered + queued)
    return Progress(-buffered, buffered)


def tcp_connection(transport: Any) -> Any:
    """Return the TCP transport that another one, such as TLS, wraps."""
    while hasattr(transport, "wrappedProtocol"):
        transport = transport.transport
    return transport
