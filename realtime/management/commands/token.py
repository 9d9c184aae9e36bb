"""`manage.py token`: sign a JWT for a private channel, as an application's server would."""

from argparse import ArgumentParser
from typing import Any
from urllib.parse import urlencode

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from accounts.access import find_access
from accounts.demo import DEMO_PUBLIC_KEY
from accounts.key_access import KeyAccess
from accounts.management.command_line import add_json_option, format_values
from realtime.management.running import DEFAULT_PORT, add_port_option, running_port
from realtime.protocols import tokens
from realtime.protocols.channels import CHANNEL_PATH


class Command(BaseCommand):
    help = "Print a JWT that gives access to a channel, and the URL for connecting with it."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("channel", help="CHANNEL_ID, or NAMESPACE/CHANNEL_ID")
        parser.add_argument(
            "--key", default=DEMO_PUBLIC_KEY, help="public part of the API key to connect with (default: the demo key)"
        )
        parser.add_argument("--user", help="identifies the user of the client in presence")
        parser.add_argument(
            "--ttl", type=int, default=3600, help="seconds until the JWT expires (default: %(default)s)"
        )
        add_port_option(parser)
        add_json_option(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        channel = CHANNEL_PATH.fullmatch(options["channel"])
        if channel is None:
            raise CommandError(
                "A channel ID consists of 1 to 128 letters, digits, _ or -. A namespace and a slash may precede it."
            )
        if options["ttl"] < 1:
            raise CommandError("--ttl must be 1 or more.")
        access = find_access(options["key"])
        if access is None or access.revoked:
            raise CommandError("This API key does not exist or is revoked. Set the public part of a key with --key.")
        if access.secret is None:
            raise CommandError("The secret of this key cannot be decrypted. Rotate it, or restore ENCRYPTION_KEYS.")
        jwt = tokens.sign(access.secret, channel[0], options["ttl"], options["user"])
        values = {"jwt": jwt, "url": _url(access, channel[0], jwt, options["port"])}
        self.stdout.write(format_values(values, as_json=options["json"]))


def _url(access: KeyAccess, path: str, jwt: str, port: int | None) -> str:
    domain = settings.CLUSTER_DOMAINS[0]
    # Not every system resolves *.localhost. Without a cluster in the host name, the API key determines the cluster.
    host = domain if domain == "localhost" else f"{access.cluster_id}.{domain}"
    if port is None and not settings.HTTPS:  # with HTTPS, clients connect to the proxy on the default port
        port = running_port(settings.DATA_DIR) or DEFAULT_PORT
    scheme = "wss" if settings.HTTPS else "ws"
    authority = host if port is None else f"{host}:{port}"
    return f"{scheme}://{authority}/v3/{path}?{urlencode({'api_key': access.public_key, 'jwt': jwt})}"
