"""The log-in as the owner of the demo tenant."""

from allauth.account.utils import perform_login
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.views.decorators.debug import sensitive_variables
from django.views.decorators.http import require_GET

from accounts.demo_links import owner_of

from .frame import render_page


@sensitive_variables()
@require_GET
@transaction.atomic
def log_in(request: HttpRequest, token: str) -> HttpResponse:
    """Log the reader of the link in that `serve --demo` has printed."""
    owner = owner_of(token)
    if owner is None:
        return render_page(request, "console/demo_gone.html", status=403)
    response: HttpResponse = perform_login(request, owner, redirect_url=reverse("console:home"))
    return response
