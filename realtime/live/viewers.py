"""A viewer of a cluster, as each node knows it: what it wants to see, and how much of it. Loop thread only."""

import math
from collections.abc import Callable, Collection, Mapping
from typing import Any, NamedTuple

CONNECT, REFUSAL, SUBSCRIPTION, MESSAGE = "connect", "refusal", "subscription", "message"
PUBLISH, CALL, CLOSE = "publish", "call", "close"
KINDS = (CONNECT, REFUSAL, SUBSCRIPTION, MESSAGE, PUBLISH, CALL, CLOSE)
"""The kinds of events."""
EVENTS_PER_SECOND = 50
"""How many events a viewer gets in a second; of more, it gets a share."""
REFUSALS_PER_SECOND = 10
"""How many refusals a viewer gets in a second, besides the other events; more are only counted."""
MAX_FILTER_LENGTH = 200
# How often the share is adapted to the rate of events, in seconds.
ADAPT_SECONDS = 1.0


class Subject(NamedTuple):
    """What the filter of a viewer is compared with."""

    channel: str
    public_key: str
    user: str
    address: str


Build = Callable[[bool], dict[str, Any]]
"""Returns an event; with the content of its message, if the argument says so."""


class Terms(NamedTuple):
    """What a viewer wants to see."""

    kinds: Collection[str] = KINDS
    text: str = ""
    """A part of the channel, key, user or address, in lower case; empty for all events."""
    keys: Collection[str] = ()
    """The public keys whose label contains the text."""
    content: bool = False
    """Whether to see the content of messages."""

    def match(self, subject: Subject) -> bool:
        """Return whether an event is within the filter."""
        text = self.text
        return not text or subject.public_key in self.keys or any(text in value.lower() for value in subject)


class Allowance:
    """How many events may pass: some in a second, and as many at once."""

    __slots__ = ("_at", "_left", "_per_second")

    def __init__(self, per_second: int, now: float) -> None:
        self._per_second = per_second
        self._left = float(per_second)
        self._at = now

    def renew(self, now: float) -> None:
        """Allow what the time since the last call has brought."""
        self._left = min(self._per_second, self._left + (now - self._at) * self._per_second)
        self._at = now

    def take(self) -> bool:
        """Return whether one more event may pass, and count it."""
        if self._left < 1:
            return False
        self._left -= 1
        return True

    @property
    def left(self) -> int:
        """How many events may pass now."""
        return int(self._left)


class Counts:
    """How much there was, whether it was shown or not."""

    __slots__ = ("all", "matched", "unshown_refusals")

    def __init__(self) -> None:
        self.all = 0
        """Events of the cluster."""
        self.matched = 0
        """Events that the viewer wants to see, without refusals."""
        self.unshown_refusals = 0

    def add(self, numbers: Mapping[str, int]) -> None:
        """Add the numbers of a batch."""
        self.all += numbers["all"]
        self.matched += numbers["matched"]
        self.unshown_refusals += numbers["unshown_refusals"]

    def take(self) -> dict[str, int]:
        """Return the numbers, and begin anew."""
        numbers = {name: getattr(self, name) for name in self.__slots__}
        self.all = self.matched = self.unshown_refusals = 0
        return numbers


class Viewer:
    """What a page shows of this node. It is filtered and sampled before an event is built."""

    __slots__ = (
        "_adapt_at",
        "_events",
        "_every",
        "_others",
        "_rate_from",
        "_refusals",
        "_until_next",
        "counts",
        "expires_at",
        "node_id",
        "terms",
    )

    def __init__(self, node_id: str, terms: Terms, now: float) -> None:
        """
        Args:
            node_id: the node that serves the page.
            terms: what to show.
            now: the time of the clock that `renew` gets, in seconds.
        """
        self.node_id = node_id
        self.terms = terms
        self.expires_at = math.inf
        self.counts = Counts()
        self._events: list[dict[str, Any]] = []
        self._others = Allowance(EVENTS_PER_SECOND, now)
        self._refusals = Allowance(REFUSALS_PER_SECOND, now)
        self._every = self._until_next = 1
        self._adapt_at = now + ADAPT_SECONDS
        self._rate_from = 0

    def offer(self, kind: str, subject: Subject, build: Build) -> None:
        """Count an event, and build it if it is one that the page shows."""
        counts, terms = self.counts, self.terms
        counts.all += 1
        if kind not in terms.kinds or not terms.match(subject):
            return
        if kind == REFUSAL:
            if self._refusals.take():
                self._events.append(build(terms.content))
            else:
                counts.unshown_refusals += 1
            return
        counts.matched += 1
        self._rate_from += 1
        self._until_next -= 1
        if self._until_next <= 0:
            self._until_next = self._every
            if self._others.take():
                self._events.append(build(terms.content))

    def take(self, now: float) -> tuple[list[dict[str, Any]], dict[str, int]] | None:
        """Return the events and the numbers since the last call; None if there were none."""
        self._others.renew(now)
        self._refusals.renew(now)
        if now >= self._adapt_at:
            self._every = max(1, math.ceil(self._rate_from / EVENTS_PER_SECOND))
            self._until_next = min(self._until_next, self._every)
            self._rate_from, self._adapt_at = 0, now + ADAPT_SECONDS
        if not self.counts.all:
            return None
        events, self._events = self._events, []
        return events, self.counts.take()
