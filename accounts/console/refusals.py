"""Refusals: why clients could not connect in the last 24 hours, and what to change."""

from urllib.parse import urlencode

from django.core.paginator import Paginator
from django.http import HttpResponse
from django.views.decorators.http import require_safe

from accounts.models import Account, ApiKey
from accounts.refusals import reasons_of, refusals_of, show
from accounts.remedies import REASONS

from .access import AccountRequest, account_page
from .frame import render_page

PER_PAGE = 50
MAX_REASONS = 50


@require_safe
@account_page()
def refusals(request: AccountRequest, account: Account) -> HttpResponse:
    """Show the refusals of an account by reason, and each of them."""
    search, key, reason = (request.GET.get(name, "") for name in ("q", "key", "reason"))
    found = refusals_of(account, search=search, public_key=key, reason=reason)
    page = Paginator(found, PER_PAGE).get_page(request.GET.get("page"))
    kept = refusals_of(account).order_by()
    named = ApiKey.objects.filter(cluster__account=account, public_key__in=kept.values("public_key")).order_by("label")
    reasons = set(kept.values_list("reason", flat=True).distinct())
    context = {
        "reasons": reasons_of(account, MAX_REASONS),
        "refusals": show(account, list(page.object_list)),
        "rows": page,
        "search": search,
        "key": key,
        "reason": reason,
        "filter": f"&{urlencode({'q': search, 'key': key, 'reason': reason})}",
        "keys": named,
        "reason_choices": [choice for choice in REASONS if choice[0] in reasons],
    }
    return render_page(request, "console/refusals.html", context, page="refusals")
