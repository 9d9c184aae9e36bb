"""Which parties publish so often that their messages are gathered before they go out. No I/O."""

from collections import Counter
from collections.abc import Hashable

# A party is fast while it publishes this many messages within this time, in seconds.
FAST_MESSAGES = 8
FAST_SECONDS = 0.002


class Pace:
    """Counts the messages of each party in short periods: who was fast in one is taken to be fast in the next."""

    def __init__(self) -> None:
        self._counts: Counter[Hashable] = Counter()
        self._fast: set[Hashable] = set()
        self._began_at = 0.0

    def note(self, party: Hashable) -> bool:
        """Count a message; return whether its party is fast."""
        self._counts[party] += 1
        return party in self._fast

    def advance(self, now: float) -> None:
        """Begin the next period if the current one is over.

        Args:
            now: the time, in seconds.
        """
        passed = now - self._began_at
        if passed < FAST_SECONDS:
            return
        # After a longer time, the counts say nothing about the last moments.
        is_recent = passed < 2 * FAST_SECONDS
        self._fast = {party for party, count in self._counts.items() if count >= FAST_MESSAGES} if is_recent else set()
        self._counts.clear()
        self._began_at = now
