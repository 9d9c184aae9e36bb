"""What browsers are told to do with every page, and what the hosts of clusters do not serve."""

from collections.abc import Callable

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.http.request import split_domain_port

GetResponse = Callable[[HttpRequest], HttpResponse]


class SecurityHeaders:
    """Sets the headers that Django has no setting for.

    One policy is for all pages (W3C, Content Security Policy Level 3): what they load comes from here, nothing of it is
    inline, nobody frames them, and scripts talk to this service alone, on the hosts of its clusters too. Nothing may be
    stored on the way but static files, since the person and the host that asked are in what they get.
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


class ClusterHosts:
    """Serves sockets and their tester on the hosts of clusters, which are all below a cluster domain, and nothing else.

    Tenants choose these names and publish them. A `login.example.com` that shows the real admin is good for phishing
    alone, and what holds of the pages of one host (cookies, stored passwords, a cache's entries) is not to hold of all.
    A host that ALLOWED_HOSTS names in full is one for the admin.
    """

    def __init__(self, get_response: GetResponse) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        host, _ = split_domain_port(request.get_host())
        below = tuple(f".{domain}" for domain in settings.CLUSTER_DOMAINS)
        if host.endswith(below) and host not in settings.ALLOWED_HOSTS:
            request.urlconf = "realtime.urls"
        return self._get_response(request)
