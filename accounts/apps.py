"""The control plane: who may connect."""

from typing import Any

from django.apps import AppConfig
from django.db.models.signals import post_delete


class AccountsConfig(AppConfig):
    name = "accounts"

    def ready(self) -> None:
        from . import checks  # noqa: F401  (registers itself)

        # By signal, since rows are also deleted by cascades and in bulk, which no service sees.
        post_delete.connect(_tell_of_deletion, dispatch_uid="accounts")


def _tell_of_deletion(sender: type, instance: Any, **_: Any) -> None:
    from .models import Account, ApiKey, Cluster
    from .signals import announce

    if sender is ApiKey:
        announce(public_key=instance.public_key)
    elif sender is Cluster:
        announce(cluster_pk=instance.pk)
    elif sender is Account:
        announce(account_id=instance.pk)
