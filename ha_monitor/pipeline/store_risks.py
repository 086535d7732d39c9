"""The leader's duty for the store itself: report the settings under which it may lose what it has confirmed."""

from __future__ import annotations

from ha_monitor.clock import Clock
from ha_monitor.outputs.log import Logger
from ha_monitor.schedule import Schedule
from ha_monitor.store.api import Store
from ha_monitor.store.outbox import OutboxItem

LOOK_EVERY = 60.0
"""Seconds: settings are rarely changed, and the line is no alarm."""


class StoreRisks:
    """Writes a line about each risk when it is first seen, or seen in another way."""

    def __init__(self, store: Store, logger: Logger, clock: Clock) -> None:
        self._store = store
        self._logger = logger
        self._due = Schedule(clock, LOOK_EVERY)
        self._told: set[str] = set()

    def start_anew(self) -> None:
        self._due.hasten()

    def run(self) -> list[OutboxItem]:
        if not self._due.is_due():
            return []
        self._due.restart()
        risks = self._store.risks()
        for risk in risks:
            if risk not in self._told:
                self._logger.warning("store-at-risk", reason=risk)
        self._told = set(risks)
        return []
