"""The server's own events, and which of them clients may send to each other."""

import json

# What PieSocket's video portals exchange between clients.
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


def is_forged(text: str) -> bool:
    """Whether a client's message pretends to be an event of the server.

    Ordinary messages pay for two substring searches. A letter of `system:` can hide only behind a `\\u` escape, so a
    text with neither is not parsed.
    """
    if "system:" not in text and "\\u" not in text:
        return False
    try:
        # As lenient as any client's parser may be. Objects become tuples of pairs, so that of a repeated `event` each
        # is seen; numbers stay strings, since Python refuses to convert very long ones.
        content = json.loads(
            text, strict=False, object_pairs_hook=tuple, parse_int=str, parse_float=str, parse_constant=str
        )
    except RecursionError:
        return True  # too deep to look into for us, perhaps not for the receiver
    except ValueError:
        return False  # no JSON
    if not isinstance(content, tuple):
        return False
    return any(
        name == "event" and isinstance(value, str) and value.startswith("system:") and value not in RELAYED
        for name, value in content
    )
