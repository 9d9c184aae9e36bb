"""The ASGI application: HTTP goes to Django, WebSockets go to `realtime`."""

import os

from channels.routing import ProtocolTypeRouter
from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "piesite.settings")
http_application = get_asgi_application()

from realtime.http.cluster_api import ClusterApi  # noqa: E402  (needs the apps, which the line above loads)
from realtime.http.django_limits import DjangoLimits  # noqa: E402
from realtime.http.health import Health  # noqa: E402
from realtime.http.pusher_api import PusherApi  # noqa: E402
from realtime.live_stream import LiveStream  # noqa: E402
from realtime.routing import websocket_application  # noqa: E402

application = ProtocolTypeRouter(
    {
        "http": Health(ClusterApi(PusherApi(DjangoLimits(http_application)))),
        "websocket": LiveStream(websocket_application),
    }
)
