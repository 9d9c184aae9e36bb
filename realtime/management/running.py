"""The port of the server that runs on this machine, shared between `manage.py serve` and the other commands.

The server keeps a file locked for as long as it runs. The kernel releases the lock however the process ends, so a file
that a killed server left behind is recognized as stale.
"""

import contextlib
import os
from argparse import ArgumentParser
from collections.abc import Iterator
from pathlib import Path

try:
    import fcntl
except ImportError:  # on Windows, the port is not announced
    fcntl = None  # type: ignore[assignment]

DEFAULT_PORT = 8000
FILE_NAME = "port"


def add_port_option(parser: ArgumentParser) -> None:
    """Add `--port` to a command that prints a URL of the server."""
    parser.add_argument(
        "--port",
        type=int,
        help=f"port of the server (default: the port of the running server, or {DEFAULT_PORT} if no server is running)",
    )


@contextlib.contextmanager
def announced(directory: Path, port: int) -> Iterator[None]:
    """Announce the port in a file in this directory while the context is active.

    If another server has already announced its port, or the directory is not writable, nothing is announced.
    """
    if fcntl is None:
        yield
        return
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):
            file = stack.enter_context(open(os.open(directory / FILE_NAME, os.O_RDWR | os.O_CREAT, 0o600), "r+"))
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            file.truncate()
            file.write(str(port))
            file.flush()
        yield


def running_port(directory: Path) -> int | None:
    """Return the port of the server that announces it in this directory, or None if no server does."""
    if fcntl is None:
        return None
    try:
        with open(directory / FILE_NAME) as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return int(file.read())
    except (OSError, ValueError):
        pass
    return None
