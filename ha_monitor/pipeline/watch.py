"""The leader's duty towards the fleet: see which workers are there, and announce those that are lost or back."""

from __future__ import annotations

from ha_monitor.clock import Clock
from ha_monitor.metrics.telemetry import Telemetry
from ha_monitor.outputs.log import Logger
from ha_monitor.pipeline.tables import TableReport
from ha_monitor.schedule import Schedule
from ha_monitor.store.api import LeaderDuties
from ha_monitor.store.outbox import OutboxItem
from ha_monitor.store.results import Watching

WATCH_EVERY = 0.5
"""Seconds at least between two looks at the workers: there may be many ticks a second while announcements wait."""


class WatchDuty:
    """Looks at the workers, and leaves what it saw for the metrics."""

    def __init__(
        self, duties: LeaderDuties, watching: Watching, telemetry: Telemetry, logger: Logger, clock: Clock
    ) -> None:
        self._duties = duties
        self._watching = watching
        self._telemetry = telemetry
        self._clock = clock
        self._tables = TableReport(logger, clock)
        self._due = Schedule(clock, WATCH_EVERY)
        self._heard_at = float("-inf")
        self._listening_since = clock.monotonic()

    def listened(self) -> None:
        """The instance has just received what the broker had for it, if anything."""
        now = self._clock.monotonic()
        if now - self._heard_at > self._watching.late_after:
            # It was deaf: no broker, no store, or a handler that took long. What the workers sent meanwhile is yet to
            # come, so their silence means nothing.
            self._listening_since = now
        self._heard_at = now

    def start_anew(self) -> None:
        self._due.hasten()

    def run(self) -> list[OutboxItem]:
        if not self._due.is_due():
            return []
        self._due.restart()
        watched = self._duties.watch(self._watching, self._telemetry.surveyed_queues(), may_judge=self._may_judge())
        if watched is None:
            return []
        self._telemetry.fleet = watched
        self._tables.look(watched.tables)
        return watched.items

    def _may_judge(self) -> bool:
        now = self._clock.monotonic()
        return (
            now - self._heard_at <= self._watching.late_after
            and now - self._listening_since >= self._watching.lost_after
        )
