"""The leader's duty for the store itself: report settings with which it may lose what it has confirmed, and evicted
keys.
"""

from __future__ import annotations

from ha_monitor.clock import Clock
from ha_monitor.outputs.log import Logger
from ha_monitor.pipeline.stats import Stats
from ha_monitor.schedule import Schedule
from ha_monitor.store.api import Store
from ha_monitor.store.outbox import OutboxItem

LOOK_EVERY = 60.0
"""Seconds between two looks: settings rarely change, and the lines are not urgent."""
DROPPED_KEYS = (
    "they may include task records, so later lines of those tasks lack names, and some ends may never be announced; "
    "give Redis more memory, and set maxmemory-policy noeviction"
)
"""What evicted keys mean, and what to do."""


class StoreRisks:
    """Writes a line about each risk when it first appears or its text changes, and whenever keys were evicted."""

    def __init__(self, store: Store, stats: Stats, logger: Logger, clock: Clock) -> None:
        self._store = store
        self._stats = stats
        self._logger = logger
        self._due = Schedule(clock, LOOK_EVERY)
        self._reported: set[str] = set()
        self._dropped: int | None = None

    def start_anew(self) -> None:
        self._due.hasten()
        self._dropped = None

    def run(self) -> list[OutboxItem]:
        if not self._due.is_due():
            return []
        self._due.restart()
        info = self._store.info()
        for risk in info.risks:
            if risk not in self._reported:
                self._logger.warning("store-at-risk", reason=risk)
        self._reported = set(info.risks)
        self._compare(info.dropped)
        return []

    def _compare(self, dropped: int) -> None:
        # A lower number means another Redis, or a restarted one. How much it had evicted before is not known.
        before, self._dropped = self._dropped, dropped
        if before is None or dropped <= before:
            return
        self._stats.store_dropped_keys += dropped - before
        self._logger.error("store-dropped-keys", count=dropped - before, reason=f"Redis evicted keys: {DROPPED_KEYS}")
