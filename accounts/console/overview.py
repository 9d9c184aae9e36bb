"""The first page of an account: how it is doing."""

from django.http import HttpResponse

from accounts.models import Account

from .access import AccountRequest, account_page
from .frame import render_page


@account_page()
def overview(request: AccountRequest, account: Account) -> HttpResponse:
    """Show an account."""
    return render_page(request, "console/overview.html", page="overview")
