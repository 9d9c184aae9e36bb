"""The page where people see and change how they log in: password, second factors and sessions."""

from typing import Any

from allauth.mfa.models import Authenticator
from allauth.mfa.webauthn.views import login_webauthn
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import get_object_or_404, redirect
from django.views.decorators.http import require_POST
from redis.exceptions import RedisError

from accounts import attempts
from accounts.logins import client_network
from accounts.second_factors import lacks_second_factor, must_have_second_factor
from accounts.sessions import sessions_of

from .browsers import browser_name
from .frame import render_page


@login_required
def security(request: HttpRequest) -> HttpResponse:
    """Show how the user logs in, and where they are logged in."""
    user: Any = request.user
    factors = Authenticator.objects.filter(user=user).order_by("pk")
    by_type = {factor.type: factor for factor in factors}
    codes = by_type.get(Authenticator.Type.RECOVERY_CODES)
    context = {
        "app": by_type.get(Authenticator.Type.TOTP),
        "passkeys": [factor for factor in factors if factor.type == Authenticator.Type.WEBAUTHN],
        "codes_left": len(codes.wrap().get_unused_codes()) if codes else None,
        "needs_second_factor": must_have_second_factor(user),
        "lacks_second_factor": lacks_second_factor(user),
        "sessions": [(session, browser_name(session.user_agent)) for session in sessions_of(user)],
        "current": request.session.session_key,
    }
    return render_page(request, "console/you/security.html", context, page="security")


@login_required
@require_POST
def end_session(request: HttpRequest, pk: int) -> HttpResponse:
    """End one of the user's other sessions."""
    user: Any = request.user
    get_object_or_404(sessions_of(user).exclude(session_key=request.session.session_key), pk=pk).end()
    messages.success(request, "Session ended.")
    return redirect("console:security")


@login_required
@require_POST
def end_other_sessions(request: HttpRequest) -> HttpResponse:
    """End all of the user's sessions but this one."""
    user: Any = request.user
    for session in sessions_of(user).exclude(session_key=request.session.session_key):
        session.end()
    messages.success(request, "All other sessions ended.")
    return redirect("console:security")


def limited_passkey_login(request: HttpRequest) -> HttpResponse:
    """Log in with a passkey. The attempts of a network are limited, because each begins a session."""
    try:
        seconds = attempts.attempt(attempts.PASSKEY_LOGINS, client_network(request))
    except RedisError:
        return JsonResponse({"detail": "Redis is unavailable. Try again later."}, status=503)
    if seconds:
        return JsonResponse({"detail": f"Too many attempts. Try again in {seconds} seconds."}, status=429)
    response: HttpResponse = login_webauthn(request)
    return response
