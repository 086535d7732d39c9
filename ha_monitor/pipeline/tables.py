"""Reports full tables of the shared record."""

from __future__ import annotations

from collections.abc import Iterable

from ha_monitor.clock import Clock
from ha_monitor.metrics.series import RESERVED, Series
from ha_monitor.outputs.log import Logger
from ha_monitor.store.results import Table

REPORT_AGAIN_AFTER = 600.0
"""Seconds without a refused entry after which the next one is logged again."""
ADVICE = "`ha-monitor status` shows the workers; if some are unknown, check who may publish events"
EFFECTS = {
    "workers": f"new workers are not monitored until old ones are removed; {ADVICE}",
    "processes": f"losses of new workers are not detected until old ones have been silent for a minute; {ADVICE}",
    "heartbeats": f"counting of a worker's lost events starts again from a new baseline; {ADVICE}",
    "starts": f"counting of a worker's lost events starts again from a new baseline; {ADVICE}",
    "producers": "lines of tasks with new names do not wait for their queue; check who may publish events",
    "baselines": (
        "runs of new task names have no baseline, so stuck.started_after applies; check who may publish events"
    ),
    "names": "tasks of new names are not found by name until old names are removed; check who may publish events",
    "queues": "new task queues are not surveyed once no worker consumes them",
    "open": "new tasks are not checked for being stuck or orphaned; find out which tasks pile up",
    "waits": "the age of the oldest task in a queue may be wrong; find out which tasks pile up",
    "worker labels": (
        "tasks of new workers are counted without the worker until old workers are gone for an hour; raise "
        "metrics.max_series, or set metrics.worker_labels"
    ),
    "series": (
        "new task names are counted together as `overflow`; raise metrics.max_series, or check who may publish events"
    ),
}
"""Table → the effect if it is full, and what to do."""


class TableReport:
    """Writes one line when a table begins to refuse entries, not one line for each entry."""

    def __init__(self, logger: Logger, clock: Clock) -> None:
        self._logger = logger
        self._clock = clock
        self._refused: dict[str, int] = {}
        self._full_at: dict[str, float] = {}

    def look(self, tables: Iterable[Table]) -> None:
        """Report the tables that refused entries since the last call.

        :param tables: the current state of the tables.
        """
        now = self._clock.monotonic()
        for table in tables:
            before = self._refused.get(table.name, 0)
            self._refused[table.name] = table.refused
            if table.refused <= before:
                continue
            quiet_since = self._full_at.get(table.name)
            self._full_at[table.name] = now
            if quiet_since is None or now - quiet_since > REPORT_AGAIN_AFTER:
                self._logger.warning(
                    "table-full",
                    table=table.name,
                    limit=table.limit,
                    turned_away=table.refused,
                    effect=EFFECTS.get(table.name, ""),
                )


def series_tables(series: Series) -> list[Table]:
    """The limits of an instance's series as tables: one for series with a worker, one for all."""
    with_worker = int(series.limit * (1 - RESERVED))
    without = series.without
    return [
        Table("worker labels", series.samples, with_worker, without["worker"]),
        Table("series", series.samples, series.limit, without["name"]),
    ]
