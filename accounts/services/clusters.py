"""The services that change clusters."""

from fnmatch import fnmatchcase

from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import transaction

from ..key_access import CLUSTER_OPTIONS
from ..locks import lock_account, lock_webhooks
from ..models import Account, Cluster
from ..signals import announce
from .changes import check_room, create_recorded, update_recorded

CLUSTER_SETTINGS = ("enabled", *CLUSTER_OPTIONS)


@transaction.atomic
def create_cluster(account: Account, cluster_id: str, **values: bool) -> Cluster:
    """Create a cluster.

    Args:
        account: the account that owns it.
        cluster_id: the cluster ID.
        values: values for any settings in CLUSTER_SETTINGS.

    Raises:
        ValidationError: the cluster ID is not a DNS label, is reserved, or is already taken.
        QuotaReached: the account has too many clusters.
        Gone, AccountSuspended: see `lock_account`.
    """
    account = lock_account(account)
    if any(fnmatchcase(cluster_id, pattern) for pattern in settings.RESERVED_CLUSTER_IDS):
        raise ValidationError({"cluster_id": ["This cluster ID is reserved. Choose another one."]})
    check_room(account, "max_clusters", account.clusters.count())
    cluster = Cluster(account=account, cluster_id=cluster_id, **_known(values))
    create_recorded(cluster, *{"enabled": None, **values})
    return cluster


@transaction.atomic
def update_cluster(cluster: Cluster, **values: bool) -> None:
    """Change settings of a cluster. Disabling it closes its connections.

    Args:
        cluster: the cluster.
        values: new values for any settings in CLUSTER_SETTINGS.

    Raises:
        Gone, AccountSuspended: see `lock_account`.
    """
    if not values:
        return
    lock_account(cluster)
    update_recorded(cluster, _known(values))
    announce(cluster_pk=cluster.pk)


@transaction.atomic
def delete_cluster(cluster: Cluster, *, suspended_too: bool = False) -> None:
    """Delete a cluster with its keys, and close their connections.

    Args:
        cluster: the cluster.
        suspended_too: whether to delete it even if its account is suspended, which only operators may do.

    Raises:
        Gone, AccountSuspended: see `lock_account`.
    """
    lock_account(cluster, suspended_too=suspended_too)
    lock_webhooks(cluster=cluster)
    cluster.delete()


def _known(values: dict[str, bool]) -> dict[str, bool]:
    unknown = set(values) - set(CLUSTER_SETTINGS)
    if unknown:
        raise TypeError(f"Unknown settings of a cluster: {', '.join(sorted(unknown))}")
    return values
