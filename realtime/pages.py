"""Plain HTTP answers of realtime: the front page, and what a socket's URL says to who is no socket."""

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.csrf import csrf_exempt


def index(request: HttpRequest) -> HttpResponse:
    return HttpResponse("")


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
