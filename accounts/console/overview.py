"""The first page of an account: how it is doing."""

from django.http import HttpResponse
from django.shortcuts import redirect
from django.utils import timezone
from django.views.decorators.http import require_safe

from accounts.models import Account
from accounts.usage import messages_today

from .access import AccountRequest, account_page
from .clusters import clusters_of, rows_of
from .figures import Connections, Figure
from .frame import render_page
from .limits import limit_of
from .start import has_sent, leads_to_steps

# How many clusters the page lists.
MAX_CLUSTERS = 10


@require_safe
@account_page()
def overview(request: AccountRequest, account: Account) -> HttpResponse:
    """Show how an account is doing; before its first message, lead to the first steps."""
    if leads_to_steps(request, account):
        return redirect("console:start", account=account.pk)
    clusters = list(clusters_of(account))
    connections = Connections([account, *clusters])
    busiest = sorted(clusters, key=lambda cluster: connections.of(cluster) or 0, reverse=True)[:MAX_CLUSTERS]
    shown = [cluster for cluster in clusters if cluster in busiest]
    sent = Account.objects.filter(pk=account.pk).values_list(messages_today("pk"), flat=True).get()
    context = {
        "now": timezone.now(),
        "connections": Figure(connections.of(account), limit_of(account, "max_connections")),
        "missing": connections.missing(account),
        "messages_today": Figure(sent, limit_of(account, "max_messages_per_day")),
        "rows": rows_of(request, shown, connections),
        "all": len(clusters),
        "has_steps": request.frame.develops and not has_sent(request, account),
    }
    return render_page(request, "console/overview.html", context, page="overview")
