"""What the whole fleet announces, as it does: the port of those who look.

Instances put what they announce into the tail only while somebody looks: a wish that each reader renews, and that ends
by itself some seconds after the last one is gone. It is kept for as long as a reader needs to fetch it, and bounded;
what a reader came too late for, it is told as a gap.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple, Protocol

from ha_monitor.store.outbox import Entry

WANTED_FOR = 30
"""Seconds for which a wish is kept."""
RENEWED_EVERY = 5.0
MOST_MISSING = 10_000_000
"""Announcements that may be missing at once: what says more, is from a store that has forgotten how many there were."""
REMEMBERED = 50_000
"""Events whose ids a reader remembers, so that none is shown twice."""


class TailEvent(NamedTuple):
    """One announcement."""

    entry: Entry
    at: float
    """When it was put into an outbox, by the clock of the store: seconds since the epoch."""
    who: Mapping[str, Any]
    """The instance whose outbox that was; empty if it is not known any more."""


class TailGap(NamedTuple):
    """Announcements that the reader came too late for."""

    since: float
    """When the last one was that was read before it, seconds since the epoch; 0 if none was."""
    until: float
    missing: int | None
    """How many; None if that is not known."""


class Tail(Protocol):
    """One reader. Each method raises `StoreUnavailable`; it can go on with the next call then, once the store is there
    again.
    """

    def begin(self) -> None:
        """Look from now on."""

    def resume(self, cursor: str) -> None:
        """Go on where another reader was, or before.

        :raises ValueError: if it is no cursor.
        """

    @property
    def cursor(self) -> str:
        """Where this one is: behind all that `read` has returned."""

    def read(self, within: float) -> list[TailEvent | TailGap]:
        """What came since the last call, in its order; empty if nothing comes within so many seconds. Call it again and
        again: else the wish ends.
        """


class Counted:
    """Sees what is missing in a tail, and what has come before."""

    def __init__(self) -> None:
        self.last: int | None = None
        """How many announcements there were up to the last that was read; None if that is not known yet."""
        self.at = 0.0
        """When that was put there, seconds since the epoch."""
        self._seen: dict[str, None] = {}

    def gap(self, upto: int, count: int, at: float) -> TailGap | None:
        """What is missing before some that came.

        :param upto: how many there were up to the last of them.
        :param count: how many these are.
        :param at: when they were put there.
        """
        missing = 0 if self.last is None else upto - count - self.last
        since, self.last, self.at = self.at, upto, at
        if missing == 0:
            return None
        return TailGap(since, at, missing if 0 < missing <= MOST_MISSING else None)

    def unseen(self, entries: Iterable[Entry]) -> list[Entry]:
        """Those that did not come before."""
        new = []
        for entry in entries:
            if entry.event.id not in self._seen:
                self._seen[entry.event.id] = None
                new.append(entry)
        while len(self._seen) > REMEMBERED:
            del self._seen[next(iter(self._seen))]
        return new
