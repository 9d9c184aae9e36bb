"""Django views of the data plane: the front page, and responses to plain HTTP requests for channel URLs."""

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
    """Show what runs here, the way to the console, and a WebSocket tester with the demo key, which is public."""
    scheme = "wss" if request.is_secure() else "ws"
    # The port that the client connected to; behind a proxy, this process listens on another one.
    port = urlsplit(f"//{request.get_host()}").port
    context = {
        "show_tester": settings.SHOW_TESTER or request.user.is_authenticated,
        "version": settings.VERSION,
        "cluster_domains": " ".join(conf().cluster_domains),
        "demo_cluster": DEMO_CLUSTER_ID,
        "demo_key": DEMO_PUBLIC_KEY,
        "pattern": f"{scheme}://CLUSTER_ID.{conf().cluster_domains[0]}{f':{port}' if port else ''}"
        "/v3/CHANNEL_ID?api_key=API_KEY",
    }
    return render(request, "realtime/index.html", context)


@csrf_exempt
def no_channel(request: HttpRequest, version: str) -> HttpResponse:
    """Answer a request for `/v3/` or `/v4/` without a channel."""
    sentence = f"The channel ID is missing; connect a WebSocket to /{version}/CHANNEL_ID."
    return JsonResponse({"error": sentence}, status=404)


@csrf_exempt
def upgrade_required(request: HttpRequest) -> HttpResponse:
    """Answer a request for a channel's URL that is not a WebSocket handshake (RFC 9110, section 15.5.22)."""
    return JsonResponse(
        {"error": "This is the URL of a channel; connect to it with a WebSocket client."},
        status=426,
        headers={"Upgrade": "websocket", "Connection": "Upgrade"},
    )
