"""What an instance has merged and announced lately, which a store that went back gets again.

A store that goes back to an earlier state (`lua/rollback.lua`) loses what it had confirmed. The broker has that no more
either: it was acknowledged when its lines were out, and an end that waited for its name in the record is in nobody's
hands. So each instance keeps what it merged, as it was packed for that, and the ids of what it announced, and hands
both over again. The ids come first: what was announced is then left out of every outbox.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Generic, NamedTuple, TypeVar

from ha_monitor.clock import Clock

LONGEST = 150.0
"""Seconds for which it is kept: longer than anything waits in a record (`lua/tick.lua`)."""
MOST_BYTES = 32 * 1024 * 1024
"""Bytes of it: some seconds at the highest rate, and a fail-over is noticed in less."""
IDS_AT_ONCE = 1000
"""Ids that one call hands over."""

Work = TypeVar("Work")
"""What one call has merged."""


class _Kept(NamedTuple, Generic[Work]):
    at: float
    """By the monotonic clock."""
    size: int
    """Bytes, roughly."""
    ids: str
    """Of events that were announced, with a space between them: many small texts would take three times as much."""
    work: Work | None


class RecentWork(Generic[Work]):
    """The one owner of it. Nothing here asks the store."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._kept: deque[_Kept[Work]] = deque()
        self._size = 0
        self._known = 0
        self._ids: deque[Sequence[str]] = deque()
        self._lost: deque[Work] = deque()

    def merged(self, work: Work, size: int) -> None:
        """A call has returned that merged something. :param size: of it, in bytes."""
        self._keep(_Kept(self._clock.monotonic(), size, "", work))

    def announced(self, ids: Sequence[str]) -> None:
        """Events are announced. :param ids: theirs."""
        if joined := " ".join(ids):
            self._keep(_Kept(self._clock.monotonic(), len(joined), joined, None))

    def store_went_back(self, at: int) -> None:
        """The store is known to have gone back.

        :param at: when that was noticed last, ms since the epoch; 0 if never.
        """
        if at <= self._known:
            return
        self._known = at
        ids = [one for kept in self._kept for one in kept.ids.split()]
        self._ids = deque(ids[first : first + IDS_AT_ONCE] for first in range(0, len(ids), IDS_AT_ONCE))
        self._lost = deque(kept.work for kept in self._kept if kept.work is not None)

    @property
    def is_lost(self) -> bool:
        """Whether the store is yet to get something of it again."""
        return bool(self._ids or self._lost)

    def hand_over(self, note: Callable[[Sequence[str]], object], merge: Callable[[Work], Work | None]) -> None:
        """Hand over a part of what is lost; what raises is handed over again.

        :param note: is given ids of what was announced, before anything is merged.
        :param merge: is given what one call had merged, and returns what is left of it, or None.
        """
        if self._ids:
            note(self._ids[0])
            self._ids.popleft()
        elif self._lost:
            left = merge(self._lost[0])
            if left is None:
                self._lost.popleft()
            else:
                self._lost[0] = left

    def _keep(self, kept: _Kept[Work]) -> None:
        self._kept.append(kept)
        self._size += kept.size
        oldest = kept.at - LONGEST
        while self._size > MOST_BYTES or self._kept[0].at < oldest:
            self._size -= self._kept.popleft().size
