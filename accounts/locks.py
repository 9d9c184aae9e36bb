"""Locks on accounts: concurrent changes of one account wait for each other, and each finds what the last one left."""

from collections.abc import Collection
from typing import Any

from django.core.exceptions import ValidationError

from .models import Account, ApiKey, Cluster, Invitation, Membership, Resource, Webhook

# The lookup path from an account to each kind of resource.
_PATHS: dict[type[Any], str] = {
    Account: "pk",
    Membership: "memberships",
    Invitation: "invitations",
    Cluster: "clusters",
    ApiKey: "clusters__keys",
    Webhook: "clusters__webhooks",
}


class Refused(Exception):
    """A service refuses an operation; the message is a sentence for the user."""


def sentence(error: ValidationError | Refused) -> str:
    """Return why a service did not do what it was called for."""
    return " ".join(error.messages) if isinstance(error, ValidationError) else str(error)


class Gone(Refused):
    """The resource was deleted in the meantime."""


class AccountSuspended(Refused):
    """The account is suspended, so that it cannot be changed."""


def lock_account(resource: Resource, *, suspended_too: bool = False, to_delete: bool = False) -> Account:
    """Lock the account of a resource until the end of the transaction, and return it as it is now.

    On SQLite, the transaction itself is the lock: only one writes at a time.

    Args:
        resource: the account, or anything that belongs to it.
        suspended_too: whether the operation is also possible in a suspended account.
        to_delete: whether the account is going to be deleted.

    Raises:
        Gone: the resource was deleted in the meantime.
        AccountSuspended: the account is suspended.
    """
    path = _PATHS[type(resource)]
    # A weak lock does not make rows wait that reference the account, such as those of another service.
    accounts = Account.objects.select_for_update(no_key=not to_delete, of=("self",))
    account = accounts.filter(**{path: resource.pk}).first()
    # Look again after waiting for the lock: PostgreSQL checks only the locked row once more.
    if account is None or not type(resource)._default_manager.filter(pk=resource.pk).exists():
        raise Gone("This was deleted in the meantime.")
    if account.suspended and not suspended_too:
        raise AccountSuspended("The account is suspended and cannot be changed until it is resumed.")
    return account


def lock_webhooks(**which: Any) -> list[int]:
    """Lock webhooks until the end of the transaction, always in the same order, and return their primary keys.

    Lock webhooks before you change or delete several of them, or their deliveries. If you also lock the account, lock
    it before the webhooks.

    Args:
        which: a condition for the webhooks.
    """
    webhooks = Webhook.objects.select_for_update(no_key=True, of=("self",)).filter(**which)
    return list(webhooks.order_by("pk").values_list("pk", flat=True))


def lock_accounts(primary_keys: Collection[int]) -> None:
    """Lock several accounts until the end of the transaction, always in the same order."""
    list(Account.objects.select_for_update(no_key=True).filter(pk__in=primary_keys).order_by("pk").values_list("pk"))
