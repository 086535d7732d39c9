"""Says when a repeated action is due."""

from __future__ import annotations

from ha_monitor.clock import Clock


class Schedule:
    """Says when an action is due: first at once, then an interval after each `restart`, which the caller makes."""

    def __init__(self, clock: Clock, every: float) -> None:
        """:param every: the interval in seconds."""
        self._clock = clock
        self._every = every
        self._due_at = float("-inf")

    def is_due(self) -> bool:
        """Whether the action is due."""
        return self._clock.monotonic() >= self._due_at

    def remaining(self) -> float:
        """Seconds until the action is due; 0 if it is due."""
        return max(0.0, self._due_at - self._clock.monotonic())

    def restart(self, after: float | None = None) -> None:
        """Start a new interval now.

        :param after: seconds until the action is due; None for the usual interval.
        """
        self._due_at = self._clock.monotonic() + (self._every if after is None else after)

    def hasten(self, within: float = 0.0) -> None:
        """Make the action due within this many seconds at the latest; by default, at once."""
        self._due_at = min(self._due_at, self._clock.monotonic() + within)
