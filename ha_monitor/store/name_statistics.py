"""What was run by task name, for looking back, as it is read (`queries.py`)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from ha_monitor.events.catalogue import Code
from ha_monitor.events.histogram import LAST_BUCKET, quantile

KEPT = 72 * 3600
"""Seconds for which statistics are kept."""
BY_MINUTE = 3 * 3600
"""Seconds for which they are kept by minute; what is older, by ten minutes."""
RUN_TIME, WAIT = 20, 128
"""Where the buckets begin among the keys of a cell, as in `store/lua/statistics.lua`."""

Cell = Mapping[int, int]
"""Key -> count, as `store/lua/statistics.lua` keeps it."""


class Durations(NamedTuple):
    """How long something took, in the buckets of `events/histogram.py`."""

    counts: Mapping[int, int]
    """Bucket -> how many."""

    @property
    def total(self) -> int:
        return sum(self.counts.values())

    def quantile(self, share: float) -> float | None:
        """Seconds below which so many of all are, known to a tenth; None if there are none."""
        return quantile(self.counts, share)


class NameStatistic(NamedTuple):
    """What was run of one name in some time."""

    name: str
    succeeded: int
    failed: int
    retried: int
    runtime: Durations
    """Of the runs that succeeded."""
    waiting: Durations
    """Before the latest start of each task; where clocks are wrong it is not told."""

    @property
    def runs(self) -> int:
        """Runs that ended."""
        return self.succeeded + self.failed + self.retried


def statistic_from(name: str, cells: Iterable[tuple[Cell, int]]) -> NameStatistic:
    """The sum of some cells of a name.

    :param cells: each with how often it is there.
    """
    sums: defaultdict[int, int] = defaultdict(int)
    for cell, times in cells:  # hundreds of thousands, in a list of names
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
