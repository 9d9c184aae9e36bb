"""Command messages: texts that begin with `cmd_`, answered by the server and never distributed."""

from collections.abc import Callable
from typing import Any

from realtime.protocols.frames import Message, system_message

PREFIX = "cmd_"
MAX_ECHOED_NAME = 64

Reply = Callable[[Any], None]
"""Answers the client; takes what stands under "system" in the answer."""
Count = Callable[[Callable[[int], None]], None]
"""Counts the connections to the sender's channel on all nodes, and passes the number on."""


def _status(count: Count, reply: Reply) -> None:
    count(lambda connections: reply({"connection_count": connections}))


def _ping(count: Count, reply: Reply) -> None:
    reply("pong")


# The whole message is the name.
COMMANDS: dict[str, Callable[[Count, Reply], None]] = {
    "cmd_status": _status,
    "cmd_ping": _ping,
}


def answer(text: str, count: Count, send: Callable[[Message], None]) -> None:
    """Answer a command message, at once or as soon as what is asked for is known.

    Args:
        text: the message.
        count: counts the connections to the sender's channel.
        send: sends to the sender alone.
    """

    def reply(content: Any) -> None:
        send(system_message(content))

    command = COMMANDS.get(text)
    if command is None:
        reply({"error": f"Unknown command: {text[:MAX_ECHOED_NAME]}"})
    else:
        command(count, reply)
