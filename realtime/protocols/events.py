"""Events whose names are reserved for servers, and the exceptions that clients may send to each other."""

import json
from typing import Any

# Clients of PieSocket's video portals send these to each other.
RELAYED = frozenset(
    f"system:{name}"
    for name in (
        "portal_broadcaster",
        "portal_watcher",
        "portal_candidate",
        "video_request",
        "video_offer",
        "video_answer",
        "stopped_screen",
    )
)

_BRACE = ord("{")


def is_forged(message: str | bytes) -> bool:
    """Return whether a client's message, text or binary, pretends to be an event from the server.

    A message is parsed only if it contains a brace, and also `system:` or a `\\u` escape that can hide a letter of it.
    For others, the check costs up to three searches.
    """
    if isinstance(message, str):
        return "{" in message and ("system:" in message or "\\u" in message) and _is_forged_json(message)
    # In bytes, Python finds a number ten times as fast as bytes, and `find` is twice as fast as `in`.
    if _BRACE not in message or (message.find(b"system:") < 0 and message.find(b"\\u") < 0):
        return False
    try:
        # As the TextDecoder of browsers reads it, which drops a byte order mark.
        return _is_forged_json(message.decode("utf-8-sig"))
    except UnicodeDecodeError:
        return False


def is_object(text: str) -> bool:
    """Return whether some receiver's parser may read a text as a JSON object."""
    try:
        return isinstance(_parse(text), tuple)
    except RecursionError:
        return True  # nested too deeply for this parser, but perhaps not for the receiver's
    except ValueError:
        return False


def _parse(text: str) -> Any:
    """Parse JSON as leniently as any client might.

    Objects become tuples of pairs, which keep every `event` if there are several. Numbers stay strings, since Python
    refuses to convert very long ones.
    """
    return json.loads(text, strict=False, object_pairs_hook=tuple, parse_int=str, parse_float=str, parse_constant=str)


def _is_forged_json(text: str) -> bool:
    try:
        content = _parse(text)
    except RecursionError:
        return True  # nested too deeply for this parser, but perhaps not for the receiver's
    except ValueError:
        return False  # not JSON
    if not isinstance(content, tuple):
        return False
    return any(
        name == "event" and isinstance(value, str) and value.startswith("system:") and value not in RELAYED
        for name, value in content
    )
