"""Second factors: who has one, who must have one, and what people cannot do until they do."""

from collections.abc import Callable
from typing import Any

from allauth.mfa.adapter import get_adapter
from django.conf import settings
from django.contrib import messages
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import redirect

# Where people without the second factor that they must have can still go: to where they set it up, and log out.
_ALLOWED = ("/console/you/", "/static/")
_API = "/api/"
MISSING = "Staff need a second factor. Set up an authenticator app or a passkey first."
ONLY_IN_CONSOLE = (
    "This user has, or must have, a second factor, which this request cannot check. Create a token in the console, "
    "under API tokens."
)


def has_second_factor(user: Any) -> bool:
    """Return whether a password is not enough to log in as this user."""
    return bool(get_adapter().is_mfa_enabled(user))


def must_have_second_factor(user: Any) -> bool:
    """Return whether the user must have a second factor."""
    return bool(settings.STAFF_NEED_SECOND_FACTOR and user.is_staff)


def lacks_second_factor(user: Any) -> bool:
    """Return whether the user must have a second factor and has none, and can therefore do nothing else."""
    return must_have_second_factor(user) and not has_second_factor(user)


class SecondFactorMiddleware:
    """Leads users who lack the second factor that they must have to where they set it up."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        if (
            settings.STAFF_NEED_SECOND_FACTOR
            and not request.path.startswith(_ALLOWED)
            and lacks_second_factor(request.user)
        ):
            if request.path.startswith(_API):
                return JsonResponse({"detail": MISSING}, status=403)
            messages.warning(request, MISSING)
            return redirect("mfa_index")
        return self._get_response(request)
