"""Command messages: text messages that begin with `cmd_`. The server answers them and never distributes them."""

from collections.abc import Callable
from typing import Any

from realtime.protocols.frames import Message, system_message

PREFIX = "cmd_"
MAX_ECHOED_NAME = 64

Reply = Callable[[Any], None]
"""Sends an answer to the client: `{"system": argument}`."""
Count = Callable[[Callable[[int], None]], None]
"""Counts the connections to the sender's channel on all nodes, and calls its argument with the number."""


def _status(count: Count, reply: Reply) -> None:
    count(lambda connections: reply({"connection_count": connections}))


def _ping(count: Count, reply: Reply) -> None:
    reply("pong")


# A command is recognized only if it is the whole message.
COMMANDS: dict[str, Callable[[Count, Reply], None]] = {
    "cmd_status": _status,
    "cmd_ping": _ping,
}


def answer(text: str, count: Count, send: Callable[[Message], None]) -> None:
    """Answer a command message, immediately or as soon as the answer is known.

    Args:
        text: the message.
        count: counts the connections to the sender's channel.
        send: sends a message to the sender only.
    """

    def reply(content: Any) -> None:
        send(system_message(content))

    command = COMMANDS.get(text)
    if command is None:
        reply({"error": f"Unknown command: {text[:MAX_ECHOED_NAME]}"})
    else:
        command(count, reply)
