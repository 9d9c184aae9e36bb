"""Refusals: the data plane writes them, and the people of an account read them for a day.

Of each key, the last refusals are kept, and all are counted. Refusals without a valid key belong to the cluster that
the host name contains.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from django.db import models, transaction
from django.utils import timezone

from .models import Account, ApiKey, Cluster, Refusal, RefusalCount
from .refused_clients import OTHER_CLUSTER, UNKNOWN, Cause, RefusedClient
from .remedies import Remedy, label_of, remedy_for

KEPT_PER_KEY = 100
KEPT_FOR = timedelta(days=1)
MAX_PROBLEMS = 5
# How many rows one statement writes or deletes, so that others wait only briefly.
ROWS_AT_ONCE = 500

Counted = tuple[int, int, str, int, str, str]
"""The values of `_COUNTED`: the refusals with the same values are counted together."""
_COUNTED = ("account_pk", "cluster_pk", "public_key", "code", "reason", "detail")


def record_refusals(counts: Mapping[Cause, int], refused: Sequence[RefusedClient]) -> None:
    """Count refusals, and keep the last of each key.

    Args:
        counts: how many refusals to add, by their cause.
        refused: the refusals to keep, oldest first. They are among those that are counted.
    """
    places = _places({*counts, *(client.cause for client in refused)})
    totals: Counter[Counted] = Counter()
    for cause, count in counts.items():
        if cause in places:
            totals[places[cause]] += count
    rows = [_row(client, places[client.cause]) for client in refused if client.cause in places]
    with transaction.atomic():
        Refusal.objects.bulk_create(rows, batch_size=ROWS_AT_ONCE)
        _add(totals)
    for cluster_pk, public_key in sorted({(row.cluster_pk, row.public_key) for row in rows}):
        of_key = Refusal.objects.filter(cluster_pk=cluster_pk, public_key=public_key)
        _delete(of_key.order_by("-at", "-pk"), after=KEPT_PER_KEY)


def prune_refusals() -> bool:
    """Delete some of the refusals that are older than a day; return whether there may be more of them."""
    oldest = timezone.now() - KEPT_FOR
    kept = _delete(Refusal.objects.filter(at__lt=oldest).order_by("at"))
    counted = _delete(RefusalCount.objects.filter(hour__lt=_hour(oldest)).order_by("hour"))
    return ROWS_AT_ONCE in (kept, counted)


def _add(totals: Mapping[Counted, int]) -> None:
    hour = _hour(timezone.now())
    # Every node writes in the same order, so that two nodes cannot deadlock.
    rows = [
        ({"hour": hour, **dict(zip(_COUNTED, counted, strict=True))}, totals[counted]) for counted in sorted(totals)
    ]
    RefusalCount.objects.bulk_create([RefusalCount(**names) for names, _ in rows], ignore_conflicts=True)
    for names, count in rows:
        RefusalCount.objects.filter(**names).update(refusals=models.F("refusals") + count)


def _delete(rows: models.QuerySet[Any], *, after: int = 0) -> int:
    """Delete some of these rows, but not the first ones; return how many."""
    keys = list(rows.values_list("pk", flat=True)[after : after + ROWS_AT_ONCE])
    if keys:
        rows.model._default_manager.filter(pk__in=keys).delete()
    return len(keys)


def _hour(at: datetime) -> datetime:
    return at.replace(minute=0, second=0, microsecond=0)


def _row(client: RefusedClient, place: Counted) -> Refusal:
    values = client._asdict()
    del values["cause"]
    at = datetime.fromtimestamp(values.pop("at"), UTC)
    return Refusal(**dict(zip(_COUNTED, place, strict=True)), **values, at=at)


def _places(causes: Collection[Cause]) -> dict[Cause, Counted]:
    """Return where the refusals of each cause are counted. Those that are nobody's are left out."""
    named = {cause.cluster_id for cause in causes if cause.cluster_id is not None}
    rows = Cluster.objects.filter(cluster_id__in=sorted(named)).values_list("cluster_id", "account_id", "pk")
    clusters = {cluster_id: (account_pk, pk) for cluster_id, account_pk, pk in rows}
    found = {cause: _place(cause, clusters.get(cause.cluster_id or "")) for cause in causes}
    return {cause: place for cause, place in found.items() if place is not None}


