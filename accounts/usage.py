"""The current usage of accounts and keys. The database has the messages; the data plane counts the connections."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from typing import Protocol

from django.db import models, transaction
from django.db.models.functions import Coalesce
from django.utils import timezone

from .models import Account, ApiKey, DailyUsage


def today() -> date:
    """Return the current day in UTC, for which messages are counted on every node."""
    return timezone.now().date()


def messages_today(account: str) -> Coalesce:
    """Return an annotation with the number of messages that an account has sent today.

    Args:
        account: the lookup path from the annotated row to the account's primary key.
    """
    return _messages_on(today(), account)


def _messages_on(day: date, account: str) -> Coalesce:
    rows = DailyUsage.objects.filter(account=models.OuterRef(account), day=day).values("messages")
    return Coalesce(models.Subquery(rows), 0)


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
    sent = list(Account.objects.filter(pk__in=senders).order_by("pk").values_list("pk", flat=True))
    DailyUsage.objects.bulk_create([DailyUsage(account_id=pk, day=day) for pk in sent], ignore_conflicts=True)
    for pk in sent:  # every node updates in the same order, so that two nodes cannot deadlock
        DailyUsage.objects.filter(account=pk, day=day).update(messages=models.F("messages") + counts[pk])
    accounts = Account.objects.filter(pk__in=list(counts)).annotate(sent=_messages_on(day, "pk"))
    return dict(accounts.values_list("pk", "sent"))


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
