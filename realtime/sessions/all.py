"""Which protocol a handshake is for."""

from collections.abc import Mapping
from typing import Any

from realtime.base.asgi import sent_path
from realtime.protocols.handshake import V4
from realtime.protocols.pusher_handshake import is_for_pusher
from realtime.sessions.base import Session
from realtime.sessions.piesocket_v3 import PieSocketV3
from realtime.sessions.piesocket_v4 import PieSocketV4
from realtime.sessions.pusher import Pusher


def session_type(scope: Mapping[str, Any]) -> type[Session]:
    """Return the protocol of a handshake, by its path. Paths of no protocol are refused by PieSocket v3.

    Args:
        scope: the ASGI scope of the handshake.
    """
    path = sent_path(scope)
    if path.startswith(V4):
        return PieSocketV4
    return Pusher if is_for_pusher(path) else PieSocketV3
