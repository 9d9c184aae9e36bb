"""`manage.py key`: manage the API keys of clusters."""

from argparse import ArgumentParser, ArgumentTypeError
from datetime import timedelta
from typing import Any

from django.views.decorators.debug import sensitive_variables

from accounts import services
from accounts.management.subcommands import (
    CommandWithSubcommands,
    add_quotas,
    add_undecryptable,
    find_account,
    find_cluster,
    find_key,
    given_quotas,
)
from accounts.models import ApiKey
from accounts.quotas import QUOTA_FIELDS
from accounts.stored_secrets import undecryptable


def _list_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--account", type=int, help="only API keys of the account with this ID", metavar="ID")
    parser.add_argument("--cluster", help="only API keys of the cluster with this ID", metavar="ID")
    add_undecryptable(parser)


def _issue_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("cluster", help="ID of the cluster")
    parser.add_argument("label", help="a name that tells people what uses the API key")
    parser.add_argument(
        "--protects-channels", action="store_true", help="require a JWT in all channels, not only in private channels"
    )
    parser.add_argument(
        "--no-client-messages", action="store_true", help="let clients only receive; messages come from servers"
    )
    parser.add_argument(
        "--closes-expired-connections", action="store_true", help="close a connection when its JWT expires"
    )
    parser.add_argument(
        "--allowed-origin",
        action="append",
        default=[],
        metavar="HOST",
        help="a website whose pages may connect, such as example.com; may be repeated (default: all websites)",
    )
    add_quotas(parser, QUOTA_FIELDS)


def _add_key(parser: ArgumentParser) -> None:
    parser.add_argument("key", help="public part of the API key")


def _rotate_arguments(parser: ArgumentParser) -> None:
    _add_key(parser)
    parser.add_argument(
        "--overlap-seconds",
        type=_overlap,
        default=timedelta(),
        dest="overlap",
        metavar="SECONDS",
        help="how long the old secret also stays valid, at most 604800 (default: it ends immediately)",
    )


def _overlap(text: str) -> timedelta:
    seconds, longest = int(text), int(services.MAX_OVERLAP.total_seconds())
    if not 0 <= seconds <= longest:
        raise ArgumentTypeError(f"{seconds} is not between 0 and {longest}")
    return timedelta(seconds=seconds)


def _values(key: ApiKey) -> dict[str, Any]:
    return {
        "key": key.public_key,
        "label": key.label,
        "cluster": key.cluster.cluster_id,
        "account": key.cluster.account_id,
        "revoked": key.revoked,
        "created_at": key.created_at,
        "last_used_at": key.last_used_at,
        "old_secret_ends_at": key.old_secret_ends_at,
    }


class Command(CommandWithSubcommands):
    help = "Manage API keys: list, issue and revoke them, and rotate their secrets."
    subcommands = {
        "list": _list_arguments,
        "issue": _issue_arguments,
        "revoke": _add_key,
        "rotate": _rotate_arguments,
        "end-old-secret": _add_key,
    }

    def list(self, account: int | None, cluster: str | None, *, only_undecryptable: bool, **_: Any) -> Any:
        """List API keys, also those that are revoked, except with --undecryptable."""
        keys = ApiKey.objects.select_related("cluster")
        if account is not None:
            keys = keys.filter(cluster__account=find_account(account))
        if cluster is not None:
            keys = keys.filter(cluster=find_cluster(cluster))
        if only_undecryptable:
            keys = keys.filter(pk__in=undecryptable(keys.filter(revoked_at=None)))
        return [_values(key) for key in keys]

    @sensitive_variables()
    def issue(self, cluster: str, label: str, **options: Any) -> Any:
        """Issue an API key, and print its secret, which is not shown again."""
        settings: dict[str, Any] = {
            "protects_channels": options["protects_channels"],
            "allows_client_messages": not options["no_client_messages"],
            "closes_expired_connections": options["closes_expired_connections"],
            "allowed_origins": options["allowed_origin"],
            **given_quotas(options, QUOTA_FIELDS),
        }
        issued = services.issue_key(find_cluster(cluster), label, **settings)
        return {**_values(issued.key), "secret": issued.secret}

    def revoke(self, key: str, **_: Any) -> Any:
        """Revoke an API key permanently: close its connections and reject new ones."""
        revoked = find_key(key)
        services.revoke_key(revoked, suspended_too=True)
        return _values(revoked)

    @sensitive_variables()
    def rotate(self, key: str, overlap: timedelta, **_: Any) -> Any:
        """Replace the secret of an API key, and print the new one, which is not shown again."""
        rotated = find_key(key)
        secret = services.rotate_secret(rotated, overlap)
        return {**_values(rotated), "secret": secret}

    def end_old_secret(self, key: str, **_: Any) -> Any:
        """End the overlap of a rotation: the old secret stops working, and its connections are closed."""
        ended = find_key(key)
        services.end_old_secret(ended, suspended_too=True)
        return _values(ended)
