"""The first page of an account: how it is doing."""

from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect

from accounts.models import Account

from .access import AccountRequest, account_page, memberships_of
from .frame import render_page


@login_required
def home(request: HttpRequest) -> HttpResponse:
    """Redirect to the user's first account."""
    membership = memberships_of(request).first()
    if membership is None:
        return render_page(request, "console/no_account.html")
    return redirect("console:overview", account=membership.account_id)


@account_page()
def overview(request: AccountRequest, account: Account) -> HttpResponse:
    """Show an account."""
    return render_page(request, "console/overview.html", page="overview")
