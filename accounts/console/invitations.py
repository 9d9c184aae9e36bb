"""The page to which the link of an invitation leads."""

from typing import Any

from django.contrib import messages
from django.core.exceptions import ValidationError
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.views.decorators.debug import sensitive_variables
from django.views.decorators.http import require_http_methods

from accounts import services
from accounts.allauth_adapter import takes_invited
from accounts.locks import Refused, sentence
from accounts.models import Invitation

from .frame import render_page


@sensitive_variables()
@require_http_methods(["GET", "HEAD", "POST"])
def invitation(request: HttpRequest, token: str) -> HttpResponse:
    """Show an invitation, and let the invited person accept or decline it."""
    found = Invitation.objects.with_token(token).select_related("account").first()
    if found is None:
        return render_page(request, "console/invitation_gone.html", status=404)
    user: Any = request.user
    is_invited = user.is_authenticated and user.email == found.email
    if request.method == "POST" and is_invited:
        return _answer(request, found, token)
    context = {"invitation": found, "is_invited": is_invited, "can_sign_up": takes_invited()}
    return render_page(request, "console/invitation.html", context)


@sensitive_variables()
def _answer(request: HttpRequest, found: Invitation, token: str) -> HttpResponse:
    user: Any = request.user
    try:
        if request.POST.get("answer") == "decline":
            services.decline_invitation(found, user, token=token)
            messages.success(request, "Invitation declined.")
            return redirect("console:home")
        membership = services.accept_invitation(found, user, token=token)
    except (Refused, ValidationError) as error:
        messages.error(request, sentence(error))
        return redirect(request.path)
    messages.success(request, f"You have joined {found.account}.")
    return redirect("console:overview", account=membership.account_id)
