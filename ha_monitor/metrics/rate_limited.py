"""Lines for what anybody on the network can make happen as often as they like."""

from __future__ import annotations

from collections.abc import Callable

from ha_monitor.clock import Clock

PAUSE = 60.0
"""Seconds between two lines."""


class RateLimited:
    """Says that something happened at once, but then not again for a while; how often it happened is not lost."""

    def __init__(self, clock: Clock, say: Callable[[str, int], None]) -> None:
        """:param say: is given the latest text, and how many times it happened since the last line."""
        self._clock = clock
        self._say = say
        self._times = 0
        self._next_at = float("-inf")

    def report(self, text: str) -> None:
        """It happened."""
        self._times += 1
        now = self._clock.monotonic()
        if now >= self._next_at:
            self._next_at = now + PAUSE
            times, self._times = self._times, 0
            self._say(text, times)
