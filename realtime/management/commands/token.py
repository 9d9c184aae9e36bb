"""`manage.py token`: a JWT for a private channel, as an application's server would sign it."""

import json
from argparse import ArgumentParser
from typing import Any
from urllib.parse import urlencode

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from accounts.access import find_access
from accounts.demo import DEMO_PUBLIC_KEY
from accounts.key_access import KeyAccess
from realtime import tokens
from realtime.admission import CHANNEL_PATH

from .serve import DEFAULT_PORT


class Command(BaseCommand):
    help = "Print a JWT that gives access to one channel, and the URL to connect to with it."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("channel", help="CHANNEL_ID, or NAMESPACE/CHANNEL_ID")
        parser.add_argument(
            "--key", default=DEMO_PUBLIC_KEY, help="public part of the API key to connect with (default: the demo key)"
        )
        parser.add_argument("--user", help="who the client is to others in presence")
        parser.add_argument("--ttl", type=int, default=3600, help="valid for so many seconds (default: %(default)s)")
        parser.add_argument("--json", action="store_true", help="print one JSON object")

    def handle(self, *args: Any, **options: Any) -> None:
        channel = CHANNEL_PATH.fullmatch(options["channel"])
        if channel is None:
            raise CommandError("A channel is 1 to 128 letters, digits, _ or -, perhaps behind a namespace and a slash.")
        if options["ttl"] < 1:
            raise CommandError("--ttl must be 1 or more.")
        access = find_access(options["key"])
        if access is None or access.revoked:
            raise CommandError("There is no such API key, or it is revoked. Give its public part with --key.")
        if access.secret is None:
            raise CommandError("The secret of this key cannot be decrypted; rotate it, or restore ENCRYPTION_KEYS.")
        jwt = tokens.sign(access.secret, channel[1], options["ttl"], options["user"])
        values = {"jwt": jwt, "url": _url(access, channel[0], jwt)}
        if options["json"]:
            self.stdout.write(json.dumps(values))
        else:
            for name, value in values.items():
                self.stdout.write(f"{name}: {value}")


def _url(access: KeyAccess, path: str, jwt: str) -> str:
    domain = settings.CLUSTER_DOMAINS[0]
    # Not every system knows that *.localhost is this machine; a host that names no cluster leaves it to the key.
    host = domain if domain == "localhost" else f"{access.cluster_id}.{domain}"
    authority = f"wss://{host}" if settings.HTTPS else f"ws://{host}:{DEFAULT_PORT}"
    return f"{authority}/v3/{path}?{urlencode({'api_key': access.public_key, 'jwt': jwt})}"
