"""The pages outside an account: the way to the last used one, all accounts of a person, and a new one."""

from typing import Any, NamedTuple

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.core.exceptions import ValidationError
from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.views.decorators.http import require_safe

from accounts import services
from accounts.locks import Refused
from accounts.models import Membership
from accounts.quotas import limit_of
from accounts.refusals import number_lately
from accounts.usage import messages_today

from .access import last_used_account
from .figures import Connections, Figure
from .frame import memberships_of, render_page
from .member_forms import AccountNameForm
from .numbers import whole

PER_PAGE = 50


class Problem(NamedTuple):
    """What is wrong with an account."""

    text: str
    tone: str
    """"wait" or "bad"."""
    url: str = ""
    """The page that says more."""


class Row(NamedTuple):
    """An account in the list."""

    membership: Membership
    connections: int | None
    messages: int
    problems: list[Problem]


@require_safe
@login_required
def home(request: HttpRequest) -> HttpResponse:
    """Redirect to the only account of the user or the last used one; else to the list of all."""
    own = memberships_of(request)
    membership = own.filter(account=last_used_account(request)).first()
    if membership is None:
        first = list(own[:2])
        if len(first) != 1:
            return redirect("console:accounts")
        (membership,) = first
    return redirect("console:overview", account=membership.account_id)


@require_safe
@login_required
def accounts(request: HttpRequest) -> HttpResponse:
    """List the accounts of the user, with what they need to know about each."""
    own = memberships_of(request).annotate(sent=messages_today("account"))
    page = Paginator(own, PER_PAGE).get_page(request.GET.get("page"))
    shown = [membership.account for membership in page]
    connections, refused = Connections(shown), number_lately(shown)
    context = {
        "rows": [_row(membership, connections, refused.get(membership.account_id, 0)) for membership in page],
        "list": page,
        "missing": "" if connections.are_known else connections.missing(shown[0]),
        "may_create": _why_not(request) is None,
    }
    return render_page(request, "console/accounts.html", context, page="accounts")


def _row(membership: Any, connections: Connections, refused: int) -> Row:
    account, count = membership.account, connections.of(membership.account)
    problems = [Problem("Suspended", "bad")] if account.suspended else []
    figures = {
        "connections": Figure(count, limit_of(account, "max_connections")),
        "today’s messages": Figure(membership.sent, limit_of(account, "max_messages_per_day")),
    }
    for name, figure in figures.items():
        if figure.state:
            problems.append(Problem(f"{figure.percent:.0f} % of {name}", "bad" if figure.state == "full" else "wait"))
    if refused:
        text = "1 refusal" if refused == 1 else f"{whole(refused)} refusals"
        problems.append(Problem(text, "wait", reverse("console:refusals", args=[account.pk])))
    return Row(membership, count, membership.sent, problems)


@login_required
def new(request: HttpRequest) -> HttpResponse:
    """Create an account, whose owner the user becomes."""
    reason = _why_not(request)
    if reason is not None:
        context = {"heading": "You cannot create an account", "sentence": reason}
        return render_page(request, "console/forbidden.html", context, page="accounts", status=403)
    form = AccountNameForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        user: Any = request.user
        try:
            account = services.create_own_account(user, form.cleaned_data["name"])
        except (Refused, ValidationError) as error:
            form.reject(error)
        else:
            messages.success(request, "Account created.")
            return redirect("console:start", account=account.pk)
    return render_page(request, "console/account_new.html", {"form": form}, page="accounts")


def _why_not(request: HttpRequest) -> str | None:
    user: Any = request.user
    try:
        services.check_may_create_account(user)
    except services.NotAllowed as error:
        return str(error)
    return None
