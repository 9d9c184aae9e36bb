"""`manage.py demo`: create a tenant for trying out the service."""

from argparse import ArgumentParser
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from accounts import services
from accounts.access import find_access
from accounts.crypto import DecryptionFailed
from accounts.demo import DEMO_PUBLIC_KEY
from accounts.locks import Refused
from accounts.management.command_line import add_json_option, format_values, manage_command
from realtime.management.running import DEFAULT_PORT, add_port_option, running_port

# Addresses to listen on that clients on this machine reach as `localhost`.
LOCAL_HOSTS = ("127.0.0.1", "0.0.0.0", "::1", "::", "localhost")  # noqa: S104


def reachable_as(host: str) -> str:
    """Return the host name under which clients reach a server that listens on `host`."""
    if host in LOCAL_HOSTS:
        return "localhost"
    return f"[{host}]" if ":" in host else host


def demo_url(host: str, port: int) -> str:
    """Return the URL for clients of the demo tenant when the server listens on this host and port."""
    return f"ws://{reachable_as(host)}:{port}/v3/1?api_key={DEMO_PUBLIC_KEY}"


def ensure_demo(*, force: bool) -> services.IssuedKey:
    """Return the key of the demo tenant; create the tenant if it does not exist.

    Args:
        force: create the tenant even if the database has other accounts.

    Raises:
        CommandError: the database has other accounts, or its demo tenant cannot be used.
    """
    is_new = find_access(DEMO_PUBLIC_KEY) is None
    if is_new and not (force or settings.DEBUG) and services.has_other_accounts():
        raise CommandError(
            "This database has other accounts, and the API key of the demo tenant is publicly known. "
            f"To create the demo tenant anyway, run {manage_command('demo', '--force')}"
        )
    try:
        return services.ensure_demo(DEMO_PUBLIC_KEY)
    except (Refused, DecryptionFailed) as error:
        raise CommandError(str(error)) from None


class Command(BaseCommand):
    help = (
        "Create the demo tenant if it does not exist, and print how to connect to it. Its account and its cluster are "
        "named `demo`, and its API key is that of PieSocket's documentation."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        add_port_option(parser)
        add_json_option(parser)
        parser.add_argument(
            "--force", action="store_true", help="create the demo tenant even if the database has other accounts"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        issued = ensure_demo(force=options["force"])
        port = options["port"] or running_port(settings.DATA_DIR) or DEFAULT_PORT
        values = {
            "cluster": issued.key.cluster.cluster_id,
            "app_id": issued.key.cluster.app_id,
            "key": issued.key.public_key,
            "secret": issued.secret,
            "url": demo_url("127.0.0.1", port),
        }
        self.stdout.write(format_values(values, as_json=options["json"]))
