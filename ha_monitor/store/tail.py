"""What the whole fleet announces, as it happens: the port for watchers.

Instances add what they announce to the tail only while somebody watches: each reader renews a request, which expires
some seconds after the last reader is gone. The tail is kept long enough for a reader to fetch it, and bounded; what a
reader was too late for is returned to it as a gap.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple, Protocol

from ha_monitor.store.outbox import Entry

WANTED_FOR = 30
"""Seconds after which a request expires."""
RENEWED_EVERY = 5.0
MAX_MISSING = 10_000_000
"""Announcements that may be missing at once: a larger number is from a store that has lost the count."""
REMEMBERED = 50_000
"""Events whose ids a reader remembers, so that none is shown twice."""


class TailEvent(NamedTuple):
    """One announcement."""

    entry: Entry
    at: float
    """When it was put into an outbox, by the store's clock: seconds since the epoch."""
    who: Mapping[str, Any]
    """The instance with that outbox; empty if it is no longer known."""


class TailGap(NamedTuple):
    """Announcements for which the reader was too late."""

    since: float
    """When the last announcement before the gap was read, seconds since the epoch; 0 if there was none."""
    until: float
    missing: int | None
    """How many; None if that is not known."""


class Tail(Protocol):
    """One reader. Each method raises `StoreUnavailable`; the reader can continue with the next call once the store is
    available again.
    """

    def begin(self) -> None:
        """Start with what comes from now on."""

    def resume(self, cursor: str) -> None:
        """Continue where another reader was, or this one before.

        :raises ValueError: if it is not a cursor.
        """

    @property
    def cursor(self) -> str:
        """The position of this reader: after everything that `read` has returned."""

    def read(self, within: float) -> list[TailEvent | TailGap]:
        """What came since the last call, in its order; empty if nothing comes within so many seconds. Call it again and
        again: otherwise the request expires.
        """


class GapDetector:
    """Detects what is missing in a tail, and what has come before."""

    def __init__(self) -> None:
        self.last: int | None = None
        """The count of announcements up to the last one that was read; None if that is not known yet."""
        self.at = 0.0
        """When that one was added, seconds since the epoch."""
        self._seen: dict[str, None] = {}

    def gap(self, upto: int, count: int, at: float) -> TailGap | None:
        """What is missing before some new announcements.

        :param upto: the count up to the last of them.
        :param count: how many they are.
        :param at: when they were added.
        """
        missing = 0 if self.last is None else upto - count - self.last
        since, self.last, self.at = self.at, upto, at
        if missing == 0:
            return None
        return TailGap(since, at, missing if 0 < missing <= MAX_MISSING else None)

    def unseen(self, entries: Iterable[Entry]) -> list[Entry]:
        """The entries that have not come before."""
        new = []
        for entry in entries:
            if entry.event.id not in self._seen:
                self._seen[entry.event.id] = None
                new.append(entry)
        while len(self._seen) > REMEMBERED:
            del self._seen[next(iter(self._seen))]
        return new
