"""Worker processes that share one port, and the process that keeps them running.

The supervisor holds the listeners, so that clients that wait for a worker that died are served by its successor. It
replaces workers that end, and kills and replaces workers whose event loop hangs. Workers end with their supervisor,
even if that is killed.
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

# How often the supervisor looks at its workers, in seconds.
LOOK_SECONDS = 1.0
# A worker is killed if it has not written its numbers for this long, in seconds. It writes them once a second.
HANG_SECONDS = 30.0
# How many workers in a row may end before they have served anything, until the supervisor gives up.
MAX_FAILED_STARTS = 3
# How long a worker whose supervisor is gone may take to close its connections, in seconds.
ORPHAN_SECONDS = 30.0
# The environment variable with the number of an open file that ends when the supervisor does.
LIFELINE_VARIABLE = "SUPERVISOR_LIFELINE"

# How many connections may wait to be accepted: in a burst, clients would otherwise wait a second or more for TCP.
BACKLOG = 4096


class CannotStart(Exception):
    """Worker after worker ended before it served anything."""


class _Worker:
    """One place for a worker: its listener, its file of numbers, and the process that fills the place now."""

    def __init__(self, listener: socket.socket, file: Path, application: str, folder: Path, lifeline: int) -> None:
        self._listener = listener
        self._file = file
        self._command = [sys.executable, "-m", "daphne", "-v", "0", "--fd", str(listener.fileno()), application]
        self._folder = folder
        self._lifeline = lifeline
        self.start()

    def start(self) -> None:
        self._silent_looks = 0
        self._written_at = self._written_before = _written_at(self._file)
        self.process = subprocess.Popen(
            self._command,
            cwd=self._folder,
            env={**os.environ, FILE_VARIABLE: str(self._file), LIFELINE_VARIABLE: str(self._lifeline)},
            pass_fds=[self._listener.fileno(), self._lifeline],
            start_new_session=True,  # signals of the terminal are for the supervisor
        )

    @property
    def has_served(self) -> bool:
        """Whether the process has written its numbers, which it does as soon as it runs."""
        return _written_at(self._file) != self._written_before

    def hangs(self) -> bool:
        """Look at the process once; return whether it has been silent for too long.

        Silence is counted in looks and not read off a clock, so that a machine or a supervisor that stood still kills
        nobody.
        """
        written = _written_at(self._file)
        self._silent_looks = 0 if written != self._written_at else self._silent_looks + 1
        self._written_at = written
        return self._silent_looks * LOOK_SECONDS >= HANG_SECONDS


class Supervisor:
    """Runs a worker for each listener until it is told to stop."""

    def __init__(self, application: str, folder: Path, report: Callable[[str], object]) -> None:
        """
        Args:
            application: the ASGI application, as daphne takes it (`module:name`).
            folder: the working directory of the workers.
            report: called with a sentence when a worker is replaced.
        """
        self._application = application
        self._folder = folder
        self._report = report
        self._failed_starts = 0

    def run(self, listeners: Sequence[socket.socket], files: Sequence[Path]) -> None:
        """Run the workers until SIGINT or SIGTERM, and wait for them to end. Main thread only.

        Args:
            listeners: where each worker accepts clients.
            files: where each worker writes its numbers for the others.

        Raises:
            CannotStart: the workers end as soon as they are started; their own error is on stderr.
        """
        signals: SimpleQueue[int] = SimpleQueue()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda number, _: signals.put(number))
        ours, theirs = os.pipe()  # `theirs` is written to by nobody: it ends when the supervisor does
        workers = [
            _Worker(listener, file, self._application, self._folder, ours)
            for listener, file in zip(listeners, files, strict=True)
        ]
        try:
            while not _arrived(signals, LOOK_SECONDS):
                for worker in workers:
                    self._look_at(worker)
        finally:
            for listener in listeners:
                listener.close()  # or clients would wait here in vain
            _stop(workers, signals)
            os.close(theirs)
            os.close(ours)

    def _look_at(self, worker: _Worker) -> None:
        status = worker.process.poll()
        if status is None:
            if worker.hangs():
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
    """Return when a file was written last, in any unit; None if it never was."""
    try:
        return file.stat().st_mtime_ns
    except FileNotFoundError:
        return None


def _arrived(signals: "SimpleQueue[int]", seconds: float) -> bool:
    """Wait for a signal; return whether one has come."""
    with contextlib.suppress(Empty):
        signals.get(timeout=seconds)
        return True
    return False


def _stop(workers: Sequence[_Worker], signals: "SimpleQueue[int]") -> None:
    """Ask the workers to end, again at each further signal, and wait until they have."""
    ask = True
    while any(worker.process.poll() is None for worker in workers):
        if ask:
            for worker in workers:
                worker.process.terminate()
        ask = _arrived(signals, 0.1)


def open_listeners(host: str, port: int, workers: int) -> list[socket.socket]:
    """Open a port: a listener for each worker where the kernel spreads clients over them, else one for all.

    Another process cannot open the same port, also not with SO_REUSEPORT before this one listens.

    Raises:
        OSError: the port cannot be opened.
        OverflowError: there is no such port.
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
                listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            if number:
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            listener.bind((address[0], listeners[0].getsockname()[1] if number else port))
            if spread:
                # For the first one only after binding: so the port is bound exclusively, and shared with ours alone.
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        for listener in listeners:
            listener.listen(BACKLOG)
    except BaseException:
        for listener in listeners:
            listener.close()
        raise
    return listeners if spread else listeners * workers


def end_with_supervisor() -> None:
    """Have this process end when its supervisor is gone: first as at SIGTERM, and at the latest after a while.

    Does nothing in a process that has no supervisor.
    """
    lifeline = os.environ.get(LIFELINE_VARIABLE)
    if lifeline is not None:
        # A thread, since an event loop that hangs would not notice.
        threading.Thread(target=_watch, args=(int(lifeline),), daemon=True, name="supervisor-lifeline").start()


def _watch(lifeline: int) -> None:
    with contextlib.suppress(OSError):
        os.read(lifeline, 1)  # returns when the other end is closed
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(ORPHAN_SECONDS)
    os._exit(1)
