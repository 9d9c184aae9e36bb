"""`manage.py cluster`: manage the clusters of accounts."""

from argparse import ArgumentParser
from typing import Any

from accounts import services
from accounts.management.subcommands import CommandWithSubcommands, add_account, find_account, find_cluster
from accounts.models import Cluster


def _list_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--account", type=int, help="only clusters of the account with this ID", metavar="ID")


def _add_cluster(parser: ArgumentParser) -> None:
    parser.add_argument("cluster", help="ID of the cluster")


def _create_arguments(parser: ArgumentParser) -> None:
    add_account(parser)
    _add_cluster(parser)


def _values(cluster: Cluster) -> dict[str, Any]:
    return {
        "cluster": cluster.cluster_id,
        "account": cluster.account_id,
        "enabled": cluster.enabled,
        "created_at": cluster.created_at,
    }


class Command(CommandWithSubcommands):
    help = "Manage clusters: list, create, enable and disable them."
    subcommands = {
        "list": _list_arguments,
        "create": _create_arguments,
        "enable": _add_cluster,
        "disable": _add_cluster,
    }

    def list(self, account: int | None, **_: Any) -> Any:
        """List clusters."""
        clusters = Cluster.objects.all() if account is None else find_account(account).clusters.all()
        return [_values(cluster) for cluster in clusters]

    def create(self, account: int, cluster: str, **_: Any) -> Any:
        """Create a cluster in an account."""
        return _values(services.create_cluster(find_account(account), cluster))

    def enable(self, cluster: str, **_: Any) -> Any:
        """Let a cluster accept connections again."""
        return self._switch(cluster, enabled=True)

    def disable(self, cluster: str, **_: Any) -> Any:
        """Close all connections of a cluster and reject new ones."""
        return self._switch(cluster, enabled=False)

    def _switch(self, cluster_id: str, *, enabled: bool) -> dict[str, Any]:
        cluster = find_cluster(cluster_id)
        services.update_cluster(cluster, enabled=enabled)
        return _values(cluster)
