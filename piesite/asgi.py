"""The ASGI application: HTTP to Django, sockets to realtime."""

import os

from channels.routing import ProtocolTypeRouter
from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "piesite.settings")
http_application = get_asgi_application()

from realtime.routing import websocket_application  # noqa: E402  (needs the apps that the line above loads)

application = ProtocolTypeRouter({"http": http_application, "websocket": websocket_application})
