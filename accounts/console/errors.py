"""The pages that say why there is no other page. Programs get the same as JSON."""

import logging
import secrets

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.template.loader import render_to_string

from .site import site

logger = logging.getLogger(__name__)

_ADMIN, _API, _CONSOLE = "/admin/", "/api/", "/console/"


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Answer a request that no page of this service sends (400)."""
    return _answer(request, 400, "This request cannot be read", "Reload the page that you came from, and try again.")


def permission_denied(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Answer a request that the user may not make (403)."""
    return _answer(request, 403, "You cannot do this", "Your permissions do not allow it.")


def csrf_failure(request: HttpRequest, reason: str = "") -> HttpResponse:
    """Answer a form that does not come from a page of this service, or from an old one (403)."""
    sentence = "Go back, reload the page, and send the form again. Your browser must accept cookies of this site."
    return _answer(request, 403, "This form has expired", sentence)


def not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Answer a request for a page that does not exist, or not for this user (404)."""
    in_console = request.path.startswith(_CONSOLE)
    sentence = "It was deleted, or it belongs to an account that you are not a member of."
    return _answer(request, 404, "This page does not exist", sentence if in_console else "Check the address.")


def server_error(request: HttpRequest) -> HttpResponse:
    """Answer a request that has failed (500), with a number by which support finds the traceback in the log.

    It asks neither the session nor the database, which may be what has failed.
    """
    number = secrets.token_hex(4)
    number = f"{number[:4]}-{number[4:]}"
    page = request.resolver_match.route if request.resolver_match else "no page"
    logger.error("Error %s in %s; the next line has the traceback.", number, page)
    heading, sentence = "Something went wrong on our side", "Nothing was changed."
    if request.path.startswith(_API):
        return JsonResponse({"detail": f"{heading}. {sentence} The number of this error is {number}."}, status=500)
    context = {**site(request), "heading": heading, "sentence": sentence, "number": number}
    return HttpResponse(render_to_string("console/error.html", context), status=500)


def _answer(request: HttpRequest, status: int, heading: str, sentence: str) -> HttpResponse:
    if request.path.startswith(_API):
        return JsonResponse({"detail": f"{heading}. {sentence}"}, status=status)
    places = {"in_console": request.path.startswith(_CONSOLE), "in_admin": request.path.startswith(_ADMIN)}
    context = {"heading": heading, "sentence": sentence, **places}
    return HttpResponse(render_to_string("console/error.html", context, request), status=status)
