"""Gathers what schedules are judged by: their definitions, the runs, and the periods whose events are complete. Most of
it is remembered from look to look, so that each look asks for little.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple, Protocol

from msgspec import Struct, field
from msgspec.structs import replace

from ha_monitor.events.catalogue import State
from ha_monitor.incidents.habits import HabitFollower
from ha_monitor.incidents.runs import run_of
from ha_monitor.schedules.judge import judge
from ha_monitor.schedules.learned import Habit
from ha_monitor.schedules.model import (
    MAX_SCHEDULES,
    Definition,
    Evidence,
    History,
    Judged,
    Judgement,
    LastKnown,
    Run,
    Runs,
    ScheduleState,
    Source,
)
from ha_monitor.schedules.sources import merged
from ha_monitor.store.queries import MAX_NAMES, Queries
from ha_monitor.store.schedules import (
    MAX_GAPS,
    Coverage,
    KeptSchedules,
    KnownSource,
    ScheduleChanges,
    with_occurrences,
)

TASKS_PER_NAME = 60
"""Newest tasks of a name that are looked at."""
FIRST_TASKS = 5
"""How many of these each look asks for; it asks for the others only if all of these are new."""
MAX_RECORDS = 3000
"""Records that one look reads; names for which there is no room are judged at a later look."""
MARGIN = 2.0
"""Seconds by which an event may be created before it is sent, or the watermark may seem too recent."""
MAX_CHANGES = 100
"""Schedules that one look writes; the others are left for the next."""
WRITE_COVERAGE_EVERY = 10.0
"""Seconds after which the time until which events are complete is written, if nothing else is."""
ROLLBACK_WINDOW = 150.0
"""Seconds before a store went back whose events may be missing until they are merged again."""
_ENDED = frozenset((State.SUCCESS, State.FAILURE, State.REJECTED, State.REVOKED))


class ScheduleView(NamedTuple):
    """What the leader knows of schedules and of the events by which they are judged."""

    own: Sequence[Definition] = ()
    """Those in the configuration of this program."""
    sources: Mapping[Source, KnownSource] = {}  # never changed
    """What has been asked since this instance leads; other sources are as they were stored."""
    merged_ago: float | None = None
    """Seconds since the time until which everything sent is merged; None if that is not known."""
    listened_for: float | None = None
    """Seconds for which this instance has listened without a break; None if it does not listen."""


class ScheduleReader(Protocol):
    """What is asked from the store. Each call raises `StoreUnavailable`."""

    @property
    def queries(self) -> Queries: ...

    @property
    def schedules(self) -> KeptSchedules: ...


class _Newest(Struct):
    """The newest tasks of a name."""

    ids: list[str] = field(default_factory=list)
    """Newest first."""
    runs: dict[str, Run | None] = field(default_factory=dict)
    """None for a task whose record has expired."""
    is_read: bool = False
    """Whether all of them have been read."""


class ScheduleGatherer:
    """Gathers, and remembers what need not be asked at each look."""

    def __init__(self) -> None:
        self._is_outdated = True
        self._kept: dict[str, Judgement] = {}
        """As they are in the store."""
        self._sources: dict[Source, KnownSource] = {}
        self._coverage: Coverage | None = None
        self._written_until = float("-inf")
        """Until when events are complete, as last written to the store."""
        self._newest: dict[str, _Newest] = {}
        self._went_back_at = 0.0
        self._habits = HabitFollower()

    def start_anew(self) -> None:
        """Another instance led meanwhile, and wrote: read everything again."""
        self._is_outdated = True

    def written(self, changes: ScheduleChanges) -> None:
        """Note that the changes of a look are now in the store."""
        self._kept = {name: one for name, one in self._kept.items() if name not in changes.removed}
        self._kept |= {one.definition.name: one for one in changes.changed}
        self._sources |= changes.sources
        self._habits.written(changes)
        if changes.coverage is not None:
            self._written_until = changes.coverage.until

    def gather(
        self,
        reader: ScheduleReader,
        view: ScheduleView,
        now: float,
        *,
        lost: Sequence[tuple[float, float]],
        orphaned: frozenset[str],
        went_back_at: float,
        is_merged: bool,
    ) -> tuple[Judged | None, ScheduleChanges]:
        """What to report of the schedules, None if they cannot be judged now; and what to write.

        :param lost: periods whose events are missing. :param orphaned: tasks that nobody has any longer.
        :raises StoreUnavailable: as the reader does.
        """
        if self._is_outdated or went_back_at != self._went_back_at:
            self._read(reader.schedules)
            self._is_outdated, self._went_back_at = False, went_back_at
        known = self._sources | {
            name: updated_source(self._sources.get(name), one) for name, one in view.sources.items()
        }
        changes = ScheduleChanges(sources={name: one for name, one in known.items() if one != self._sources.get(name)})
        if not is_merged or view.merged_ago is None or view.listened_for is None:
            return None, changes
        self._cover(now - view.merged_ago - MARGIN, now - view.listened_for, now)
        defined = list(merged(*(one.definitions for one in known.values()), view.own))
        definitions = [*defined, *self._habits.schedules(defined)][:MAX_SCHEDULES]
        runs = self._runs(reader.queries, list(dict.fromkeys(one.task for one in definitions)), orphaned, now)
        read = [one for one in definitions if one.task in runs]
        last_known = LastKnown(
            [self._last_judged(one) for one in definitions if one.task not in runs],
            {name: one.beat for name, one in self._kept.items() if one.beat is not None},
        )
        coverage = self._coverage
        assert coverage is not None
        gaps = [*coverage.gaps, *lost]
        if went_back_at:
            gaps.append((went_back_at - ROLLBACK_WINDOW, went_back_at))
        histories = {name: one.history for name, one in self._kept.items()}
        judged = judge(read, histories, runs, Evidence(now, coverage.until, coverage.since, gaps), last_known)
        changes = self._changes(judged, changes)
        habits, forgotten = self._habits.follow(
            reader.queries,
            now,
            defined={one.task for one in defined},
            certain_until=coverage.until,
            gaps=[(float("-inf"), coverage.since), *gaps],
        )
        ended = [*self._habits.abandoned(judged.judgements, now), *self._fresh_habits(changes.removed, now)]
        return judged, changes._replace(habits=[*habits, *ended], forgotten=forgotten)

    def _last_judged(self, one: Definition) -> Judgement:
        before = self._kept.get(one.name, Judgement(one, ScheduleState.NOT_KNOWN, History(one.name, "", "", 0.0)))
        return replace(before, definition=one)

    def _fresh_habits(self, removed: Iterable[str], now: float) -> list[Habit]:
        """Fresh habits for definitions that were removed, on purpose it seems: that they ran until now is no habit."""
        gone = [self._kept[name].definition for name in removed]
        return [Habit(one.task, now, now) for one in gone if one.source is not Source.LEARNED and one.task]

    def _read(self, kept: KeptSchedules) -> None:
        judgements = kept.judgements()[:MAX_SCHEDULES]
        self._habits.read(kept.habits())
        occurrences = kept.occurrences([one.definition.name for one in judgements])
        self._kept = {
            one.definition.name: with_occurrences(one, times)
            for one, times in zip(judgements, occurrences, strict=True)
        }
        self._sources = kept.sources()
        self._coverage = kept.coverage()
        self._written_until = self._coverage.until if self._coverage is not None else float("-inf")

    def _cover(self, certain_until: float, since: float, now: float) -> None:
        """Note until when events are complete.

        :param since: since when this instance has listened; another one may have heard what was sent before.
        """
        before = self._coverage
        if before is None or before.since > now:
            self._coverage = Coverage(since, max(since, certain_until))
            return
        # The store's clock may have been set back.
        until = min(before.until, now)
        gaps = [(first, last) for first, last in before.gaps if last <= now]
        if since > until:
            gaps.append((until, since))
        self._coverage = Coverage(before.since, max(until, certain_until), tuple(gaps[-MAX_GAPS:]))

    def _runs(self, queries: Queries, names: Sequence[str], orphaned: frozenset[str], now: float) -> dict[str, Runs]:
        """The newest tasks of each name, without the names that remain to be read."""
        self._newest = {name: self._newest.get(name, _Newest()) for name in names}
        self._look_for_new(queries, names)
        # First those for which the last look had no room: runs that have not ended are read at each look.
        unread = [
            (name, task_id)
            for name, newest in sorted(self._newest.items(), key=lambda item: item[1].is_read)
            for task_id in newest.ids
            if not _is_settled(newest.runs, task_id, orphaned)
        ]
        some, rest = unread[:MAX_RECORDS], unread[MAX_RECORDS:]
        for (name, task_id), task in zip(some, queries.tasks([one for _, one in some]) if some else [], strict=True):
            self._newest[name].runs[task_id] = None if task is None else run_of(task, orphaned)
        if expired := [(name, task_id) for name, task_id in some if self._newest[name].runs[task_id] is None]:
            kept = self._kept_runs()
            for name, task_id in expired:
                self._newest[name].runs[task_id] = kept.get(task_id)
        unread_names = {name for name, _ in rest}
        is_full: bool | None = None
        found = {}
        for name, newest in self._newest.items():
            newest.is_read = name not in unread_names
            if not newest.is_read:
                continue
            complete_since = _complete_since(newest, now)
            if not newest.ids:
                is_full = len(queries.names()) >= MAX_NAMES if is_full is None else is_full
                complete_since = now if is_full else complete_since
            found[name] = Runs([run for one in newest.ids if (run := newest.runs.get(one)) is not None], complete_since)
        return found

    def _kept_runs(self) -> dict[str, Run]:
        """The runs of all kept due times, by id: a new leader may find that their records have expired."""
        due_times = [due for one in self._kept.values() for due in one.history.occurrences]
        return {run.task_id: run for due in due_times for run in (due.run, *due.again) if run is not None}

    def _look_for_new(self, queries: Queries, names: Sequence[str]) -> None:
        wider = []
        for name, ids in zip(names, queries.newest_of(names, FIRST_TASKS) if names else [], strict=True):
            if len(ids) >= FIRST_TASKS and ids[-1] not in self._newest[name].runs:
                wider.append(name)
            else:
                self._put(name, ids)
        for name, ids in zip(wider, queries.newest_of(wider, TASKS_PER_NAME) if wider else [], strict=True):
            self._put(name, ids)

    def _put(self, name: str, ids: Sequence[str]) -> None:
        """:param ids: the newest; the last of them is already known, or is the oldest that is looked at."""
        newest = self._newest[name]
        whole = (
            list(dict.fromkeys([*ids, *newest.ids]))[:TASKS_PER_NAME] if set(ids) & newest.runs.keys() else list(ids)
        )
        newest.ids = whole
        newest.runs = {one: newest.runs[one] for one in whole if one in newest.runs}

    def _changes(self, judged: Judged, changes: ScheduleChanges) -> ScheduleChanges:
        changed = [one for one in judged.judgements if one != self._kept.get(one.definition.name)][:MAX_CHANGES]
        names = {one.definition.name for one in judged.judgements}
        unread = {name for name, newest in self._newest.items() if not newest.is_read}
        removed = [name for name, one in self._kept.items() if name not in names and one.definition.task not in unread]
        coverage = self._coverage
        is_old = coverage is not None and coverage.until - self._written_until >= WRITE_COVERAGE_EVERY
        is_wanted = bool(judged.judgements or self._habits.has_habits) and (bool(changed) or is_old)
        return changes._replace(changed=changed, removed=removed, coverage=coverage if is_wanted else None)


def updated_source(before: KnownSource | None, now: KnownSource) -> KnownSource:
    """What is known of a source: what it says now, or what it said before if it says nothing now. A schedule that may
    be missing only because not all workers answered is disputed.
    """
    if before is None:
        return now
    if not now.read_at:
        return replace(before, problem=now.problem)
    if not now.is_partial:
        return now
    names = {one.name for one in now.definitions}
    left = [
        replace(one, differs="no worker that answered has it, but not all did", is_disputed=True)
        for one in before.definitions
        if one.name not in names
    ]
    return replace(now, definitions=(*now.definitions, *left))


def _is_settled(runs: Mapping[str, Run | None], task_id: str, orphaned: frozenset[str]) -> bool:
    """Whether what was read of a task is final, as far as one can tell."""
    if task_id not in runs:
        return False
    run = runs[task_id]
    return run is None or (run.state in _ENDED and run.is_orphaned == (task_id in orphaned))


def _complete_since(newest: _Newest, now: float) -> float:
    """Since when no task of the name is missing."""
    known: list[Run] = []
    for task_id in newest.ids:
        run = newest.runs.get(task_id)
        if run is None:
            return known[-1].at or now if known else now
        known.append(run)
    return (known[-1].at or now) if len(known) >= TASKS_PER_NAME else 0.0
