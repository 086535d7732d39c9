"""Tasks that run regularly though no source tells of a schedule, as those of django-celery-beat.

They are proposed, and not watched: a guess would be told as missed whenever a job is taken away, or a client pauses for
a night. Who writes one into the configuration has confirmed it.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from statistics import median
from typing import NamedTuple

from ha_monitor.schedules.model import LONGEST_TEXT, Run
from ha_monitor.schedules.timetable import LONGEST_PERIOD

LEAST_RUNS = 10
SHARE, TOLERANCE = 0.9, 0.05
"""So many of the times between runs are within this share of their median."""
LEAST_PERIOD = 5.0
"""Seconds: what comes more often is the load of an application, and not a schedule."""
_ROUND = (86400, 3600, 600, 300, 60, 30, 10, 5, 1)
_CLOSE = 0.01


class Learned(NamedTuple):
    """What the runs of a task look like."""

    task: str
    period: float
    """Seconds."""
    times: int
    """Times between two runs that were looked at."""
    regular: int
    """Those that are about the period."""


def learn(task: str, runs: Sequence[Run]) -> Learned | None:
    """What the runs of a task look like; None if they come irregularly, or are too few.

    :param runs: its newest ones. Those that another task sent do not count: beat did not send them.
    """
    times = sorted(run.at for run in runs if run.at is not None and not run.is_child)
    if len(times) < LEAST_RUNS or not 0 < len(task) <= LONGEST_TEXT:
        return None
    periods = [later - earlier for earlier, later in pairwise(times)]
    period = median(periods)
    if not LEAST_PERIOD <= period <= LONGEST_PERIOD:
        return None
    regular = sum(abs(one - period) <= TOLERANCE * period for one in periods)
    return Learned(task, _rounded(period), len(periods), regular) if regular >= SHARE * len(periods) else None


def _rounded(period: float) -> float:
    """What somebody will have written: 60 s for 60.02 s."""
    for unit in _ROUND:
        number = round(period / unit)
        if number and abs(period - number * unit) <= _CLOSE * period:
            return float(number * unit)
    return round(period, 1)
