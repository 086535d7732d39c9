"""Simulated time: one timeline, on which all that happens lies in order, and a clock for each host."""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush
from itertools import count

from tests.unit.builders import TIME

START = 100_000.0
"""Where the timeline begins, seconds: later than the longest step of a clock."""


class Timeline:
    """What is to be done when. Nothing runs beside it, so the order is the same each time."""

    def __init__(self) -> None:
        self.now = START
        self._due: list[tuple[float, int, Callable[[], object]]] = []
        self._number = count()

    def at(self, time: float, action: Callable[[], object]) -> None:
        """Do something at a time."""
        heappush(self._due, (time, next(self._number), action))

    def after(self, seconds: float, action: Callable[[], object]) -> None:
        """Do something in a while."""
        self.at(self.now + seconds, action)

    def run_until(self, time: float, until: Callable[[], bool] | None = None) -> None:
        """Let time pass.

        An action may call it, too: whoever waits is one action, and what others do meanwhile is done inside. So of two
        that wait, the one that began first also waits for the other.

        :param until: ends it early.
        """
        while self._due and self._due[0][0] <= time:
            if until is not None and until():
                return
            due, _, action = heappop(self._due)
            self.now = max(self.now, due)
            action()
        if until is None or not until():
            self.now = max(self.now, time)


class HostClock:
    """The clocks of one host: they show different times, and its wall clock may be put forward or back."""

    def __init__(self, timeline: Timeline, *, ahead: float = 0.0, up_for: float = 0.0) -> None:
        """
        :param ahead: seconds by which the wall clock is ahead of the true time.
        :param up_for: what the monotonic clock shows besides, seconds.
        """
        self._timeline = timeline
        self.ahead = ahead
        self._up_for = up_for - START
        self.slept = 0.0
        """Seconds that its process wants to rest for before it goes on."""

    def time(self) -> float:
        return TIME + self._timeline.now + self.ahead

    def monotonic(self) -> float:
        return self._timeline.now + self._up_for

    def sleep(self, seconds: float) -> None:
        self.slept += seconds
