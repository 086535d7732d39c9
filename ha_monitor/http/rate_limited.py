"""Rate-limited log lines, for events that any client on the network can cause at will."""

from __future__ import annotations

from collections.abc import Callable

from ha_monitor.clock import Clock
from ha_monitor.schedule import Schedule

PAUSE = 60.0
"""Seconds between two lines."""


class RateLimited:
    """Reports the first occurrence at once, and further ones at most once per pause, with their number."""

    def __init__(self, clock: Clock, say: Callable[[str, int], None]) -> None:
        """:param say: called with the latest text, and the number of occurrences since the last line."""
        self._line = Schedule(clock, PAUSE)
        self._say = say
        self._times = 0

    def report(self, text: str) -> None:
        """Count one occurrence, and write a line if one is due."""
        self._times += 1
        if self._line.is_due():
            self._line.restart()
            times, self._times = self._times, 0
            self._say(text, times)
