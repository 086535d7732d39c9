"""What there is no room for while the store is away, and the broker delivers nothing twice."""

from __future__ import annotations

from ha_monitor.clock import Clock
from ha_monitor.outputs.log import Logger
from ha_monitor.pipeline.collector import Collector
from ha_monitor.pipeline.stats import Stats

SAY_EVERY = 10.0
"""Seconds at least between two lines: a flood drops a batch many times a second."""


class Excess:
    """Drops the oldest batches beyond what may be kept; counts and says how many events that were."""

    def __init__(self, collector: Collector, stats: Stats, logger: Logger, clock: Clock) -> None:
        self._collector = collector
        self._stats = stats
        self._logger = logger
        self._clock = clock
        self._unsaid = 0
        self._said_at = float("-inf")

    def drop(self) -> None:
        """Make room."""
        while self._collector and self._collector.holds_too_much:
            dropped = self._collector.take().batch.event_count
            self._stats.dropped += dropped
            self._unsaid += dropped
        if self._clock.monotonic() - self._said_at >= SAY_EVERY:
            self.say()

    def drop_all(self) -> None:
        """Drop all that is held, since nobody will merge it any more."""
        dropped = self._collector.drop_all()
        self._stats.dropped += dropped
        self._unsaid += dropped
        self.say("stopped while the store is away")

    def say(self, reason: str = "the store is away for too long") -> None:
        """Write a line about what no line has been written about."""
        if self._unsaid:
            count, self._unsaid = self._unsaid, 0
            self._said_at = self._clock.monotonic()
            self._logger.error("events-dropped", count=count, reason=reason)
