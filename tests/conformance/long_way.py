"""The application without its short way of reading: Autobahn reads every frame."""

from piesite.asgi import application as application  # noqa: PLC0414  (to be found here)
from realtime.server.websocket import ServerProtocol


def _take_nothing(self: ServerProtocol, data: bytes, position: int, sink: object) -> int:
    return position


ServerProtocol._take_messages = _take_nothing  # type: ignore[method-assign]
