"""Worker processes that share a port, and the supervisor that keeps them running.

The supervisor owns the listening sockets: if a worker dies, its replacement accepts the clients that were waiting. It
replaces workers that have exited, and kills and replaces workers whose event loop hangs. Workers exit when their
supervisor does, even if it is killed.
"""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from queue import Empty, SimpleQueue

from realtime.metrics.across_workers import FILE_VARIABLE

# How often the supervisor checks its workers, in seconds.
CHECK_SECONDS = 1.0
# A worker is killed if it has not written its metrics for this long, in seconds. It writes them once a second.
HANG_SECONDS = 30.0
# After how many workers in a row that exit before they have served anything the supervisor gives up.
MAX_FAILED_STARTS = 3
# How long a worker may take to close its connections after its supervisor has exited, in seconds.
ORPHAN_SECONDS = 30.0
# The environment variable with the descriptor of a pipe that is closed when the supervisor exits.
LIFELINE_VARIABLE = "SUPERVISOR_LIFELINE"

# How many connections may wait to be accepted: in a burst, clients would otherwise wait a second or more for TCP.
BACKLOG = 4096


class CannotStart(Exception):
    """Several workers in a row exited before they served anything."""


class _Worker:
    """A worker: its listener, its metrics file, and its current process."""

    def __init__(self, listener: socket.socket, file: Path, application: str, folder: Path, lifeline: int) -> None:
        self._listener = listener
        self._file = file
        self._command = [sys.executable, "-m", "daphne", "-v", "0", "--fd", str(listener.fileno()), application]
        self._folder = folder
        self._lifeline = lifeline
        self.start()

    def start(self) -> None:
        self._silent_checks = 0
        self._written_at = self._written_before_start = _written_at(self._file)
        self.process = subprocess.Popen(
            self._command,
            cwd=self._folder,
            env={**os.environ, FILE_VARIABLE: str(self._file), LIFELINE_VARIABLE: str(self._lifeline)},
            pass_fds=[self._listener.fileno(), self._lifeline],
            start_new_session=True,  # signals from the terminal are meant for the supervisor
        )

    @property
    def has_served(self) -> bool:
        """Whether the process has written its metrics, which it does as soon as it runs."""
        return _written_at(self._file) != self._written_before_start

    def is_hanging(self) -> bool:
        """Check the process once; return whether it has been silent for too long.

        Silence is measured in checks, not with a clock, so no worker is killed after the machine or the supervisor was
        suspended.
        """
        written = _written_at(self._file)
        self._silent_checks = 0 if written != self._written_at else self._silent_checks + 1
        self._written_at = written
        return self._silent_checks * CHECK_SECONDS >= HANG_SECONDS


class Supervisor:
    """Runs a worker for each listener until it receives a signal to stop."""

    def __init__(self, application: str, folder: Path, report: Callable[[str], object]) -> None:
        """
        Args:
            application: the ASGI application in the form that daphne expects (`module:name`).
            folder: the working directory of the workers.
            report: called with a sentence whenever a worker is replaced.
        """
        self._application = application
        self._folder = folder
        self._report = report
        self._failed_starts = 0

    def run(self, listeners: Sequence[socket.socket], files: Sequence[Path]) -> None:
        """Run the workers until SIGINT or SIGTERM, then wait until they have exited. Main thread only.

        Args:
            listeners: the listening socket of each worker.
            files: the file of each worker to which it writes its metrics for the others.

        Raises:
            CannotStart: the workers exit as soon as they are started; they have written their errors to stderr.
        """
        signals: SimpleQueue[int] = SimpleQueue()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda number, _: signals.put(number))
        lifeline, write_end = os.pipe()  # never written: its end shows that the supervisor has exited
        workers = [
            _Worker(listener, file, self._application, self._folder, lifeline)
            for listener, file in zip(listeners, files, strict=True)
        ]
        try:
            while not _wait_for_signal(signals, CHECK_SECONDS):
                for worker in workers:
                    self._check(worker)
        finally:
            for listener in listeners:
                listener.close()  # otherwise clients would wait here in vain
            _stop(workers, signals)
            os.close(write_end)
            os.close(lifeline)

    def _check(self, worker: _Worker) -> None:
        status = worker.process.poll()
        if status is None:
            if worker.is_hanging():
                self._report(f"A worker has been silent for {HANG_SECONDS:g} seconds; killing it and starting another.")
                worker.process.kill()
                worker.process.wait()
                worker.start()
            return
        self._failed_starts = 0 if worker.has_served else self._failed_starts + 1
        if self._failed_starts >= MAX_FAILED_STARTS:
            raise CannotStart(
                f"{MAX_FAILED_STARTS} workers in a row ended before they served anything, the last one with status "
                f"{status}. Their errors are above."
            )
        self._report(f"A worker ended with status {status}; starting another.")
        worker.start()


def _written_at(file: Path) -> int | None:
    """Return when a file was last written, as a number to compare; None if it does not exist."""
    try:
        return file.stat().st_mtime_ns
    except FileNotFoundError:
        return None


def _wait_for_signal(signals: "SimpleQueue[int]", seconds: float) -> bool:
    """Wait for a signal for at most so many seconds; return whether it has arrived."""
    with contextlib.suppress(Empty):
        signals.get(timeout=seconds)
        return True
    return False


def _stop(workers: Sequence[_Worker], signals: "SimpleQueue[int]") -> None:
    """Terminate the workers, again at each further signal, and wait until they have exited."""
    terminate = True
    while any(worker.process.poll() is None for worker in workers):
        if terminate:
            for worker in workers:
                worker.process.terminate()
        terminate = _wait_for_signal(signals, 0.1)


def open_listeners(host: str, port: int, workers: int) -> list[socket.socket]:
    """Open a port and return the listener of each worker.

    On Linux, each worker has its own listener, and the kernel distributes clients over them; elsewhere, they share one.
    Another process cannot open the same port, not even with SO_REUSEPORT before this process listens.

    Raises:
        OSError: the port cannot be opened.
        OverflowError: the port number is out of range.
    """
    family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    spread = workers > 1 and sys.platform == "linux"
    listeners: list[socket.socket] = []
    try:
        for number in range(workers if spread else 1):
            listener = socket.socket(family, socket.SOCK_STREAM)
            listeners.append(listener)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                # `::` stands for all addresses of this machine, of both families.
                listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, address[0] != "::")
            if number:
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            listener.bind((address[0], listeners[0].getsockname()[1] if number else port, *address[2:]))
            if spread:
                # Not before the first listener is bound, so the port is shared with our own listeners only.
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        for listener in listeners:
            listener.listen(BACKLOG)
    except BaseException:
        for listener in listeners:
            listener.close()
        raise
    return listeners if spread else listeners * workers


def end_with_supervisor() -> None:
    """Make this process exit when its supervisor does: with SIGTERM first, and unconditionally after `ORPHAN_SECONDS`.

    In a process without a supervisor, this does nothing.
    """
    lifeline = os.environ.get(LIFELINE_VARIABLE)
    if lifeline is not None:
        # In a thread, because an event loop that hangs would not notice.
        threading.Thread(target=_exit_after, args=(int(lifeline),), daemon=True, name="supervisor-lifeline").start()


def _exit_after(lifeline: int) -> None:
    with contextlib.suppress(OSError):
        os.read(lifeline, 1)  # returns when the supervisor's end is closed
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(ORPHAN_SECONDS)
    os._exit(1)
