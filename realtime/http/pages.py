"""Plain HTTP answers of realtime: the front page, and what a socket's URL says to who is no socket."""

from urllib.parse import urlsplit

from django.conf import settings
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_safe

from accounts.demo import DEMO_CLUSTER_ID, DEMO_PUBLIC_KEY
from realtime.conf import conf


@require_safe
def index(request: HttpRequest) -> HttpResponse:
    """What runs here, and a socket tester. It knows the demo key alone, which everybody does."""
    scheme = "wss" if request.is_secure() else "ws"
    # The port by which the client came, which behind a proxy is not the one that this process listens on.
    port = urlsplit(f"//{request.get_host()}").port
    context = {
        "version": settings.VERSION,
        "cluster_domains": " ".join(conf().cluster_domains),
        "demo_cluster": DEMO_CLUSTER_ID,
        "demo_key": DEMO_PUBLIC_KEY,
        "pattern": f"{scheme}://CLUSTER_ID.{conf().cluster_domains[0]}{f':{port}' if port else ''}"
        "/v3/CHANNEL_ID?api_key=API_KEY",
    }
    return render(request, "realtime/index.html", context)


@csrf_exempt
def no_channel(request: HttpRequest) -> HttpResponse:
    """`/v3/` without a channel."""
    return JsonResponse({"error": "Name a channel: connect a WebSocket to /v3/CHANNEL_ID."}, status=404)


@csrf_exempt
def upgrade_required(request: HttpRequest) -> HttpResponse:
    """A channel's URL, asked for without a WebSocket handshake (RFC 9110, section 15.5.22)."""
    return JsonResponse(
        {"error": "This is the URL of a channel; connect to it with a WebSocket client."},
        status=426,
        headers={"Upgrade": "websocket", "Connection": "Upgrade"},
    )
