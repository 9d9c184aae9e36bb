"""The application with a library version that it does not know: it installs nothing and uses plain ASGI."""

from typing import Any

from daphne.ws_protocol import WebSocketProtocol

_on_message = WebSocketProtocol.onMessage


def _renamed(self: Any, data: bytes, is_binary: bool) -> None:
    _on_message(self, data, is_binary)


WebSocketProtocol.onMessage = _renamed

from piesite.asgi import application as application  # noqa: E402, PLC0414
