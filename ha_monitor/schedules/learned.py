"""Tasks that run regularly although no source defines a schedule, such as those of django-celery-beat.

A habit is what is stored about the runs of a task. It becomes a schedule once it has lasted so long that, had it been
watched all that time, it would never have been reported as missed: so a task that pauses at night or at weekends is
not learned. It is still a guess, so a missing run is only a warning, and after a while the habit is forgotten.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from statistics import median
from typing import NamedTuple

from msgspec import Struct
from msgspec.structs import replace

from ha_monitor.schedules.model import MAX_TEXT, Definition, Run, Source
from ha_monitor.schedules.timetable import MAX_PERIOD, exact_duration

MIN_RUNS = 10
SHARE, TOLERANCE = 0.9, 0.05
"""This share of the intervals between runs must be within this tolerance of their median."""
MIN_PERIOD = 5.0
"""Seconds: what comes more often is an application's load, not a schedule."""
MIN_WATCHED_PERIOD = 300.0
"""Seconds between runs of a learned schedule: what comes more often may be a client that polls each minute."""
MIN_OBSERVED = 8 * 86400.0
"""Seconds for which a habit must have lasted: every day of the week, and one of them twice."""
MAX_INTERVALS = 20
"""Latest intervals between runs that are kept."""
MIN_WARNING, MAX_WARNING = 86400.0, 7 * 86400.0
"""Seconds for which a missing run is reported: one period, within these bounds."""
SPARE = 300.0
"""Seconds that a run may be late in addition to one skipped period."""
_OFTEN = 6 * 3600.0
_ROUND = (86400, 3600, 600, 300, 60, 30, 10, 5, 1)
_CLOSE = 0.01


class Learned(NamedTuple):
    """The pattern in the runs of a task."""

    task: str
    period: float
    """Seconds."""
    times: int
    """Number of intervals between runs that were examined."""
    regular: int
    """Number of those that are close to the period."""

    @property
    def basis(self) -> str:
        """Why it is considered a schedule, for people."""
        return f"{self.regular} of the last {self.times} times between runs were about this"


class Habit(Struct, frozen=True, omit_defaults=True):
    """What is stored about the runs of a task. Times are in seconds since the epoch."""

    task: str
    since: float
    """Since when the habit has lasted."""
    last: float
    """Time of the latest run."""
    intervals: tuple[float, ...] = ()
    """Seconds between the latest runs, oldest first; without intervals in which the monitor did not listen."""
    last_id: str = ""
    """Id of the latest run, whose record may have expired when the next run comes; empty if it is not known."""


def learn(task: str, runs: Sequence[Run]) -> Learned | None:
    """The pattern in the runs of a task; None if they are irregular, or too few.

    :param runs: its newest runs. Those that another task sent do not count, because beat did not send them.
    """
    times = sorted(run.at for run in runs if run.at is not None and not run.is_child)
    return seen_in(task, [later - earlier for earlier, later in pairwise(times)])


def seen_in(task: str, intervals: Sequence[float]) -> Learned | None:
    """The same, from the intervals between the runs in seconds."""
    if len(intervals) < MIN_RUNS - 1 or not 0 < len(task) <= MAX_TEXT:
        return None
    period = median(intervals)
    if not MIN_PERIOD <= period <= MAX_PERIOD:
        return None
    regular = sum(abs(one - period) <= TOLERANCE * period for one in intervals)
    return Learned(task, _rounded(period), len(intervals), regular) if regular >= SHARE * len(intervals) else None


def followed(
    habit: Habit | None, task: str, times: Iterable[float], blind: Sequence[tuple[float, float]] = ()
) -> Habit | None:
    """A habit after more runs; None if there was none and there are no runs.

    :param times: times of runs; those that the habit already includes are ignored.
    :param blind: periods, each from and until, in which runs may be missing.
    """
    for at in sorted(times):
        if habit is None:
            habit = Habit(task, at, at)
        elif at > habit.last:
            habit = _after(habit, at, blind)
    return habit


def forgotten(habit: Habit) -> Habit:
    """What is kept of a habit that no longer counts: it starts afresh with the next run."""
    return Habit(habit.task, habit.last, habit.last, last_id=habit.last_id)


def schedule_in(habit: Habit) -> Definition | None:
    """The schedule that a habit stands for; None if it has not lasted long enough."""
    learned = seen_in(habit.task, habit.intervals)
    if learned is None or learned.period < MIN_WATCHED_PERIOD or habit.last - habit.since < MIN_OBSERVED:
        return None
    return Definition(
        name=habit.task,
        task=habit.task,
        timetable=f"every {exact_duration(learned.period)}",
        zone="UTC",
        source=Source.LEARNED,
        grace=grace_of(learned.period),
        basis=learned.basis,
    )


def grace_of(period: float) -> float:
    """Seconds that a run may be late. A frequent task may skip one run, as when beat is restarted; others have an hour
    more than a tenth of the period, because of clock changes in beat's time zone.
    """
    return period + SPARE if period < _OFTEN else 0.1 * period + 3600.0


def warns_for(period: float) -> float:
    """Seconds for which missing runs are reported before the habit is forgotten."""
    return min(max(MIN_WARNING, period), MAX_WARNING)


def _after(habit: Habit, at: float, blind: Sequence[tuple[float, float]]) -> Habit:
    interval = at - habit.last
    if any(since < at and habit.last < until for since, until in blind):
        # A period in which nobody listened proves nothing.
        return replace(habit, since=min(at, habit.since + interval), last=at)
    intervals = (*habit.intervals, round(interval, 1))[-MAX_INTERVALS:]
    learned = seen_in(habit.task, intervals)
    since = habit.since
    if len(intervals) >= MIN_RUNS - 1:
        # When the pattern is first recognized, all intervals are checked once.
        new = intervals if len(intervals) == MIN_RUNS - 1 else intervals[-1:]
        if learned is None or max(new) > learned.period + grace_of(learned.period):
            since = at
    return Habit(habit.task, since, at, intervals)


def _rounded(period: float) -> float:
    """The period as somebody will have configured it: 60 s for 60.02 s."""
    for unit in _ROUND:
        number = round(period / unit)
        if number and abs(period - number * unit) <= _CLOSE * period:
            return float(number * unit)
    return round(period, 1)
