"""The page on which staff change their own password: the admin's page, with the rate limits for logins."""

from django.contrib import admin, messages
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect

from . import logins


def password_change(request: HttpRequest) -> HttpResponse:
    """Show the page, or change the password unless the current password was tried too often."""
    if request.method == "POST" and (obstacle := logins.obstacle(request, request.user.get_username())):
        messages.error(request, obstacle.message)
        return HttpResponseRedirect(request.path)
    return admin.site.password_change(request)
