"""The current usage of accounts and keys. The database has the messages; the data plane counts the connections."""

import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, timedelta
from typing import Any, NamedTuple, Protocol

from django.db import models, transaction
from django.db.models.expressions import Combinable
from django.db.models.functions import Coalesce
from django.utils import timezone

from .locks import Refused
from .models import Account, ApiKey, Cluster, DailyUsage, FormerAccount, Role
from .users import User

WithConnections = Account | ApiKey | Cluster


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


class MaybePublished(Refused):
    """Nobody knows whether a message was sent."""


class NotPublished(Refused):
    """The data plane has not sent a message; the sentence says why."""


class DataPlane(Protocol):
    """What the data plane does for the control plane. May be called from any thread."""

    def count_connections(
        self, *, account_ids: Sequence[int], public_keys: Sequence[str], cluster_pks: Sequence[int]
    ) -> list[int]:
        """Return the number of open connections of each of these accounts, then of the keys, then of the clusters.

        The time that it takes hardly depends on how many there are.
        """

    def known_connections(
        self, *, account_ids: Sequence[int], public_keys: Sequence[str], cluster_pks: Sequence[int], seconds: float
    ) -> list[int] | None:
        """Return the same as `count_connections`, or None if not all nodes can be counted within some seconds."""

    def publish(self, cluster: Cluster, channel: str, message: str) -> int:
        """Send a message to a channel on all nodes, and return to how many connections.

        It counts against the quotas of the account, as a message does that a server publishes.

        Raises:
            NotPublished: the message was not sent.
            MaybePublished: the message may not have been sent.
        """

    def channels(self, cluster_pk: int) -> dict[str, int]:
        """Return the number of open connections to each channel of a cluster, by the channel's path.

        Raises:
            TimeoutError: the nodes do not answer now; the same holds for the following questions.
        """

    def connections(self, cluster_id: str, channel: str) -> list[dict[str, Any]]:
        """Return some of the connections to a channel: `id`, `user`, `public_key`, `address` and `since`."""

    def members(self, cluster_id: str, channel: str) -> list[str]:
        """Return the members of presence of a channel, each as JSON."""

    def disconnect(self, cluster_id: str, channel: str, connection_id: str) -> bool:
        """Close a connection to a channel; return whether it was still open."""

    def nodes_state(self) -> NodesState:
        """Return the state of all nodes."""


_data_plane: DataPlane | None = None


def use_data_plane(data_plane: DataPlane) -> None:
    """Set the data plane to ask. It calls this itself, because `accounts` must not import it."""
    global _data_plane  # noqa: PLW0603  (set once, when the project is loaded)
    _data_plane = data_plane


def data_plane() -> DataPlane | None:
    """Return the data plane; None in a project without one."""
    return _data_plane


def connections_of(resources: Iterable[WithConnections]) -> dict[WithConnections, int]:
    """Return the number of open connections of each of these resources, which are all counted together."""
    rows = _Counted(resources)
    if _data_plane is None:
        return dict.fromkeys(rows.in_order, 0)
    return rows.with_counts(_data_plane.count_connections(**rows.names))


def known_connections_of(resources: Iterable[WithConnections], seconds: float) -> dict[WithConnections, int] | None:
    """Return the same as `connections_of`, or None if not all nodes can be counted within some seconds."""
    rows = _Counted(resources)
    if _data_plane is None:
        return dict.fromkeys(rows.in_order, 0)
    counts = _data_plane.known_connections(**rows.names, seconds=seconds)
    return None if counts is None else rows.with_counts(counts)


class _Counted:
    """Resources whose connections are counted together."""

    def __init__(self, resources: Iterable[WithConnections]) -> None:
        rows = list(resources)
        accounts = [row for row in rows if isinstance(row, Account)]
        keys = [row for row in rows if isinstance(row, ApiKey)]
        clusters = [row for row in rows if isinstance(row, Cluster)]
        self.in_order: list[WithConnections] = [*accounts, *keys, *clusters]
        self.names: dict[str, Any] = {
            "account_ids": [account.pk for account in accounts],
            "public_keys": [key.public_key for key in keys],
            "cluster_pks": [cluster.pk for cluster in clusters],
        }

    def with_counts(self, counts: list[int]) -> dict[WithConnections, int]:
        return dict(zip(self.in_order, counts, strict=True))


def publish(cluster: Cluster, channel: str, message: str) -> int:
    """Send a message to a channel of a cluster, and return to how many connections; see `DataPlane.publish`.

    Raises:
        NotPublished: the message was not sent.
        MaybePublished: the message may not have been sent.
    """
    if _data_plane is None:
        raise NotPublished("This process cannot send messages.")
    return _data_plane.publish(cluster, channel, message)


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
