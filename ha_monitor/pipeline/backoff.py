"""Exponential backoff."""

from __future__ import annotations

import random

from ha_monitor.clock import Clock
from ha_monitor.schedule import Schedule


class Backoff:
    """Capped exponential backoff with equal jitter (half of each wait is fixed, half is random), so that many
    instances do not come back at once."""

    def __init__(self, clock: Clock, first: float, cap: float) -> None:
        """:param first: upper limit of the first wait in seconds. :param cap: upper limit of any wait in seconds."""
        self._clock = clock
        self._first = first
        self._cap = cap
        self._attempts = 0
        self._retry = Schedule(clock, first)
        self._failing_since: float | None = None

    @property
    def failing_since(self) -> float:
        """When the first of the consecutive failures was, by the monotonic clock; now if there is none."""
        return self._clock.monotonic() if self._failing_since is None else self._failing_since

    def remaining(self) -> float:
        """Seconds until the next attempt is due; 0 if it is."""
        return self._retry.remaining()

    def failed(self) -> float:
        """Note a failure; returns the seconds until the next attempt."""
        if self._failing_since is None:
            self._failing_since = self._clock.monotonic()
        longest = min(self._cap, self._first * 2.0 ** min(self._attempts, 30))
        self._attempts += 1
        wait = random.uniform(longest / 2, longest)
        self._retry.restart(wait)
        return wait

    def succeeded(self) -> None:
        """Note a success: the next failure starts from the beginning."""
        self._attempts = 0
        self._retry.hasten()
        self._failing_since = None
