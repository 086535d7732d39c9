"""When to try again."""

from __future__ import annotations

import random

from ha_monitor.clock import Clock

LASTING = 15.0
"""Seconds for which a connection holds before what was wrong counts as over: longer than the longest pause between two
attempts."""


class Spell:
    """A time of failures. A success ends it only if it lasts: a service may take each connection, and close it."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._well_since: float | None = None
        self.since: float | None = None
        """When its first failure was, by the monotonic clock; None before the first one ever."""

    @property
    def is_failing(self) -> bool:
        """Whether there was no success since the latest failure."""
        return self.since is not None and self._well_since is None

    def failed(self) -> bool:
        """Note a failure; whether a new spell begins with it."""
        now = self._clock.monotonic()
        lasted = self._well_since is not None and now - self._well_since >= LASTING
        is_new = self.since is None or lasted
        if is_new:
            self.since = now
        self._well_since = None
        return is_new

    def succeeded(self) -> None:
        """Note a success."""
        if self._well_since is None:
            self._well_since = self._clock.monotonic()


class Backoff:
    """Capped exponential waiting with full jitter, so that many instances do not come back at once."""

    def __init__(self, clock: Clock, first: float, cap: float) -> None:
        """:param first: seconds that the first wait lasts at most. :param cap: seconds that any lasts at most."""
        self._clock = clock
        self._first = first
        self._cap = cap
        self._attempts = 0
        self._due_at = float("-inf")
        self._spell = Spell(clock)

    @property
    def failing_since(self) -> float:
        """When the first of the failures was, by the monotonic clock; now if the latest was followed by a success."""
        since = self._spell.since
        return since if since is not None and self._spell.is_failing else self._clock.monotonic()

    def remaining(self) -> float:
        """Seconds until the next try is due; 0 if it is."""
        return max(0.0, self._due_at - self._clock.monotonic())

    def failed(self) -> float:
        """Note a failure; returns the seconds until the next try."""
        if self._spell.failed():
            self._attempts = 0
        longest = min(self._cap, self._first * 2.0 ** min(self._attempts, 30))
        self._attempts += 1
        wait = random.uniform(longest / 2, longest)
        self._due_at = self._clock.monotonic() + wait
        return wait

    def succeeded(self) -> None:
        """Note a success: if it lasts, the next failure starts from the beginning."""
        self._spell.succeeded()
        self._due_at = float("-inf")
