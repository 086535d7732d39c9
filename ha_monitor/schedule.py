"""When something that is done again and again is due."""

from __future__ import annotations

from ha_monitor.clock import Clock


class Schedule:
    """Says when it is time. The first time is at once; whoever did it restarts the count."""

    def __init__(self, clock: Clock, every: float) -> None:
        """:param every: seconds between two times."""
        self._clock = clock
        self._every = every
        self._due_at = float("-inf")

    def is_due(self) -> bool:
        """Whether it is time."""
        return self._clock.monotonic() >= self._due_at

    def remaining(self) -> float:
        """Seconds until it is time; 0 if it is."""
        return max(0.0, self._due_at - self._clock.monotonic())

    def restart(self, after: float | None = None) -> None:
        """Count from now on.

        :param after: seconds until the next time, if it is not the usual pause.
        """
        self._due_at = self._clock.monotonic() + (self._every if after is None else after)

    def hasten(self, within: float = 0.0) -> None:
        """Have it due at once, or in so many seconds at the latest."""
        self._due_at = min(self._due_at, self._clock.monotonic() + within)
