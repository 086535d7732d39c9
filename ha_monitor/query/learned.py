"""Finds tasks that run regularly and have no known schedule."""

from __future__ import annotations

from collections.abc import Callable

from ha_monitor.incidents.runs import run_of
from ha_monitor.schedules.learned import MIN_RUNS, Learned, learn, seen_in
from ha_monitor.schedules.model import Source
from ha_monitor.store.queries import TaskQueries
from ha_monitor.store.schedules import KeptSchedules

TASKS_PER_NAME = 60
"""Newest tasks of a name that are examined."""
NAMES_AT_ONCE = 100
"""Names that are examined at once."""


def learned_in(queries: TaskQueries, kept: KeptSchedules, matches: Callable[[str], bool]) -> list[Learned]:
    """The learned patterns of the names that match, ordered by name.

    :raises StoreUnavailable: as the ports do.
    """
    known = {one.definition.task for one in kept.judgements() if one.definition.source is not Source.LEARNED}
    habits = [seen_in(one.task, one.intervals) for one in kept.habits() if one.task not in known and matches(one.task)]
    found: list[Learned | None] = list(habits)
    known.update(one.task for one in habits if one is not None)
    names = [name for name in sorted(queries.names()) if name not in known and matches(name)]
    for first in range(0, len(names), NAMES_AT_ONCE):
        some = names[first : first + NAMES_AT_ONCE]
        for name, ids in zip(some, queries.newest_of(some, TASKS_PER_NAME), strict=True):
            if len(ids) >= MIN_RUNS:
                runs = [run_of(task) for task in queries.tasks(ids) if task is not None]
                found.append(learn(name, runs))
    return sorted(one for one in found if one is not None)
