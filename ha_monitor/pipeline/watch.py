"""The leader's duty for workers: find out which are online, and announce those that are lost or back."""

from __future__ import annotations

from ha_monitor.clock import Clock
from ha_monitor.metrics.telemetry import Telemetry
from ha_monitor.pipeline.tables import TableReport
from ha_monitor.pipeline.watermark import FleetWatermark, Listening
from ha_monitor.schedule import Schedule
from ha_monitor.store.api import LeaderDuties
from ha_monitor.store.outbox import OutboxItem
from ha_monitor.store.results import Watching

WATCH_EVERY = 0.5
"""Seconds at least between two looks at the workers: there may be many ticks a second while announcements wait."""


class WatchDuty:
    """Looks at the workers, and leaves what it saw for the metrics."""

    def __init__(
        self,
        duties: LeaderDuties,
        watching: Watching,
        listening: Listening,
        *,
        telemetry: Telemetry,
        tables: TableReport,
        clock: Clock,
    ) -> None:
        self._duties = duties
        self._watching = watching
        self._listening = listening
        self._telemetry = telemetry
        self._tables = tables
        self._clock = clock
        self._watermark = FleetWatermark(clock)
        self._due = Schedule(clock, WATCH_EVERY)

    def queue_was_empty(self, at: float) -> None:
        """No message waited in the shared queue, or there is none.

        :param at: by the monotonic clock.
        """
        self._watermark.queue_was_empty(at)

    def start_anew(self) -> None:
        self._due.hasten()

    def run(self) -> list[OutboxItem]:
        if not self._due.is_due():
            return []
        self._due.restart()
        # A worker may be declared lost only after listening for as long as it may be silent.
        may_declare_lost = self._listening.has_lasted(self._watching.lost_after)
        asked_at = self._clock.monotonic()
        watched = self._duties.watch(
            self._watching,
            self._telemetry.surveyed_queues(),
            may_declare_lost=may_declare_lost,
            watermark=self._watermark.ages(),
        )
        if watched is None:
            return []
        self._watermark.merged_by_all(None if watched.merged_ago is None else asked_at - watched.merged_ago)
        self._telemetry.fleet = watched
        self._tables.look(watched.tables)
        return watched.items
