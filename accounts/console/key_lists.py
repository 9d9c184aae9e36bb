"""The list of the keys of a cluster: which it shows, in which order, and what it says about each."""

from datetime import timedelta
from typing import Any, NamedTuple
from urllib.parse import urlencode

from django.core.paginator import Paginator
from django.db.models import F, Q, QuerySet
from django.http import HttpRequest
from django.utils import timezone

from accounts.models import ApiKey, AuditEntry, AuditVerb, Cluster, ResourceKind

from .figures import Connections
from .numbers import short_day, whole
from .sentences import author_of
from .today import messages_of_keys

PAGE_SIZE = 50
# From how many keys on there is a search.
SEARCHED_FROM = 20
# Up to how many keys can be sorted by their connections and messages, since those of all must be counted.
MAX_SORTED_BY_NUMBERS = 1_000
UNUSED_FOR = timedelta(days=90)

_ORDERS: dict[str, Any] = {
    "label": F("label").asc(),
    "-label": F("label").desc(),
    "last_used": F("last_used_at").asc(nulls_first=True),
    "-last_used": F("last_used_at").desc(nulls_last=True),
}
_BY_CONNECTIONS = ("connections", "-connections")
_BY_MESSAGES = ("messages", "-messages")


_COLUMNS = (
    ("label", "Label"),
    ("connections", "Connections"),
    ("messages", "Messages today"),
    ("last_used", "Last used"),
)


class Row(NamedTuple):
    """A key in the list."""

    key: ApiKey
    notes: str
    """What differs from the defaults."""
    connections: int | None
    messages: int
    """Messages that it has sent today."""
    revoked_by: str


class Column(NamedTuple):
    """A column by which the list can be sorted."""

    label: str
    query: str
    """The query of the URL that sorts by it, or the other way round if the list is already sorted by it."""
    direction: str
    """The value of `aria-sort`; empty if the list is sorted by another column."""


class KeyList(NamedTuple):
    """A page of the keys of a cluster."""

    revoked: bool
    """Whether it lists the revoked keys."""
    search: str
    is_searchable: bool
    page: Any
    rows: list[Row]
    columns: dict[str, Column]
    missing: str
    """A sentence if the connections are not known."""
    previous: str
    """The query of the URL of the previous page; empty on the first page."""
    next: str


def list_of_keys(request: HttpRequest, cluster: Cluster) -> KeyList:
    """Return the page of the keys of a cluster that a request asks for."""
    revoked = request.GET.get("show") == "revoked"
    search = request.GET.get("q", "").replace("\0", "").strip()
    keys = cluster.keys.filter(revoked_at__isnull=not revoked).select_related("cluster")
    total = keys.count()
    if search:
        keys = keys.filter(Q(label__icontains=search) | Q(public_key__startswith=search))
    sort = _sort(request.GET.get("sort", ""), revoked, total)
    messages = messages_of_keys(cluster.account)
    if sort in (*_BY_CONNECTIONS, *_BY_MESSAGES):
        found = list(keys.order_by("label", "pk"))
        connections = Connections([cluster, *found])
        number = connections.of if sort in _BY_CONNECTIONS else lambda key: messages[key.pk]
        found.sort(key=lambda key: number(key) or 0, reverse=sort.startswith("-"))
        page = Paginator(found, PAGE_SIZE).get_page(request.GET.get("page"))
    else:
        page = Paginator(_in_order(keys, sort, revoked), PAGE_SIZE).get_page(request.GET.get("page"))
        connections = Connections([cluster, *page])
    authors = _revoked_by(page) if revoked else {}
    kept = {"show": "revoked" if revoked else "", "q": search, "sort": "" if sort == "label" else sort}
    return KeyList(
        revoked=revoked,
        search=search,
        is_searchable=total >= SEARCHED_FROM or bool(search),
        page=page,
        rows=[
            Row(key, notes(key), connections.of(key), messages[key.pk], authors.get(key.public_key, "")) for key in page
        ],
        columns={name: _column(label, name, sort, kept) for name, label in _COLUMNS},
        missing="" if revoked else connections.missing(cluster),
        previous=_query(kept, page=page.previous_page_number()) if page.has_previous() else "",
        next=_query(kept, page=page.next_page_number()) if page.has_next() else "",
    )


def notes(key: ApiKey) -> str:
    """Return what differs from the defaults in the settings of a key, and what its people should know."""
    now = timezone.now()
    origins = len(key.allowed_origins)
    unused_days = (now - (key.last_used_at or key.created_at)).days
    found = {
        "Every channel needs a JWT": key.protects_channels,
        "Only servers publish": not key.allows_client_messages,
        "Closes connections when their JWT expires": key.closes_expired_connections,
        "1 allowed origin" if origins == 1 else f"{origins} allowed origins": origins,
        f"up to {whole(key.max_connections or 0)} connections": key.max_connections is not None,
        f"up to {whole(key.max_messages_per_second or 0)} messages a second": key.max_messages_per_second is not None,
        f"messages up to {whole(key.max_message_bytes or 0)} bytes": key.max_message_bytes is not None,
    }
    shown = [text for text, applies in found.items() if applies]
    if key.old_secret_ends_at is not None and key.old_secret_ends_at > now:
        shown.append(f"old secret valid until {short_day(key.old_secret_ends_at)}")
    if not key.revoked and unused_days >= UNUSED_FOR.days:
        shown.append(f"not used for {whole(unused_days)} days")
    text = " · ".join(shown)
    return text[:1].upper() + text[1:]


def _sort(asked: str, revoked: bool, total: int) -> str:
    if revoked:
        return "label"
    sortable = total <= MAX_SORTED_BY_NUMBERS
    counted = (*_BY_CONNECTIONS, *_BY_MESSAGES)
    return asked if asked in _ORDERS or (sortable and asked in counted) else "label"


def _in_order(keys: QuerySet[ApiKey], sort: str, revoked: bool) -> QuerySet[ApiKey]:
    return keys.order_by("-revoked_at", "pk") if revoked else keys.order_by(_ORDERS[sort], "pk")


def _column(label: str, name: str, sort: str, kept: dict[str, str]) -> Column:
    # Numbers and times are most useful with the largest first.
    first, second = (name, f"-{name}") if name == "label" else (f"-{name}", name)
    direction = "" if sort.removeprefix("-") != name else "descending" if sort.startswith("-") else "ascending"
    return Column(label, _query({**kept, "sort": second if sort == first else first}), direction)


def _query(values: dict[str, str], **more: int) -> str:
    given = {name: value for name, value in {**values, **more}.items() if value}
    return f"?{urlencode(given)}"


def _revoked_by(keys: Any) -> dict[str, str]:
    """Return who has revoked each of these keys, by public key."""
    entries = AuditEntry.objects.filter(
        kind=ResourceKind.KEY, verb=AuditVerb.REVOKED, name__in=[key.public_key for key in keys]
    )
    return {entry.name: author_of(entry) for entry in entries}