def _place(cause: Cause, named: tuple[int, int] | None) -> Counted | None:
    """Return where the refusals of a cause are counted.

    Args:
        cause: the cause.
        named: the account and the cluster that the host name contains.
    """
    public_key, detail = cause.public_key, cause.detail
    if named is not None and detail == OTHER_CLUSTER and cause.account_pk != named[0]:
        public_key, detail = "", UNKNOWN  # another account's key is never named
    own = None if cause.account_pk is None or cause.cluster_pk is None else (cause.account_pk, cause.cluster_pk)
    place = named or own if detail in (OTHER_CLUSTER, UNKNOWN) else own or named
    return None if place is None else (*place, public_key, cause.code, cause.reason, detail)


class ShownRefusal(NamedTuple):
    """One refusal, or several for the same reason, with everything that a page shows of them."""

    latest: Refusal
    label: str
    cluster: Cluster | None
    """None if it was deleted meanwhile."""
    key: ApiKey | None
    """None if the client has sent no valid key, or it was deleted meanwhile."""
    remedy: Remedy
    refusals: int = 1


def reasons_of(account: Account, limit: int | None = None, *, newest_first: bool = False) -> list[ShownRefusal]:
    """Return the refusals of the last 24 hours by reason and key.

    Args:
        account: the account.
        limit: how many to return at most.
        newest_first: whether to sort by the time of the last refusal; by default, the most frequent come first.
    """
    oldest = _hour(timezone.now() - KEPT_FOR)
    counts = RefusalCount.objects.filter(account_pk=account.pk, hour__gte=oldest).order_by().values_list(*_COUNTED)
    totals: dict[Counted, int] = {
        counted: total for *values, total in counts.annotate(total=models.Sum("refusals")) if (counted := tuple(values))
    }
    kept = refusals_of(account).order_by().values_list(*_COUNTED).annotate(last=models.Max("pk"))
    last: dict[Any, int] = {tuple(counted): pk for *counted, pk in kept}
    latest = Refusal.objects.in_bulk(last.values())
    found = [(latest[pk], totals.get(counted, 1)) for counted, pk in last.items() if pk in latest]
    found.sort(key=lambda one: (one[0].at if newest_first else one[1], one[0].at), reverse=True)
    shown = show(account, [row for row, _ in found[:limit]])
    return [one._replace(refusals=count) for one, (_, count) in zip(shown, found[:limit], strict=True)]


def number_lately(accounts: Iterable[Account]) -> dict[int, int]:
    """Return how many refusals each of these accounts had in the last 24 hours, by primary key, if it had any."""
    oldest = _hour(timezone.now() - KEPT_FOR)
    rows = RefusalCount.objects.filter(account_pk__in=[account.pk for account in accounts], hour__gte=oldest)
    return dict(rows.order_by().values_list("account_pk").annotate(models.Sum("refusals")))


def recent_problems(account: Account) -> list[ShownRefusal]:
    """Return the last problems of an account by reason and key, newest first, at most `MAX_PROBLEMS`."""
    return reasons_of(account, MAX_PROBLEMS, newest_first=True)


def refusals_of(
    account: Account, *, search: str = "", public_key: str = "", reason: str = ""
) -> models.QuerySet[Refusal]:
    """Return the refusals of an account that are kept, newest first.

    Args:
        account: the account.
        search: a part of the address, the origin, the user or the channel.
        public_key: only refusals of this key.
        reason: only refusals for this reason, such as "bad_jwt".
    """
    rows = Refusal.objects.filter(account_pk=account.pk, at__gte=timezone.now() - KEPT_FOR)
    if search := search.strip().replace("\0", ""):  # PostgreSQL rejects NUL
        fields = ("address", "origin", "user", "channel")
        rows = rows.filter(models.Q.create([(f"{name}__icontains", search) for name in fields], connector=models.Q.OR))
    if public_key:
        rows = rows.filter(public_key=public_key.replace("\0", ""))
    if reason:
        rows = rows.filter(reason=reason.replace("\0", ""))
    return rows


def show(account: Account, rows: Sequence[Refusal]) -> list[ShownRefusal]:
    """Return refusals of an account with their clusters, keys and remedies."""
    clusters = {cluster.pk: cluster for cluster in account.clusters.filter(pk__in={row.cluster_pk for row in rows})}
    own = ApiKey.objects.filter(cluster__account=account, public_key__in={row.public_key for row in rows})
    keys = {key.public_key: key for key in own.select_related("cluster")}
    return [
        ShownRefusal(
            row,
            label_of(row.reason, row.detail),
            clusters.get(row.cluster_pk),
            keys.get(row.public_key),
            remedy_for(row, clusters.get(row.cluster_pk), keys.get(row.public_key)),
        )
        for row in rows
    ]
