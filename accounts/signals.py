"""The one thing that accounts tells the rest of the project."""

from functools import partial
from typing import Any

from django.db import transaction
from django.dispatch import Signal

access_changed = Signal()
"""Sent after commit, with plain values: what may connect may have changed, also by creating or deleting.

Exactly one of these is not None:

    account_id: the primary key of an account, for all of its keys
    cluster_pk: the primary key of a cluster, for all of its keys
    public_key: the public part of one API key
"""


def announce(*, account_id: int | None = None, cluster_pk: int | None = None, public_key: str | None = None) -> None:
    """Send `access_changed` when the transaction is committed. Receivers that fail are logged by Django."""
    values: dict[str, Any] = {"account_id": account_id, "cluster_pk": cluster_pk, "public_key": public_key}
    transaction.on_commit(partial(access_changed.send_robust, sender=None, **values))
