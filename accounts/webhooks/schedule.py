"""When a delivery is tried again, and what becomes of an endpoint that fails. Plain values, no database."""

import random
from datetime import timedelta

_SECONDS = (1, 5, 30, 2 * 60, 5 * 60, 30 * 60, 2 * 3600, 5 * 3600, 10 * 3600, 10 * 3600)
DELAYS = tuple(timedelta(seconds=seconds) for seconds in _SECONDS)
"""The pauses between the attempts of a delivery, without jitter."""
JITTER = 0.2
MAX_RETRY_AFTER = timedelta(hours=10)
"""The longest pause that a receiver can ask for."""
PROBE_AFTER = 5
"""After how many failures in a row an endpoint gets only one request a minute."""
PROBE_EVERY = timedelta(minutes=1)
DISABLE_AFTER = timedelta(days=5)
"""How long an endpoint may fail before it is switched off."""
GONE = 410
"""The status with which a receiver asks to be switched off."""


def next_pause(tries: int, retry_after: float) -> timedelta | None:
    """Return how long to wait after a failure; None if the delivery has failed for good.

    Args:
        tries: how often the delivery was tried.
        retry_after: how long the receiver asks to wait, in seconds.
    """
    if tries > len(DELAYS):
        return None
    pause = DELAYS[tries - 1] * random.uniform(1 - JITTER, 1 + JITTER)  # noqa: S311  (no secret)
    return max(pause, min(timedelta(seconds=retry_after), MAX_RETRY_AFTER))
