"""Says when a table of the shared record is full."""

from __future__ import annotations

from collections.abc import Iterable

from ha_monitor.clock import Clock
from ha_monitor.metrics.counts import overflowed
from ha_monitor.outputs.log import Logger
from ha_monitor.store.counts import Counts
from ha_monitor.store.results import Table

QUIET = 600.0
"""Seconds without an entry that was turned away, after which the next one is worth a line again."""
STRANGERS = "`ha-monitor status` shows the workers; see who may publish events if there are strangers"
EFFECTS = {
    "workers": f"new workers are not watched until others fall silent; {STRANGERS}",
    "processes": f"losses of new workers are not found until others were silent for a minute; {STRANGERS}",
    "heartbeats": f"the account of what a worker lost began anew; {STRANGERS}",
    "starts": f"the account of what a worker lost began anew; {STRANGERS}",
    "producers": "lines of tasks of new names do not wait for their queue; see who may publish events",
    "usual": "runs of new names have no usual run time, so stuck.started_after holds; see who may publish events",
    "queues": "new queues of tasks are not looked at when no worker consumes them any more",
    "open": "tasks that are new now are not found when they are stuck or orphaned; see what piles up",
    "series": "new series are added up as `overflow`; raise metrics.max_series, or see who may publish events",
}
"""What it means that a table is full, and what to do."""


class TableReport:
    """Writes one line when a table begins to turn entries away, not one for each."""

    def __init__(self, logger: Logger, clock: Clock) -> None:
        self._logger = logger
        self._clock = clock
        self._turned_away: dict[str, int] = {}
        self._full_at: dict[str, float] = {}

    def look(self, tables: Iterable[Table]) -> None:
        """:param tables: as they are now."""
        now = self._clock.monotonic()
        for table in tables:
            before = self._turned_away.get(table.name, 0)
            self._turned_away[table.name] = table.turned_away
            if table.turned_away <= before:
                continue
            quiet_since = self._full_at.get(table.name)
            self._full_at[table.name] = now
            if quiet_since is None or now - quiet_since > QUIET:
                self._logger.warning(
                    "table-full",
                    table=table.name,
                    limit=table.limit,
                    turned_away=table.turned_away,
                    effect=EFFECTS.get(table.name, ""),
                )


def series_table(counts: Counts, limit: int) -> Table:
    """The counts of an instance as a table.

    :param limit: `metrics.max_series`.
    """
    size = len(counts)
    return Table("series", size, limit, overflowed(counts) if size >= limit else 0)
