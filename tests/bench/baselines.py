"""Baselines on the same daphne as this project: the consumer of the Channels tutorial, and an empty consumer."""

import os
from typing import Any

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "piesite.settings")

from channels.generic.websocket import AsyncWebsocketConsumer
from channels.routing import ProtocolTypeRouter
from django.core.asgi import get_asgi_application

http_application = get_asgi_application()


class TutorialConsumer(AsyncWebsocketConsumer):  # type: ignore[misc]
    """The chat consumer of the Channels tutorial: every connection has a channel, every message is a group_send."""

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
    """Accepts connections and does nothing else; it does not even have a channel on the channel layer."""

    channel_layer_alias = "none"


tutorial = ProtocolTypeRouter({"http": http_application, "websocket": TutorialConsumer.as_asgi()})
empty = ProtocolTypeRouter({"http": http_application, "websocket": EmptyConsumer.as_asgi()})
