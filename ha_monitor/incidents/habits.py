"""Follows when tasks run, to learn which ones run regularly. It looks at some names at a time, so that a look costs the
same however many names there are.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

from msgspec.structs import replace

from ha_monitor.incidents.runs import run_of
from ha_monitor.schedules.learned import MIN_WATCHED_PERIOD, Habit, followed, forgotten, schedule_in, warns_for
from ha_monitor.schedules.model import Definition, Judgement, Run, ScheduleState, Source
from ha_monitor.store.queries import Queries
from ha_monitor.store.schedules import ScheduleChanges

NAMES_AT_ONCE, TURN_EVERY = 20, 30.0
"""Names that are looked at per turn, and seconds between two turns: 2,000 names take 50 minutes."""
TASKS_PER_NAME = 60
"""Newest tasks of a name that are looked at: a task whose schedule can be learned runs less often between two looks."""
FIRST_TASKS = 5
"""How many of these are read first; if one of them is known, the others are not read."""
MIN_AVERAGE_INTERVAL = MIN_WATCHED_PERIOD / 2
"""Average seconds between runs; tasks that run more often are not read."""


class HabitFollower:
    """Follows habits; remembers the stored ones, as they are in the store."""

    def __init__(self) -> None:
        self._kept: dict[str, Habit] = {}
        self._learned: dict[str, Definition] = {}
        self._next = 0
        self._at = float("-inf")

    @property
    def has_habits(self) -> bool:
        """Whether any habits are stored."""
        return bool(self._kept)

    def read(self, habits: Iterable[Habit]) -> None:
        """Take over the habits that are in the store."""
        self._kept, self._learned = {}, {}
        self._put(habits)

    def written(self, changes: ScheduleChanges) -> None:
        """Note that these changes are now in the store."""
        for task in changes.forgotten:
            self._kept.pop(task, None)
            self._learned.pop(task, None)
        self._put(changes.habits)

    def schedules(self, defined: Sequence[Definition]) -> list[Definition]:
        """The learned schedules, except those of tasks and names that a source defines."""
        if not self._learned:
            return []
        taken = {one.task for one in defined} | {one.name for one in defined}
        return [one for task, one in sorted(self._learned.items()) if task not in taken]

    def follow(
        self,
        queries: Queries,
        now: float,
        *,
        defined: Collection[str],
        certain_until: float,
        gaps: Sequence[tuple[float, float]],
    ) -> tuple[list[Habit], list[str]]:
        """The habits that have changed, and the names of tasks whose habits are to be deleted.

        :param defined: tasks that a source defines. :param certain_until: everything sent until then is merged.
        :param gaps: periods in which runs may be missing.
        :raises StoreUnavailable: as the port does.
        """
        if 0 <= now - self._at < TURN_EVERY:
            return [], []
        self._at = now
        names = queries.names()
        first = self._next if self._next < len(names) else 0
        self._next = first + NAMES_AT_ONCE
        turn = names[first : self._next]
        changed = [
            forgotten(one) for name in turn if name in defined and (one := self._kept.get(name)) and one.intervals
        ]
        some = [name for name in turn if name not in defined]
        gone = self._kept.keys() - names if not first else set()
        for name, (runs, is_whole) in _read(queries, some, self._kept).items():
            before = self._kept.get(name)
            unseen = gaps if is_whole or before is None else [*gaps, (before.last, now)]
            ids = {run.at: run.task_id for run in runs if run.at is not None and not run.is_child}
            after = followed(before, name, [at for at in ids if at <= certain_until], unseen)
            if after is not None and (before is None or after.last > before.last):
                changed.append(replace(after, last_id=ids[after.last]))
        return changed, sorted(gone)

    def abandoned(self, judgements: Iterable[Judgement], now: float) -> list[Habit]:
        """Reset habits of tasks that have been missing for so long that they must have been removed on purpose."""
        found = []
        for one in judgements:
            definition = one.definition
            habit = self._kept.get(definition.task) if definition.source is Source.LEARNED else None
            if habit is None or one.state is not ScheduleState.MISSED or one.since is None:
                continue
            if now >= one.since + (definition.grace or 0.0) + warns_for(one.period or 0.0):
                found.append(forgotten(habit))
        return found

    def _put(self, habits: Iterable[Habit]) -> None:
        for one in habits:
            self._kept[one.task] = one
            definition = schedule_in(one)
            if definition is None:
                self._learned.pop(one.task, None)
            else:
                self._learned[one.task] = definition


def _read(queries: Queries, names: Sequence[str], kept: Mapping[str, Habit]) -> dict[str, tuple[list[Run], bool]]:
    """The new runs by name, and whether none can be missing; without names that have no runs, or run far too often."""
    newest = queries.newest_of(names, TASKS_PER_NAME) if names else []
    ids = {name: list(dict.fromkeys(found)) for name, found in zip(names, newest, strict=True) if found}
    runs: dict[str, Run | None] = {}
    _add(queries, runs, [one for found in ids.values() for one in {*found[:FIRST_TASKS], found[-1]}])
    wanted = {name: found for name, found in ids.items() if not _runs_too_often(found, runs)}
    wider = [name for name, found in wanted.items() if not _is_known(found[:FIRST_TASKS], runs, kept.get(name))]
    _add(queries, runs, [one for name in wider for one in ids[name] if one not in runs])
    return {name: _new(found, runs, kept.get(name)) for name, found in wanted.items()}


def _add(queries: Queries, runs: dict[str, Run | None], ids: Sequence[str]) -> None:
    for task_id, task in zip(ids, queries.tasks(ids) if ids else [], strict=True):
        runs[task_id] = None if task is None else run_of(task)


def _runs_too_often(ids: Sequence[str], runs: Mapping[str, Run | None]) -> bool:
    first, last = runs[ids[-1]], runs[ids[0]]
    if first is None or last is None or first.at is None or last.at is None or len(ids) < FIRST_TASKS:
        return False
    return last.at - first.at < MIN_AVERAGE_INTERVAL * (len(ids) - 1)


def _is_known(ids: Sequence[str], runs: Mapping[str, Run | None], habit: Habit | None) -> bool:
    """Whether one of these runs was seen before."""
    return habit is not None and any(_is_seen(one, runs[one], habit) for one in ids)


def _is_seen(task_id: str, run: Run | None, habit: Habit) -> bool:
    return task_id == habit.last_id or (run is not None and run.at is not None and run.at <= habit.last)


def _new(ids: Sequence[str], runs: Mapping[str, Run | None], habit: Habit | None) -> tuple[list[Run], bool]:
    """The runs since the latest known one, as far as their records still exist."""
    found: list[Run] = []
    for task_id in ids:
        run = runs.get(task_id)
        if habit is not None and _is_seen(task_id, run, habit):
            return found, True
        if run is None:
            return found, False
        found.append(run)
    return found, len(ids) < TASKS_PER_NAME
