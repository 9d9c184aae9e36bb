"""`manage.py serve`: run the whole service on one port, in one or more processes."""

import os
import socket
import tempfile
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from channels.routing import get_default_application
from daphne.endpoints import build_endpoint_description_strings
from daphne.server import Server
from django.conf import settings
from django.core.checks import Tags
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError
from django.db import DEFAULT_DB_ALIAS, connections

from accounts.demo_links import new_demo_token
from accounts.management.command_line import manage_command
from accounts.management.migrations import is_migrated
from realtime.base.open_files import raise_open_file_limit
from realtime.management.running import DEFAULT_PORT, announced
from realtime.metrics.across_workers import SUFFIX
from realtime.server.supervisor import CannotStart, Supervisor, open_listeners

from .demo import LOCAL_HOSTS, demo_url, ensure_demo, reachable_as

# A directory whose files are in memory, so that workers never wait for a disk.
MEMORY = "/dev/shm"  # noqa: S108  (a directory with a random name is created in it)


class Command(BaseCommand):
    help = "Serve WebSockets, the REST API and the admin with daphne, until SIGINT or SIGTERM."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
        parser.add_argument("--port", type=int, default=DEFAULT_PORT, help="port to listen on (default: %(default)s)")
        parser.add_argument(
            "--workers",
            type=int,
            default=1,
            help="number of processes that share the port, at best one per core; more than one requires REDIS_URL "
            "(default: %(default)s)",
        )
        parser.add_argument("--demo", action="store_true", help="first migrate the database and create the demo tenant")

    def handle(self, *args: Any, **options: Any) -> None:
        host, port, workers = options["host"], options["port"], options["workers"]
        if workers < 1:
            raise CommandError("--workers must be 1 or more.")
        if workers > 1 and not settings.REDIS_URLS:
            raise CommandError(
                "Several workers need Redis to exchange messages. "
                "Set REDIS_URL, for example to redis://localhost:6379/0, or use one worker."
            )
        demo_token: str | None = None
        if options["demo"]:
            call_command("migrate", interactive=False, verbosity=0)
            ensure_demo(force=False)
            demo_token = new_demo_token()
        elif not is_migrated():
            raise CommandError(f"The database is not up to date. Run {manage_command('migrate')}")
        self.check(tags=[Tags.database], databases=[DEFAULT_DB_ALIAS])
        connections.close_all()
        raise_open_file_limit()
        try:
            listeners = open_listeners(host, port, workers)
        except (OSError, OverflowError) as error:
            raise CommandError(
                f"Cannot listen on {host} port {port}: {str(error).rstrip('.')}. "
                "Choose another address with --host or --port."
            ) from error
        address, bound_port, *_ = listeners[0].getsockname()
        with announced(settings.DATA_DIR, bound_port):
            self._print_addresses(host, address, bound_port, options["demo"], demo_token)
            if workers == 1:
                _serve_in_this_process(listeners[0])
            else:
                self._supervise(listeners)
        self.stdout.write("Stopped.")

    def _supervise(self, listeners: list[socket.socket]) -> None:
        module, _, name = settings.ASGI_APPLICATION.rpartition(".")
        supervisor = Supervisor(f"{module}:{name}", settings.BASE_DIR, self.stderr.write)
        memory = MEMORY if os.access(MEMORY, os.W_OK) else None
        with tempfile.TemporaryDirectory(prefix="workers-", dir=memory) as directory:
            try:
                supervisor.run(listeners, [Path(directory, f"{index}{SUFFIX}") for index in range(len(listeners))])
            except CannotStart as error:
                raise CommandError(str(error)) from None

    def _print_addresses(self, host: str, address: str, port: int, demo: bool, demo_token: str | None) -> None:
        name = reachable_as(host)
        lines = {
            "WebSocket tester": f"http://{name}:{port}/",
            "Console": f"http://{name}:{port}/console/"
            + (f"demo/{demo_token}/  (logs you in, once, within an hour)" if demo_token else ""),
            "Admin": f"http://{name}:{port}/admin/  (create a user: {manage_command('createsuperuser')})",
            "REST API": f"http://{name}:{port}/api/v1/docs/",
            "Connect to": demo_url(host, port)
            if demo
            else f"ws://CLUSTER_ID.{settings.CLUSTER_DOMAINS[0]}:{port}/v3/CHANNEL_ID?api_key=API_KEY",
        }
        self.stdout.write(f"Listening on {_described(host, address)} port {port}. Stop with Ctrl-C.")
        for label, value in lines.items():
            self.stdout.write(f"  {label + ':':<18}{value}")
        if host not in LOCAL_HOSTS and name not in settings.ALLOWED_HOSTS and "*" not in settings.ALLOWED_HOSTS:
            self.stdout.write(f"  To open the pages and the admin at this address, set ALLOWED_HOSTS={name}.")
        self.stdout.flush()


def _described(host: str, address: str) -> str:
    """Return what the server listens on, for people.

    Args:
        host: the value of `--host`.
        address: the address to which it led.
    """
    if address in ("::", "0.0.0.0"):  # noqa: S104
        families = "IPv4" if address == "0.0.0.0" else "IPv6 and IPv4"  # noqa: S104
        return f"{address} (all {families} addresses of this machine)"
    return address if host == address else f"{host} ({address})"


def _serve_in_this_process(listener: socket.socket) -> None:
    Server(
        get_default_application(),
        # Twisted duplicates the descriptor and closes the original.
        endpoints=build_endpoint_description_strings(file_descriptor=listener.detach()),
        verbosity=0,
    ).run()
