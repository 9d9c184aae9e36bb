"""What this project is measured against on the same daphne: Channels as in its tutorial, and as good as nothing."""

import os
from typing import Any

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "piesite.settings")

from channels.generic.websocket import AsyncWebsocketConsumer
from channels.routing import ProtocolTypeRouter
from django.core.asgi import get_asgi_application

http_application = get_asgi_application()


class TutorialConsumer(AsyncWebsocketConsumer):  # type: ignore[misc]
    """The chat consumer of Channels' tutorial: each connection a mailbox, each message a group_send."""

    async def connect(self) -> None:
        self.group = "chat_" + self.scope["path"].rpartition("/")[2]
        await self.channel_layer.group_add(self.group, self.channel_name)
        await self.accept()

    async def disconnect(self, code: int) -> None:
        await self.channel_layer.group_discard(self.group, self.channel_name)

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        await self.channel_layer.group_send(self.group, {"type": "chat.message", "message": text_data})

    async def chat_message(self, event: dict[str, Any]) -> None:
        await self.send(text_data=event["message"])


class EmptyConsumer(AsyncWebsocketConsumer):  # type: ignore[misc]
    """Accepts, and does nothing else: not even a mailbox on the channel layer."""

    channel_layer_alias = "none"


tutorial = ProtocolTypeRouter({"http": http_application, "websocket": TutorialConsumer.as_asgi()})
empty = ProtocolTypeRouter({"http": http_application, "websocket": EmptyConsumer.as_asgi()})
