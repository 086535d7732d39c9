"""What ran, by task name, for looking back, as it is read (`queries.py`)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from ha_monitor.events.catalogue import Code
from ha_monitor.events.histogram import LAST_BUCKET, quantile

KEPT = 72 * 3600
"""Seconds for which statistics are kept."""
BY_MINUTE = 3 * 3600
"""Seconds for which they are kept by minute; older ones are kept by ten minutes."""
RUN_TIME, WAIT = 20, 128
"""The first keys of the buckets in a cell, as in `store/lua/statistics.lua`."""

Cell = Mapping[int, int]
"""Key -> count, as in `store/lua/statistics.lua`."""


class Durations(NamedTuple):
    """Durations, in the buckets of `events/histogram.py`."""

    counts: Mapping[int, int]
    """Bucket -> count."""

    @property
    def total(self) -> int:
        return sum(self.counts.values())

    def quantile(self, share: float) -> float | None:
        """The quantile in seconds, to within a tenth; None if there are no durations."""
        return quantile(self.counts, share)


class NameStatistic(NamedTuple):
    """What ran under one name in some period."""

    name: str
    succeeded: int
    failed: int
    retried: int
    runtime: Durations
    """Of successful runs."""
    waiting: Durations
    """Before the latest start of each task; unknown if clocks are wrong."""

    @property
    def runs(self) -> int:
        """Runs that ended."""
        return self.succeeded + self.failed + self.retried


def statistic_from(name: str, cells: Iterable[tuple[Cell, int]]) -> NameStatistic:
    """The sum of some cells of a name.

    :param cells: each with the number of times that it occurs.
    """
    sums: defaultdict[int, int] = defaultdict(int)
    for cell, times in cells:  # hundreds of thousands of them for a list of names
        for key, count in cell.items():
            sums[key] += count * times
    runtime: dict[int, int] = {}
    waiting: dict[int, int] = {}
    for key, count in sums.items():
        if count > 0:
            if WAIT <= key <= WAIT + LAST_BUCKET:
                waiting[key - WAIT] = count
            elif RUN_TIME <= key <= RUN_TIME + LAST_BUCKET:
                runtime[key - RUN_TIME] = count
    return NameStatistic(
        name,
        succeeded=sum(runtime.values()) + sums[Code.SUCCEEDED],
        failed=sums[Code.FAILED],
        retried=sums[Code.RETRIED],
        runtime=Durations(runtime),
        waiting=Durations(waiting),
    )
