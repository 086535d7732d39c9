"""Schedules in answers and as JSON: times are in ISO 8601, UTC; durations in seconds; unknown values are null."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import floor
from typing import NamedTuple

from msgspec import UNSET, Struct, UnsetType

from ha_monitor.query.items import rounded, time_or_null
from ha_monitor.schedules.model import Judgement, Occurrence, ScheduleState, Source
from ha_monitor.schedules.timetable import timetable_of
from ha_monitor.store.queries import Gap
from ha_monitor.store.schedules import Coverage, KeptSchedules, KnownSource
from ha_monitor.text.times import duration

WORST = (
    *(ScheduleState.MISSED, ScheduleState.FAILED, ScheduleState.DOUBLED, ScheduleState.OVERRAN),
    *(ScheduleState.SKIPPED, ScheduleState.LATE, ScheduleState.NOT_KNOWN, ScheduleState.WAITING),
    *(ScheduleState.ON_TIME, ScheduleState.PAUSED),
)
"""The states, those that need attention first."""
LATELY = 86_400.0
"""How many seconds back an answer mentions that no instance listened."""
UNJUDGED = "schedules: they are known only once the leader has listened for workers.lost_after"
SOURCES = {Source.CONF: "the settings of the workers", Source.REDBEAT: "RedBeat"}


class SeenSchedule(NamedTuple):
    """A schedule, with the outcomes of its latest due times if they were asked for."""

    judgement: Judgement
    occurrences: Sequence[Occurrence] | None = None
    """Latest first."""
    next_due: float | None = None
    """When it is next due, as of the question; None if it is not, or that is not known."""

    @property
    def due(self) -> str:
        """When it is due, for people: with the time zone if that matters."""
        definition = self.judgement.definition
        zone = "" if definition.timetable.startswith("every") else definition.zone
        return f"{definition.timetable}, {zone}" if zone else definition.timetable

    @property
    def source(self) -> str:
        """Where the schedule is defined, for people."""
        return self.judgement.definition.source.value

    @property
    def why(self) -> str:
        """More about why it is in its state, if there is more to say; otherwise empty."""
        definition = self.judgement.definition
        learned = f"no source defines it: {definition.basis}" if definition.basis else ""
        return self.judgement.why or definition.problem or learned


class Schedules(NamedTuple):
    """The answer to a question about schedules."""

    seen: Sequence[SeenSchedule]
    """Worst first, then by the next due time."""
    searched: str
    gaps: Sequence[Gap]


def schedules_in(
    kept: KeptSchedules, matches: Callable[[str], bool], now: float, *, is_judged: bool = True
) -> Schedules:
    """The schedules of some names.

    :param is_judged: whether a live leader has judged: before the first leader has, schedules of the configuration are
        not in the store.
    :raises StoreUnavailable: as the store does.
    """
    judgements = kept.judgements()
    wanted = [one for one in judgements if matches(one.definition.name)]
    are_learned = any(one.definition.source is Source.LEARNED for one in judgements)
    found = [SeenSchedule(one, next_due=_next_due(one, now)) for one in wanted]
    found.sort(key=_worst)
    sources, coverage = kept.sources(), kept.coverage()
    gaps = _gaps(sources, coverage, now)
    if coverage is None and not is_judged:
        gaps.append(Gap(UNJUDGED, 0, 0))
    return Schedules(found, _searched(sources, now, are_learned=are_learned), gaps)


def with_due_times(kept: KeptSchedules, seen: SeenSchedule) -> SeenSchedule:
    """A schedule with the outcomes of its latest due times."""
    (occurrences,) = kept.occurrences([seen.judgement.definition.name])
    return seen._replace(occurrences=occurrences[::-1])


def _next_due(one: Judgement, now: float) -> float | None:
    """When it is next due: the judgement is some seconds old, and a schedule of seconds has been due again since."""
    known = one.next_due
    if known is None or known > now:
        return known
    try:
        timetable = timetable_of(one.definition.timetable, one.definition.zone)
    except ValueError:
        return None
    if timetable.is_absolute:
        return timetable.next_after(now)
    following = timetable.next_after(known)
    if following is None:
        return None
    period = following - known
    return known + (floor((now - known) / period) + 1) * period


def _worst(seen: SeenSchedule) -> tuple[int, float, str]:
    one = seen.judgement
    return WORST.index(one.state), seen.next_due or float("inf"), one.definition.name


def _searched(sources: Mapping[Source, KnownSource], now: float, *, are_learned: bool) -> str:
    read = [
        f"{name}, read {duration(max(0.0, now - known.read_at))} ago"
        for source, name in SOURCES.items()
        if (known := sources.get(source)) is not None and known.read_at
    ]
    learned = ["what was learned from runs"] if are_learned else []
    return f"the schedules of {'; '.join([*read, 'the configuration', *learned])}"


def _gaps(sources: Mapping[Source, KnownSource], coverage: Coverage | None, now: float) -> list[Gap]:
    found = []
    if Source.CONF not in sources:
        found.append(Gap("schedules that the workers know: none was asked yet", 0, 0))
    for source, known in sources.items():
        name = SOURCES.get(source, source.value)
        if known.problem:
            found.append(Gap(f"schedules of {name}: {known.problem}", known.read_at, 0))
        elif known.is_partial:
            found.append(Gap(f"schedules of {name}: not all that were asked answered", 0, 0))
    if coverage is not None:
        missing = [(since, until) for since, until in coverage.gaps if until > now - LATELY]
        found += [Gap("runs, since no instance listened", since, until) for since, until in missing]
        if coverage.since > now - LATELY:
            found.append(Gap("runs", 0, coverage.since))
    return found


class DueItem(Struct):
    """A due time, and what came of it."""

    due: str | None
    state: ScheduleState
    delay: float | None
    """Seconds from the due time until the run was sent, or until its first event."""
    task_id: str | None
    task_state: str | None
    sent: str | None
    started: str | None
    finished: str | None
    again: list[str]
    """Ids of further runs for the same due time."""


class ScheduleItem(Struct):
    """A schedule."""

    name: str
    task: str
    schedule: str
    """When it is due: five fields of a crontab, or `every 10m`."""
    timezone: str | None
    source: Source
    app: str | None
    enabled: bool
    state: ScheduleState
    why: str | None
    since: str | None
    """The due time with which this state began."""
    last: DueItem | None
    """The latest due time with a run."""
    next: str | None
    period: float | None
    grace: float | None
    """As configured; null for a tenth of the period."""
    must_end_within: float | None
    missed: int
    """Due times in a row."""
    missed_total: int
    doubled: bool
    producers: list[str]
    beat: str | None
    """The silent beat that explains why it is missed."""
    differs: str | None
    """How the sources disagree."""
    due_times: list[DueItem] | UnsetType = UNSET


def schedule_item(seen: SeenSchedule) -> ScheduleItem:
    """A schedule, for programs."""
    one, definition = seen.judgement, seen.judgement.definition
    return ScheduleItem(
        name=definition.name,
        task=definition.task,
        schedule=definition.timetable,
        timezone=definition.zone or None,
        source=definition.source,
        app=definition.app or None,
        enabled=definition.is_enabled,
        state=one.state,
        why=seen.why or None,
        since=time_or_null(one.since),
        last=None if one.last is None else due_item(one.last),
        next=time_or_null(seen.next_due),
        period=rounded(one.period),
        grace=definition.grace,
        must_end_within=definition.must_end_within,
        missed=one.missed,
        missed_total=one.history.missed_total,
        doubled=one.is_doubled,
        producers=list(one.producers),
        beat=one.beat,
        differs=definition.differs or None,
        due_times=UNSET if seen.occurrences is None else [due_item(found) for found in seen.occurrences],
    )


def due_item(one: Occurrence) -> DueItem:
    """A due time, for programs."""
    run = one.run
    return DueItem(
        due=time_or_null(one.due),
        state=one.state,
        delay=rounded(one.delay),
        task_id=None if run is None else run.task_id,
        task_state=None if run is None else run.state,
        sent=None if run is None else time_or_null(run.sent),
        started=None if run is None else time_or_null(run.started),
        finished=None if run is None else time_or_null(run.ended),
        again=[other.task_id for other in one.again],
    )
