"""How much accounts and keys use now: messages are kept in the database, connections are asked of who has them."""

from collections.abc import Callable, Mapping
from datetime import date
from typing import Any, Protocol

from django.db import models, transaction
from django.db.models.functions import Coalesce
from django.utils import timezone

from .models import Account, DailyUsage


def today() -> date:
    """The day that is counted for: it begins and ends by UTC, everywhere."""
    return timezone.now().date()


def messages_today(account: str) -> Coalesce:
    """An annotation: how many messages an account has sent today.

    Args:
        account: the path from the row that is annotated to the account's primary key.
    """
    rows = DailyUsage.objects.filter(account=models.OuterRef(account), day=today()).values("messages")
    return Coalesce(models.Subquery(rows), 0)


@transaction.atomic
def record_messages(counts: Mapping[int, int], day: date) -> dict[int, int]:
    """Add to what accounts have sent on a day.

    Args:
        counts: how many messages to add, by the account's primary key. 0 only asks.

    Returns:
        How many each has sent on that day now. Accounts that exist no longer are left out.
    """
    senders = [pk for pk, count in counts.items() if count]
    sent = list(Account.objects.filter(pk__in=senders).order_by("pk").values_list("pk", flat=True))
    DailyUsage.objects.bulk_create([DailyUsage(account_id=pk, day=day) for pk in sent], ignore_conflicts=True)
    for pk in sent:  # in one order everywhere, so that two nodes do not wait for each other's rows
        DailyUsage.objects.filter(account=pk, day=day).update(messages=models.F("messages") + counts[pk])
    accounts = Account.objects.filter(pk__in=list(counts)).annotate(sent=messages_today("pk"))
    return dict(accounts.values_list("pk", "sent"))


class ConnectionCounter(Protocol):
    """Counts open connections, of an account or of a key. Any thread."""

    def __call__(self, *, account_id: int | None = None, public_key: str | None = None) -> int: ...


def _no_connections(**_: Any) -> int:
    return 0


_connection_counter: Callable[..., int] = _no_connections


def count_connections_with(counter: ConnectionCounter) -> None:
    """Have the data plane, which accounts does not know, count the connections."""
    global _connection_counter  # noqa: PLW0603  (set once, when the project is loaded)
    _connection_counter = counter


def connections(*, account_id: int | None = None, public_key: str | None = None) -> int:
    """How many connections of an account, or of a key, are open now."""
    return _connection_counter(account_id=account_id, public_key=public_key)
