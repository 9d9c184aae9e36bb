"""The application with libraries other than it knows: it steps aside and leaves everything to ASGI."""

from typing import Any

from daphne.ws_protocol import WebSocketProtocol

_on_message = WebSocketProtocol.onMessage


def _renamed(self: Any, data: bytes, is_binary: bool) -> None:
    _on_message(self, data, is_binary)


WebSocketProtocol.onMessage = _renamed

from piesite.asgi import application as application  # noqa: E402, PLC0414
