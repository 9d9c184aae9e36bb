"""The page that shows who changed what: the audit log of an account, as sentences."""

import re
from typing import Any, NamedTuple
from urllib.parse import urlencode

from django.db.models import QuerySet
from django.http import HttpResponse
from django.urls import reverse
from django.views.decorators.http import require_safe

from accounts.audit import made_by_people, public_author
from accounts.models import Account, AuditEntry, AuditSource, ResourceKind
from accounts.users import normalize_email

from .access import AccountRequest, account_page
from .frame import render_page
from .sentences import sentence_of, thing_of

PER_PAGE = 50
_THINGS = (
    ("", "All things"),
    (ResourceKind.ACCOUNT, "The account"),
    (ResourceKind.MEMBER, "Members"),
    (ResourceKind.INVITATION, "Invitations"),
    (ResourceKind.CLUSTER, "Clusters"),
    (ResourceKind.KEY, "API keys"),
    (ResourceKind.WEBHOOK, "Webhooks"),
)


class Row(NamedTuple):
    """An entry as the page shows it."""

    entry: AuditEntry
    author: str
    sentence: str
    only_url: str
    """Shows only the entries about the same thing."""
    thing: str


@require_safe
@account_page()
def activity(request: AccountRequest, account: Account) -> HttpResponse:
    """List the changes to an account and to all that it owns, newest first, by person and thing."""
    person = request.GET.get("person", "").strip()
    kind, _, name = request.GET.get("thing", "").partition(":")
    before = request.GET.get("before", "")
    found = _found(account, person, kind, name)
    if re.fullmatch(r"[0-9]{1,18}", before):
        found = found.filter(pk__lt=int(before))
    entries = list(found[: PER_PAGE + 1])
    url = reverse("console:activity", args=[account.pk])
    rows = [
        Row(entry, _author(entry), sentence_of(entry), f"{url}?{_only(entry)}", thing_of(entry))
        for entry in entries[:PER_PAGE]
    ]
    filters = {name: value for name, value in (("person", person), ("thing", request.GET.get("thing", ""))) if value}
    more = len(entries) > PER_PAGE
    context = {
        "rows": rows,
        "url": url,
        "person": person,
        "thing": request.GET.get("thing", ""),
        "things": _choices(kind, name, rows),
        "people": account.people.order_by("email").values_list("email", flat=True),
        "is_filtered": bool(filters),
        "newest": f"{url}?{urlencode(filters)}" if before else "",
        "older": f"{url}?{urlencode({**filters, 'before': rows[-1].entry.pk})}" if more else "",
    }
    return render_page(request, "console/activity.html", context, page="activity")


def _author(entry: AuditEntry) -> str:
    if entry.source == AuditSource.AUTOMATIC:
        return "this service"
    return public_author(entry) or "an operator"


def _found(account: Account, person: str, kind: str, name: str) -> QuerySet[AuditEntry]:
    entries = AuditEntry.objects.filter(account_pk=account.pk)
    if person:
        # Whoever searches for the address of an operator must not find out that it was right.
        entries = entries.filter(made_by_people(), email=_storable(normalize_email(person)))
    if kind:
        entries = entries.filter(kind=_storable(kind))
    return entries.filter(name=_storable(name)) if name else entries


def _storable(text: str) -> str:
    """Return a text without what databases reject in queries: NUL, and halves of surrogate pairs."""
    return text.replace("\0", "").encode(errors="replace").decode()


def _only(entry: AuditEntry) -> str:
    is_account = entry.kind == ResourceKind.ACCOUNT
    return urlencode({"thing": entry.kind if is_account else f"{entry.kind}:{entry.name}"})


def _choices(kind: str, name: str, rows: list[Row]) -> list[Any]:
    """Return what can be chosen as the thing: the kinds, and the single thing that was chosen in the list."""
    if not name:
        return [*_THINGS]
    label = rows[0].thing if rows else name
    return [*_THINGS, (f"{kind}:{name}", f"Only {label}")]
