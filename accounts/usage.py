"""The current usage of accounts and keys. The database has the messages; the data plane counts the connections."""

import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, timedelta
from typing import Protocol

from django.db import models, transaction
from django.db.models.expressions import Combinable
from django.db.models.functions import Coalesce
from django.utils import timezone

from .models import Account, ApiKey, DailyUsage, FormerAccount, Role
from .users import User


def today() -> date:
    """Return the current day in UTC, for which messages are counted on every node."""
    return timezone.now().date()


def seconds_to_midnight() -> int:
    """Return how long it is until midnight UTC, in whole seconds."""
    now = timezone.now()
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)
    return math.ceil((midnight - now).total_seconds())


def messages_today(account: str) -> Combinable:
    """Return an annotation with the number of messages that count against an account's quota today.

    They are those that it has sent, and those of accounts that its owners have deleted today.

    Args:
        account: the lookup path from the annotated row to the account's primary key.
    """
    return _messages_on(today(), account)


def _messages_on(day: date, account: str) -> Combinable:
    usage = DailyUsage.objects.filter(day=day).order_by()
    own = usage.filter(account_pk=models.OuterRef(account)).values("messages")
    former = FormerAccount.objects.filter(heir=models.OuterRef(models.OuterRef(account)), day=day)
    inherited = usage.filter(account_pk__in=former.values("account_pk")).values("day")
    total = inherited.annotate(total=models.Sum("messages")).values("total")
    return Coalesce(models.Subquery(own), 0) + Coalesce(models.Subquery(total), 0)


@transaction.atomic
def record_messages(counts: Mapping[int, int], day: date) -> dict[int, int]:
    """Add to the number of messages that accounts have sent on a day.

    Args:
        counts: the number of messages to add, by the account's primary key; with 0, the account's total is only read.
        day: the day in UTC.

    Returns:
        Each account's new total for that day, by primary key. Accounts that no longer exist are left out.
    """
    senders = [pk for pk, count in counts.items() if count]
    existing = Account.objects.filter(pk__in=senders).values_list("pk", flat=True)
    deleted = FormerAccount.objects.filter(account_pk__in=senders, day=day).values_list("account_pk", flat=True)
    sent = sorted({*existing, *deleted})
    DailyUsage.objects.bulk_create([DailyUsage(account_pk=pk, day=day) for pk in sent], ignore_conflicts=True)
    for pk in sent:  # every node updates in the same order, so that two nodes cannot deadlock
        DailyUsage.objects.filter(account_pk=pk, day=day).update(messages=models.F("messages") + counts[pk])
    accounts = Account.objects.filter(pk__in=list(counts)).annotate(sent=_messages_on(day, "pk"))
    return dict(accounts.values_list("pk", "sent"))


def leave_behind(account: Account) -> None:
    """Before an account is deleted, keep what it has sent today, to count it against the next account of its owners.

    Nodes may still record messages that it has sent before the deletion.
    """
    day = today()
    # Nodes may record the messages of yesterday late, so its rows stay another day.
    old = FormerAccount.objects.filter(day__lt=day - timedelta(days=1))
    DailyUsage.objects.filter(account_pk__in=old.values("account_pk")).delete()
    old.delete()
    owners = set(account.memberships.filter(role=Role.OWNER).values_list("user", flat=True))
    if account.creator_id is not None:
        owners.add(account.creator_id)
    FormerAccount.objects.bulk_create(FormerAccount(account_pk=account.pk, day=day, owner_id=pk) for pk in owners)
    usage = DailyUsage.objects.filter(account_pk=account.pk)
    (usage.exclude(day=day) if owners else usage).delete()


def inherit(account: Account, owner: User) -> None:
    """Count what the accounts that an owner has deleted today have sent against another account of the same owner."""
    owner.former_accounts.filter(heir=None, day=today()).update(heir=account)


def deleted_today(owner: User) -> int:
    """Return how many accounts of an owner were deleted today."""
    return owner.former_accounts.filter(day=today()).count()


class ConnectionCounter(Protocol):
    """Counts the open connections of each of some accounts, and then of each of some keys.

    May be called from any thread. The time that it takes hardly depends on how many there are.
    """

    def __call__(self, *, account_ids: Sequence[int] = (), public_keys: Sequence[str] = ()) -> list[int]: ...


def _no_connections(*, account_ids: Sequence[int] = (), public_keys: Sequence[str] = ()) -> list[int]:
    return [0] * (len(account_ids) + len(public_keys))


_connection_counter: ConnectionCounter = _no_connections


def count_connections_with(counter: ConnectionCounter) -> None:
    """Set the function that counts connections. The data plane sets it, because `accounts` must not import it."""
    global _connection_counter  # noqa: PLW0603  (set once, when the project is loaded)
    _connection_counter = counter


def connections_of(resources: Iterable[Account | ApiKey]) -> dict[Account | ApiKey, int]:
    """Return the number of open connections of each of these accounts and keys, which are all counted together."""
    rows = list(resources)
    accounts = [row for row in rows if isinstance(row, Account)]
    keys = [row for row in rows if isinstance(row, ApiKey)]
    counts = _connection_counter(
        account_ids=[account.pk for account in accounts], public_keys=[key.public_key for key in keys]
    )
    return dict(zip([*accounts, *keys], counts, strict=True))
