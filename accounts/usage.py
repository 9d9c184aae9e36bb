"""The current usage of accounts and keys. The database has the messages; the data plane counts the connections."""

from collections.abc import Mapping
from datetime import date
from typing import NamedTuple, Protocol

from django.db import models, transaction
from django.db.models.functions import Coalesce
from django.utils import timezone

from .models import Account, DailyUsage


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


class NodesState(NamedTuple):
    """The state of the data plane."""

    nodes: int
    """The number of nodes that serve connections."""
    connections: int
    """The number of open connections on all of them."""
    redis_is_reachable: bool | None
    """None if the service runs without Redis. If it is unreachable, this node alone is counted."""
    loop_lag_seconds: float | None
    """How late the event loop of this node is; None in a process that serves no connections."""


class DataPlane(Protocol):
    """What the data plane tells the control plane. May be called from any thread."""

    def count_connections(
        self, *, account_id: int | None = None, cluster_pk: int | None = None, public_key: str | None = None
    ) -> int:
        """Return the number of open connections of an account, a cluster or a key."""

    def nodes_state(self) -> NodesState:
        """Return the state of all nodes."""


_data_plane: DataPlane | None = None


def use_data_plane(data_plane: DataPlane) -> None:
    """Set the data plane to ask. It calls this itself, because `accounts` must not import it."""
    global _data_plane  # noqa: PLW0603  (set once, when the project is loaded)
    _data_plane = data_plane


def connections(*, account_id: int | None = None, cluster_pk: int | None = None, public_key: str | None = None) -> int:
    """Return the number of open connections of an account, a cluster or a key."""
    if _data_plane is None:
        return 0
    return _data_plane.count_connections(account_id=account_id, cluster_pk=cluster_pk, public_key=public_key)


class Overview(NamedTuple):
    """What the first page of the admin shows about the service."""

    nodes: NodesState | None
    accounts: int
    suspended: int
    messages_today: int


def overview() -> Overview:
    """Return the state of the whole service."""
    accounts = Account.objects.aggregate(all=models.Count("pk"), suspended=models.Count("suspended_at"))
    messages = DailyUsage.objects.filter(day=today()).aggregate(sum=models.Sum("messages"))["sum"]
    nodes = _data_plane.nodes_state() if _data_plane is not None else None
    return Overview(nodes, accounts["all"], accounts["suspended"], messages or 0)
