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
from accounts.models import Account, Membership
from accounts.quotas import default_quotas
from accounts.usage import messages_today

from .access import last_used_account, memberships_of
from .figures import Connections, Figure
from .frame import render_page
from .member_forms import AccountNameForm

PER_PAGE = 50


class Row(NamedTuple):
    """An account in the list."""

    membership: Membership
    connections: int | None
    messages: int
    problems: list[tuple[str, str]]
    """What is wrong, each with its tone: "wait" or "bad"."""


@require_safe
@login_required
def home(request: HttpRequest) -> HttpResponse:
    """Redirect to the only account of the user or the last used one; else to the list of all."""
    own = memberships_of(request)
    membership = own.filter(account=last_used_account(request)).first()
    if membership is None:
        first, *others = [*own[:2], None]
        membership = first if others == [None] else None
    if membership is None:
        return redirect("console:accounts")
    return redirect("console:overview", account=membership.account_id)


@require_safe
@login_required
def accounts(request: HttpRequest) -> HttpResponse:
    """List the accounts of the user, with what they need to know about each."""
    own = memberships_of(request).annotate(sent=messages_today("account"))
    page = Paginator(own, PER_PAGE).get_page(request.GET.get("page"))
    connections = Connections([membership.account for membership in page])
    context = {
        "rows": [_row(membership, connections) for membership in page],
        "list": page,
        "may_create": _why_not(request) is None,
    }
    return render_page(request, "console/accounts.html", context, page="accounts")


def _row(membership: Any, connections: Connections) -> Row:
    account = membership.account
    count = connections.of(account)
    problems = [] if not account.suspended else [("Suspended", "bad")]
    for what, number in (("connections", count), ("messages_per_day", membership.sent)):
        figure = Figure(number, _quota(account, f"max_{what}"))
        if figure.state:
            name = "connections" if what == "connections" else "today’s messages"
            problems.append((f"{figure.percent:.0f} % of {name}", "bad" if figure.state == "full" else "wait"))
    return Row(membership, count, membership.sent, problems)


def _quota(account: Account, name: str) -> int:
    own = getattr(account, name)
    return int(default_quotas()[name] if own is None else own)


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
            return redirect(_first_page(account))
    return render_page(request, "console/account_new.html", {"form": form}, page="accounts")


def _first_page(account: Account) -> str:
    return reverse("console:overview", args=[account.pk])


def _why_not(request: HttpRequest) -> str | None:
    user: Any = request.user
    try:
        services.check_may_create_account(user)
    except services.NotAllowed as error:
        return str(error)
    return None
