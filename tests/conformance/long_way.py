"""The application without its fast path for reading: Autobahn parses every frame."""

from piesite.asgi import application as application  # noqa: PLC0414  (Daphne imports it from here)
from realtime.server.websocket import ServerProtocol


def _take_nothing(self: ServerProtocol, data: bytes, position: int, sink: object) -> int:
    return position


ServerProtocol._take_messages = _take_nothing  # type: ignore[method-assign]
