"""Schedules that nothing tells, guessed from runs that come regularly."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from statistics import median

from ha_monitor.schedules.model import LONGEST_TEXT, Definition, Run, Source
from ha_monitor.schedules.timetable import LONGEST_PERIOD, exact_duration

LEAST_RUNS = 10
SHARE, TOLERANCE = 0.9, 0.05
"""So many of the times between runs are within this share of their median."""
LEAST_PERIOD = 5.0
"""Seconds: what comes more often is the load of an application, and not a schedule."""
_ROUND = (86400, 3600, 600, 300, 60, 30, 10, 5, 1)
_CLOSE = 0.01


def learn(task: str, runs: Sequence[Run]) -> Definition | None:
    """What the runs of a task look like; None if they come irregularly, or are too few.

    It only warns until somebody confirms it, by writing it into the configuration.
    """
    times = sorted(run.at for run in runs if run.at is not None and not run.is_child)
    if len(times) < LEAST_RUNS or not task or len(task) > LONGEST_TEXT:
        return None
    periods = [later - earlier for earlier, later in pairwise(times)]
    period = median(periods)
    if not LEAST_PERIOD <= period <= LONGEST_PERIOD:
        return None
    regular = sum(abs(one - period) <= TOLERANCE * period for one in periods)
    if regular < SHARE * len(periods):
        return None
    timetable = f"every {exact_duration(_rounded(period))}"
    return Definition(name=task, task=task, timetable=timetable, source=Source.LEARNED, is_confirmed=False)


def _rounded(period: float) -> float:
    """What somebody will have written: 60 s for 60.02 s."""
    for unit in _ROUND:
        number = round(period / unit)
        if number and abs(period - number * unit) <= _CLOSE * period:
            return float(number * unit)
    return round(period, 1)
