"""Command messages: texts that begin with `cmd_`, answered by the server and never distributed."""

from collections.abc import Callable
from typing import Any

from .frames import Message, system_message

PREFIX = "cmd_"
MAX_ECHOED_NAME = 64

ConnectionCount = Callable[[], int]


def _status(connection_count: ConnectionCount) -> Any:
    return {"connection_count": connection_count()}


def _ping(connection_count: ConnectionCount) -> Any:
    return "pong"


# The whole message is the name. A command returns what stands under "system" in the answer.
COMMANDS: dict[str, Callable[[ConnectionCount], Any]] = {
    "cmd_status": _status,
    "cmd_ping": _ping,
}


def answer(text: str, connection_count: ConnectionCount) -> Message:
    """The answer to a command message.

    Args:
        text: the message.
        connection_count: counts the connections to the sender's channel now.
    """
    command = COMMANDS.get(text)
    if command is None:
        return system_message({"error": f"Unknown command: {text[:MAX_ECHOED_NAME]}"})
    return system_message(command(connection_count))
