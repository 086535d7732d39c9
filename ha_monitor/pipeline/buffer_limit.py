"""The limit of what is buffered while the store is unavailable, if the broker does not redeliver."""

from __future__ import annotations

from ha_monitor.clock import Clock
from ha_monitor.outputs.log import Logger
from ha_monitor.pipeline.collector import Collector
from ha_monitor.pipeline.stats import Stats
from ha_monitor.schedule import Schedule

REPORT_EVERY = 10.0
"""Minimum seconds between two lines: during a flood, batches are dropped many times a second."""


class BufferLimit:
    """Drops the oldest batches beyond the limit; counts and reports their events."""

    def __init__(self, collector: Collector, stats: Stats, logger: Logger, clock: Clock) -> None:
        self._collector = collector
        self._stats = stats
        self._logger = logger
        self._line = Schedule(clock, REPORT_EVERY)
        self._unreported = 0

    def drop(self) -> None:
        """Drop the oldest batches until the buffer is within its limit."""
        while self._collector and self._collector.is_over_limit:
            dropped = self._collector.take().batch.event_count
            self._stats.dropped += dropped
            self._unreported += dropped
        if self._line.is_due():
            self.report()

    def drop_all(self) -> None:
        """Drop everything, since it will never be merged."""
        self.report()
        dropped = self._collector.drop_all()
        self._stats.dropped += dropped
        self._unreported += dropped
        self.report("the instance stopped before they were merged")

    def report(self, reason: str = "the buffer was full while the store was unavailable") -> None:
        """Write a line about what was dropped since the last line."""
        if self._unreported:
            count, self._unreported = self._unreported, 0
            self._line.restart()
            self._logger.error("events-dropped", count=count, reason=reason)
