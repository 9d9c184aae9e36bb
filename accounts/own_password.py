"""The page on which staff change their own password: the admin's page, with the rate limits for logins."""

from django.contrib import admin, messages
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from redis.exceptions import RedisError

from . import logins


def password_change(request: HttpRequest) -> HttpResponse:
    """Show the page, or change the password unless the current password was tried too often."""
    if request.method == "POST" and (obstacle := _obstacle(request)):
        messages.error(request, obstacle)
        return HttpResponseRedirect(request.path)
    return admin.site.password_change(request)


def _obstacle(request: HttpRequest) -> str | None:
    try:
        seconds = logins.seconds_to_wait(request, request.user.get_username())
    except RedisError:
        return logins.UNAVAILABLE
    return logins.too_many_attempts(seconds) if seconds else None
