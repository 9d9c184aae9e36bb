"""The first page of an account: how it is doing."""

from django.http import HttpResponse
from django.shortcuts import redirect
from django.utils import timezone
from django.views.decorators.http import require_safe

from accounts.models import Account
from accounts.quotas import limit_of
from accounts.refusals import recent_problems
from accounts.usage import messages_today

from .access import AccountRequest, account_page
from .clusters import clusters_of, rows_of
from .figures import Connections, Figure
from .frame import render_page
from .start import has_sent, leads_to_steps
from .today import messages_of_clusters, used_today
from .usage import overview_chart
from .webhook_figures import webhooks_in_trouble

# How many clusters the page lists, and how many webhooks that fail.
MAX_CLUSTERS = 10
MAX_WEBHOOKS = 5


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
    today = used_today(account)
    now = connections.of(account)
    context = {
        **overview_chart(account),
        "now": timezone.now(),
        "connections": Figure(now, limit_of(account, "max_connections")),
        "highest": max(today.peak_connections, now or 0),
        "refused": today.refused,
        "main_reason": today.refusals.most_common(1),
        "problems": recent_problems(account),
        "webhooks": webhooks_in_trouble(account)[:MAX_WEBHOOKS],
        "missing": connections.missing(account),
        "messages_today": Figure(sent, limit_of(account, "max_messages_per_day")),
        "rows": rows_of(request, shown, connections, messages_of_clusters(account)),
        "all": len(clusters),
        "has_steps": request.frame.develops and not has_sent(request, account),
    }
    return render_page(request, "console/overview.html", context, page="overview")
