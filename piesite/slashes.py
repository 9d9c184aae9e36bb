"""Slashes at the end of paths."""

from django.http import HttpRequest, HttpResponsePermanentRedirect
from django.middleware.common import CommonMiddleware

REST_API = "/api/v1"


class SlashMiddleware(CommonMiddleware):
    """Serves the paths of the REST API without the last slash too, and redirects only requests without a body.

    Django redirects every request for a path whose slash is missing. Clients then repeat a POST as a GET.
    """

    def process_request(self, request: HttpRequest) -> HttpResponsePermanentRedirect | None:
        if f"{request.path_info}/".startswith(f"{REST_API}/") and not request.path_info.endswith("/"):
            request.path_info += "/"
            request.path += "/"
        return super().process_request(request)

    def should_redirect_with_slash(self, request: HttpRequest) -> bool:
        return request.method in ("GET", "HEAD") and super().should_redirect_with_slash(request)
