"""`manage.py serve`: the whole service on one port, in one process or several."""

import contextlib
import os
import resource
import signal
import socket
import subprocess
import sys
import tempfile
from argparse import ArgumentParser
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

from channels.routing import get_default_application
from daphne.endpoints import build_endpoint_description_strings
from daphne.server import Server
from django.conf import settings
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError
from django.db import connections

from realtime.workers import FILE_VARIABLE, SUFFIX

from .demo import LOCAL_HOSTS, demo_url, make_demo, reachable_as

# How many connections may wait to be accepted: a burst of clients waits a second or more for TCP otherwise.
BACKLOG = 4096
DEFAULT_PORT = 8000
RESTART_SECONDS = 1.0
# Where files are in memory, so that no worker waits for a disk.
MEMORY = "/dev/shm"  # noqa: S108  (a directory of a random name is made in it)


class Command(BaseCommand):
    help = "Serve sockets, the REST API and the admin with daphne, until SIGINT or SIGTERM."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
        parser.add_argument("--port", type=int, default=DEFAULT_PORT, help="port to listen on (default: %(default)s)")
        parser.add_argument(
            "--workers",
            type=int,
            default=1,
            help="processes that share the port, one a core; more than one needs REDIS_URL (default: %(default)s)",
        )
        parser.add_argument("--demo", action="store_true", help="first migrate the database and make the demo tenant")

    def handle(self, *args: Any, **options: Any) -> None:
        host, port, workers = options["host"], options["port"], options["workers"]
        if workers < 1:
            raise CommandError("--workers must be 1 or more.")
        if workers > 1 and not settings.REDIS_URLS:
            raise CommandError(
                "More than one worker needs Redis to carry messages from one to the other. "
                "Set REDIS_URL, as in REDIS_URL=redis://localhost:6379/0, or use one worker."
            )
        if options["demo"]:
            call_command("migrate", interactive=False, verbosity=0)
            make_demo(force=False)
        else:
            self.check_migrations()
        connections.close_all()
        _allow_many_files()
        listeners = _listen(host, port, workers)
        self._say_where(host, listeners[0].getsockname()[1], options["demo"])
        if workers == 1:
            _serve_here(listeners[0])
        else:
            memory = MEMORY if os.access(MEMORY, os.W_OK) else None
            with tempfile.TemporaryDirectory(prefix="workers-", dir=memory) as directory:
                files = [Path(directory, f"{index}{SUFFIX}") for index in range(workers)]
                self._supervise(list(zip(listeners, files, strict=True)))
        self.stdout.write("Stopped.")

    def _say_where(self, host: str, port: int, demo: bool) -> None:
        name = reachable_as(host)
        lines = {
            "Socket tester": f"http://{name}:{port}/",
            "Admin": f"http://{name}:{port}/admin/  (create a user: python manage.py createsuperuser)",
            "REST API": f"http://{name}:{port}/api/v1/docs/",
            "Connect to": demo_url(host, port)
            if demo
            else f"ws://CLUSTER_ID.{settings.CLUSTER_DOMAINS[0]}:{port}/v3/CHANNEL_ID?api_key=API_KEY",
        }
        self.stdout.write(f"Listening on {host} port {port}. Stop with Ctrl-C.")
        for label, value in lines.items():
            self.stdout.write(f"  {label + ':':<15}{value}")
        if host not in LOCAL_HOSTS and host not in settings.ALLOWED_HOSTS and "*" not in settings.ALLOWED_HOSTS:
            self.stdout.write(f"  The admin and the pages answer to this address only with ALLOWED_HOSTS={host}.")
        self.stdout.flush()

    def _supervise(self, places: list[tuple[socket.socket, Path]]) -> None:
        """Run a worker for each listener and file of numbers; replace those that end, until told to stop."""
        signals: SimpleQueue[int] = SimpleQueue()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda number, _: signals.put(number))
        workers = [_start_worker(*place) for place in places]
        stopping = False
        while not stopping or any(worker.poll() is None for worker in workers):
            try:
                signals.get(timeout=0.1 if stopping else RESTART_SECONDS)
            except Empty:
                pass
            else:
                stopping = True
                for listener, _ in places:
                    listener.close()  # or clients would wait here that nobody accepts
                for worker in workers:
                    worker.terminate()
            for index, worker in enumerate(() if stopping else workers):
                if worker.poll() is not None:
                    self.stderr.write(f"A worker ended with status {worker.returncode}; starting another.")
                    workers[index] = _start_worker(*places[index])


def _allow_many_files() -> None:
    """Raise the limit of open files, and so of connections, as far as this process may."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard == resource.RLIM_INFINITY:
        hard = 1_048_576
    if soft != resource.RLIM_INFINITY and soft < hard:
        with contextlib.suppress(ValueError, OSError):  # some systems allow less than they say
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _listen(host: str, port: int, workers: int) -> list[socket.socket]:
    """Open the port: a listener for each worker where the kernel spreads clients over them, else one for all.

    The listeners belong to this process, so that clients that wait for a worker that died are served by its successor.
    """
    spread = workers > 1 and sys.platform == "linux"
    listeners: list[socket.socket] = []
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        for _ in range(workers if spread else 1):
            listeners.append(
                socket.create_server(
                    (address[0], listeners[0].getsockname()[1] if listeners else port),
                    family=family,
                    backlog=BACKLOG,
                    reuse_port=spread,
                )
            )
    except (OSError, OverflowError) as error:
        raise CommandError(f"Cannot listen on {host} port {port}: {error}. Choose with --host and --port.") from error
    return listeners if spread else listeners * workers


def _serve_here(listener: socket.socket) -> None:
    Server(
        get_default_application(),
        # Twisted makes a copy and closes what it is given.
        endpoints=build_endpoint_description_strings(file_descriptor=listener.detach()),
        verbosity=0,
    ).run()


def _start_worker(listener: socket.socket, file: Path) -> subprocess.Popen[bytes]:
    """Start plain daphne on a listener, in a session of its own: signals of the terminal are for the supervisor.

    Args:
        listener: where it takes clients.
        file: where it tells the other workers its numbers.
    """
    module, _, name = settings.ASGI_APPLICATION.rpartition(".")
    return subprocess.Popen(
        [sys.executable, "-m", "daphne", "-v", "0", "--fd", str(listener.fileno()), f"{module}:{name}"],
        cwd=settings.BASE_DIR,
        env={**os.environ, FILE_VARIABLE: str(file)},
        pass_fds=[listener.fileno()],
        start_new_session=True,
    )
