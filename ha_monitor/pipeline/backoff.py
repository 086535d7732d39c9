"""Exponential backoff."""

from __future__ import annotations

import random

from ha_monitor.clock import Clock
from ha_monitor.schedule import Schedule

STABLE_AFTER = 15.0
"""Seconds for which a connection must hold before an outage counts as over: longer than the longest backoff."""


class FailureStreak:
    """Failures without a stable success between them: a service may accept each connection and then close it."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._succeeded_at: float | None = None
        self.since: float | None = None
        """Time of the first failure by the monotonic clock; None if there was none yet."""

    @property
    def is_failing(self) -> bool:
        """Whether there was a failure, and no success since the latest one."""
        return self.since is not None and self._succeeded_at is None

    def failed(self) -> bool:
        """Note a failure. Returns whether a new streak begins with it."""
        now = self._clock.monotonic()
        was_stable = self._succeeded_at is not None and now - self._succeeded_at >= STABLE_AFTER
        is_new = self.since is None or was_stable
        if is_new:
            self.since = now
        self._succeeded_at = None
        return is_new

    def succeeded(self) -> None:
        """Note a success."""
        if self._succeeded_at is None:
            self._succeeded_at = self._clock.monotonic()


class Backoff:
    """Capped exponential backoff with equal jitter (half of each wait is fixed, half is random), so that many
    instances do not reconnect at the same time."""

    def __init__(self, clock: Clock, first: float, cap: float, *, at_once: bool = False) -> None:
        """
        :param first: upper limit of the first wait, in seconds.
        :param cap: upper limit of any wait, in seconds.
        :param at_once: whether to retry at once after the first failure of a streak, and wait only after the second.
        """
        self._clock = clock
        self._first = first
        self._cap = cap
        self._at_once = at_once
        self._attempts = 0
        self._retry = Schedule(clock, first)
        self._streak = FailureStreak(clock)

    @property
    def failing_since(self) -> float:
        """Time of the streak's first failure by the monotonic clock; now if a success followed the latest failure."""
        since = self._streak.since
        return since if since is not None and self._streak.is_failing else self._clock.monotonic()

    def remaining(self) -> float:
        """Seconds until the next attempt is due; 0 if it is due."""
        return self._retry.remaining()

    def failed(self) -> float:
        """Note a failure. Returns the seconds until the next attempt."""
        if self._streak.failed():
            self._attempts = 0
            if self._at_once:
                return 0.0
        longest = min(self._cap, self._first * 2.0 ** min(self._attempts, 30))
        self._attempts += 1
        wait = random.uniform(longest / 2, longest)
        self._retry.restart(wait)
        return wait

    def succeeded(self) -> None:
        """Note a success. If it proves stable, the next failure begins a new streak with the first wait."""
        self._streak.succeeded()
        self._retry.hasten()
