"""Which protocol a handshake is for."""

from collections.abc import Mapping
from typing import Any

from realtime.sessions.base import Session
from realtime.sessions.piesocket_v3 import PieSocketV3


def session_type(scope: Mapping[str, Any]) -> type[Session]:
    """Return the protocol of a handshake."""
    return PieSocketV3
