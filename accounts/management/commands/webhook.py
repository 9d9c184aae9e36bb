"""`manage.py webhook`: list and delete the webhooks of accounts."""

from argparse import ArgumentParser
from collections.abc import Sequence
from typing import Any

from django.core.management.base import CommandError

from accounts import services
from accounts.management.subcommands import CommandWithSubcommands, add_undecryptable, find_account
from accounts.models import Webhook
from accounts.stored_secrets import undecryptable
from accounts.webhook_rows import without_query


def _list_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--account", type=int, help="only webhooks of the account with this ID", metavar="ID")
    add_undecryptable(parser)


def _delete_arguments(parser: ArgumentParser) -> None:
    text = "IDs of webhooks, which `manage.py webhook list` prints"
    parser.add_argument("webhooks", type=int, nargs="+", help=text, metavar="webhook")


def _values(webhook: Webhook) -> dict[str, Any]:
    return {
        "id": webhook.pk,
        "url": without_query(webhook.url),
        "cluster": webhook.cluster.cluster_id,
        "account": webhook.cluster.account_id,
        "enabled": webhook.enabled,
        "created_at": webhook.created_at,
    }


class Command(CommandWithSubcommands):
    help = "List and delete webhooks."
    subcommands = {"list": _list_arguments, "delete": _delete_arguments}

    def list(self, account: int | None, *, only_undecryptable: bool, **_: Any) -> Any:
        """List webhooks. The queries of their URLs are left out, because they may be secret."""
        webhooks = Webhook.objects.select_related("cluster")
        if account is not None:
            webhooks = webhooks.filter(cluster__account=find_account(account))
        if only_undecryptable:
            webhooks = webhooks.filter(pk__in=undecryptable(webhooks))
        return [_values(webhook) for webhook in webhooks]

    def delete(self, webhooks: Sequence[int], **_: Any) -> Any:
        """Delete webhooks, with what waits to be sent to them and their logs."""
        found = Webhook.objects.select_related("cluster__account").in_bulk(webhooks)
        missing = sorted(set(webhooks) - found.keys())
        if missing:
            raise CommandError(f"There is no webhook with the ID {missing[0]}.")
        deleted = [_values(webhook) for webhook in found.values()]
        for webhook in found.values():
            services.delete_webhook(webhook, suspended_too=True)
        return deleted
