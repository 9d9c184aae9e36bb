"""The signals of `accounts`: what it announces to the rest of the project, and what users announce to the audit."""

from functools import partial
from typing import Any

from django.db import transaction
from django.dispatch import Signal

access_changed = Signal()
"""Sent after commit when the access of some API keys may have changed, also when they are created or deleted.

Exactly one of these arguments is not None, and says which keys are concerned:

    account_id: the primary key of an account, for all of its keys
    cluster_pk: the primary key of a cluster, for all of its keys
    public_key: the public part of a single API key
"""

webhooks_due = Signal()
"""Sent after commit when somebody has asked for deliveries of webhooks to be sent now."""

password_changed = Signal()
"""Sent in the transaction that changes or removes the password of an existing user, with the argument `user`."""


def announce(*, account_id: int | None = None, cluster_pk: int | None = None, public_key: str | None = None) -> None:
    """Send `access_changed` after the transaction is committed. If a receiver fails, Django logs its exception."""
    values: dict[str, Any] = {"account_id": account_id, "cluster_pk": cluster_pk, "public_key": public_key}
    transaction.on_commit(partial(access_changed.send_robust, sender=None, **values))


def announce_webhooks_due() -> None:
    """Send `webhooks_due` after the transaction is committed. If a receiver fails, Django logs its exception."""
    transaction.on_commit(partial(webhooks_due.send_robust, sender=None))
