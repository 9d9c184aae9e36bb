"""Pages of a person's own tokens of the REST API."""

from typing import Any

from django.conf import settings
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.views.decorators.debug import sensitive_variables
from django.views.decorators.http import require_POST, require_safe

from accounts import shown_once
from accounts.models import ApiToken
from accounts.tokens import LoginOutdated, create_token, end_token, valid_tokens

from .frame import render_page
from .member_forms import TokenForm


@require_safe
@login_required
def tokens(request: HttpRequest) -> HttpResponse:
    """List the user's tokens, newest first, without the tokens themselves."""
    own = valid_tokens().filter(user=request.user.pk).order_by("-created")
    return render_page(request, "console/tokens.html", {"tokens": own}, page="tokens")


@sensitive_variables()
@login_required
def new(request: HttpRequest) -> HttpResponse:
    """Create a token, which the next page shows."""
    form = TokenForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        user: Any = request.user
        try:
            token, text = create_token(user, form.cleaned_data["name"])
        except LoginOutdated:  # the password was changed meanwhile, which has ended this session too
            return redirect("console:tokens")
        shown_once.keep(request.session, _name_of(token.token_key), text)
        messages.success(request, "Token created.")
        return redirect("console:new_token", token_key=token.token_key)
    limit = settings.API_TOKENS_PER_USER
    is_full = valid_tokens().filter(user=request.user.pk).count() >= limit
    context = {"form": form, "limit": limit if is_full else None}
    return render_page(request, "console/token_create.html", context, page="tokens")


@sensitive_variables()
@require_safe
@login_required
def show(request: HttpRequest, token_key: str) -> HttpResponse:
    """Show a new token once."""
    token = _find(request, token_key)
    context = {"token": token, "text": shown_once.take(request.session, _name_of(token_key))}
    return render_page(request, "console/token.html", context, page="tokens")


@require_POST
@login_required
def revoke(request: HttpRequest, token_key: str) -> HttpResponse:
    """Revoke a token."""
    end_token(_find(request, token_key))
    messages.success(request, "Token revoked.")
    return redirect("console:tokens")


def _find(request: HttpRequest, token_key: str) -> ApiToken:
    token: ApiToken | None = valid_tokens().filter(user=request.user.pk, token_key=token_key).first()
    if token is None:
        raise Http404
    return token


def _name_of(token_key: str) -> str:
    return f"token-{token_key}"
