"""Security headers for every page, checks of every request, and a restriction of what the hosts of clusters serve."""

from collections.abc import Callable

from django.conf import settings
from django.core.exceptions import DisallowedHost
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.http.request import split_domain_port

GetResponse = Callable[[HttpRequest], HttpResponse]


class SecurityHeaders:
    """Sets the headers for which Django has no setting.

    All pages have the same policy (W3C, Content Security Policy Level 3). They load only files of this service, nothing
    inline, and cannot be framed. Their scripts can connect only to this service, including the hosts of its clusters.
    Only static files may be cached, since other responses depend on the user and the host.
    """

    def __init__(self, get_response: GetResponse) -> None:
        self._get_response = get_response
        sockets = " ".join(
            f"{scheme}://{host}:*"
            for domain in settings.CLUSTER_DOMAINS
            for host in (domain, f"*.{domain}")
            for scheme in (["wss"] if settings.HTTPS else ["ws", "wss"])
        )
        self._headers = {
            "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; font-src 'self'; "
            f"img-src 'self' data:; connect-src 'self' {sockets}; form-action 'self'; base-uri 'none'; "
            "frame-ancestors 'none'",
            "Permissions-Policy": "camera=(), display-capture=(), geolocation=(), microphone=(), payment=(), usb=()",
            "Cache-Control": "no-store",
        }

    def __call__(self, request: HttpRequest) -> HttpResponse:
        response = self._get_response(request)
        for name, value in self._headers.items():
            response.headers.setdefault(name, value)
        return response


class Utf8Bodies:
    """Rejects requests whose bodies have another encoding than UTF-8, which forms and JSON always have.

    Django would decode a form with any codec of Python, and some raise exceptions that it does not expect.
    """

    def __init__(self, get_response: GetResponse) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        charset = (request.content_params or {}).get("charset", "utf-8")
        if charset.lower() not in ("utf-8", "utf8"):
            return JsonResponse({"detail": "The body must be encoded in UTF-8."}, status=400)
        return self._get_response(request)


class ClusterHosts:
    """Serves only the URLs of `realtime` on the hosts of clusters, which are the subdomains of the cluster domains.

    Tenants choose and publish these names. If `login.example.com` showed the real admin, it would be useful only for
    phishing, and hosts must not share cookies, saved passwords or cache entries. The admin is still served on hosts
    that ALLOWED_HOSTS lists in full.
    """

    def __init__(self, get_response: GetResponse) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        host, port = split_domain_port(request.get_host())
        if len(port) > len("65535") or int(port or 0) > 65535:
            raise DisallowedHost("The port in the Host header is not a number up to 65535.")
        suffixes = tuple(f".{domain}" for domain in settings.CLUSTER_DOMAINS)
        if host.endswith(suffixes) and host not in settings.ALLOWED_HOSTS:
            request.urlconf = "realtime.urls"
        return self._get_response(request)
