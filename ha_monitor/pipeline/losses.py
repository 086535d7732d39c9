"""The leader's duty for lost events: find events that a worker sent and no instance received."""

from __future__ import annotations

from ha_monitor.clock import Clock
from ha_monitor.schedule import Schedule
from ha_monitor.store.api import LeaderDuties
from ha_monitor.store.outbox import OutboxItem

LOSSES_EVERY = 2.0
"""Seconds between two looks: as often as workers send heartbeats."""
MORE_EVERY = 0.5
"""Seconds between two looks while some processes have not been looked at yet."""


class LossesDuty:
    """Compares, for each worker process, what the worker counted with what was received."""

    def __init__(self, duties: LeaderDuties, clock: Clock, *, report: bool) -> None:
        """:param report: whether to announce and count losses; if not, only the data to find them is updated."""
        self._duties = duties
        self._report = report
        self._due = Schedule(clock, LOSSES_EVERY)

    def start_anew(self) -> None:
        self._due.hasten()

    def run(self) -> list[OutboxItem]:
        if not self._due.is_due():
            return []
        items = self._duties.losses(report=self._report)
        self._due.restart(None if self._duties.all_accounted else MORE_EVERY)
        return items
