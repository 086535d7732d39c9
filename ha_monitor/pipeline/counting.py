"""Keeps the metrics that this instance exports consistent with its counts in the store."""

from __future__ import annotations

from typing import Protocol

from ha_monitor.clock import Clock
from ha_monitor.metrics.retirement import GONE_AFTER, RETIRE_EVERY, adopted, label_at, misplaced, plan, sums_before
from ha_monitor.metrics.series import Series
from ha_monitor.metrics.telemetry import Telemetry
from ha_monitor.pipeline.tables import TableReport, series_tables
from ha_monitor.schedule import Schedule
from ha_monitor.store.api import Store
from ha_monitor.store.results import LabelSets

REREAD_EVERY = 60.0
"""Minimum seconds between two reads of all label sets."""


class Upkeep(Protocol):
    """What must continue while much is read."""

    def keep_alive(self) -> None:
        """See `announcements.Upkeep`. May tick."""


class CountKeeper:
    """Follows the counts after each tick: reads only what has changed, and everything after a new connection."""

    def __init__(
        self, store: Store, telemetry: Telemetry, tables: TableReport, clock: Clock, *, upkeep: Upkeep
    ) -> None:
        self._upkeep = upkeep
        self._is_looking = False
        self._untaken: list[LabelSets] = []
        """Label sets that ticks returned during a long read."""
        self._store = store
        self._counts = store.counts
        self._telemetry = telemetry
        self._series: Series = telemetry.series
        self._tables = tables
        self._clock = clock
        self._went_back_at = 0.0
        """The value of `Store.went_back_at` when the counts were last read. If it has changed since, counts that are
        lower in the store are raised again."""
        self._reread = Schedule(clock, REREAD_EVERY)
        self._retire = Schedule(clock, RETIRE_EVERY)
        self._retire.restart()
        self._is_misplaced = False

    def look(self, label_sets: LabelSets | None) -> None:
        """Update the exported metrics.

        :param label_sets: what the tick returned.
        :raises StoreUnavailable: and :raises LeaseLost: as `store/api.py` says.
        """
        if label_sets is not None:
            self._untaken.append(label_sets)
        if self._is_looking:
            return  # called by a tick in the middle of a look
        self._is_looking = True
        try:
            self._look()
        finally:
            self._is_looking = False

    def _look(self) -> None:
        now = self._clock.monotonic()
        if self._counts.outdated or self._went_back_at != self._store.went_back_at:
            self._untaken.clear()
            self._read(now)
        else:
            self._series.update(self._counts.take_changes(), now)
            untaken, self._untaken = self._untaken, []
            for label_sets in untaken:
                self._take_label_sets(label_sets, now)
            if self._retire.is_due():
                self._retire.restart()
                self._add_up(now)
        self._telemetry.tasks.exemplars.settle()
        self._counts.make_room(*self._series.room)
        self._tables.look(series_tables(self._series))

    def _read(self, now: float) -> None:
        keep_alive = self._upkeep.keep_alive
        counts = self._counts.read(keep_alive)
        if self._went_back_at != self._store.went_back_at:
            self._went_back_at = self._store.went_back_at
            if fallen := counts.less_than(self._series.numbers):
                self._counts.restore(fallen, keep_alive)
                counts = self._counts.read(keep_alive)
        self._counts.publish(self._series.load(counts, now))
        self._is_misplaced = True
        self._reread.restart()

    def _take_label_sets(self, label_sets: LabelSets, now: float) -> None:
        self._series.add_label_sets(label_sets.added, now)
        # Other instances forget label sets, too; the number of label sets shows it.
        if not label_sets.added and label_sets.size != self._series.label_sets and self._reread.is_due():
            self._reread.restart()
            self._series.set_label_sets(self._counts.read(self._upkeep.keep_alive).label_sets, now)

    def _add_up(self, now: float) -> None:
        """Add up the counts of label sets and instances that are gone. Exported metrics follow once all are moved."""
        keep_alive = self._upkeep.keep_alive
        if self._is_misplaced:
            moves = misplaced(self._series)
            self._counts.move(moves, keep_alive=keep_alive)
            self._is_misplaced = False
            if moves:
                return
        label = label_at(self._clock.time())
        before = sums_before(self._series, label)
        if before is None:
            return
        heard = self._counts.heard(GONE_AFTER)
        keep_alive()
        own = plan(self._series, heard, label, now)
        of_others = {}
        if self._telemetry.is_leader():
            gone = self._counts.gone(RETIRE_EVERY)
            keep_alive()
            of_others = {name: adopted(self._counts.read_of(name, keep_alive).fields(), label) for name in gone}
        if own.moves or any(of_others.values()):
            own.moves.extend(before)
        if own.moves or own.forgotten:
            self._counts.move(own.moves, own.forgotten, keep_alive=keep_alive)
            self._series.forget_label_sets(own.forgotten)
        for name, moves in of_others.items():
            self._counts.move(moves, gone=(name, RETIRE_EVERY), keep_alive=keep_alive)
