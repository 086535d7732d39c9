"""What schedules are judged by, as the leader gathers it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import msgspec
import pytest

from ha_monitor.events.catalogue import State
from ha_monitor.incidents import schedules
from ha_monitor.incidents.facts import Facts
from ha_monitor.incidents.rules import OF_SCHEDULES, apply_rules
from ha_monitor.incidents.schedules import ScheduleGatherer, ScheduleReader, ScheduleView
from ha_monitor.schedules.model import Definition, Judged, Judgement, ScheduleState, Source
from ha_monitor.schedules.timetable import timetable_of
from ha_monitor.store.memory.schedules import MemorySchedules, write
from ha_monitor.store.memory.server import MemoryServer
from ha_monitor.store.queries import KeptTask
from tests.unit.asked import NOW, task
from tests.unit.builders import TurnedClock

HOUR, DAY = 3600.0, 86400.0
WEEKLY = Definition(name="weekly", task="t", timetable="0 2 * * mon", zone="UTC", source=Source.TOML)


class Bed:
    """A store that keeps a record for a day, and leaders that look at it."""

    def __init__(self, *told: Definition) -> None:
        self._told = told
        self._server = MemoryServer(TurnedClock())
        self.schedules = MemorySchedules(self._server)
        self.queries: Any = self
        self.now = 0.0
        self.runs: dict[str, float] = {}
        self.leader = ScheduleGatherer()
        self.state_of_runs = State.SUCCESS

    def names(self) -> list[str]:
        return sorted({"t", *map(name_of, self.runs)})

    def newest_of(self, names: Sequence[str], count: int) -> list[list[str]]:
        return [[one for one in list(self.runs)[::-1] if name_of(one) == name][:count] for name in names]

    def tasks(self, ids: Sequence[str]) -> list[KeptTask | None]:
        return [
            None
            if self.runs[one] < self.now - DAY
            else task(one, self.state_of_runs, at=self.runs[one], name=name_of(one))
            for one in ids
        ]

    def look(self, now: float) -> Judgement | None:
        """What is said of the only schedule, if there is one."""
        return next(iter(self.judged(now).judgements), None)

    def judged(self, now: float) -> Judged:
        """What is said of all schedules."""
        self.now = now
        view = ScheduleView(self._told, merged_ago=0.0, listened_for=100 * DAY)
        judged, changes = self.leader.gather(
            cast("ScheduleReader", self),
            view,
            now,
            lost=[],
            orphaned=frozenset(),
            went_back_at=0.0,
            is_merged=True,
        )
        write(self._server, changes)
        self.leader.written(changes)
        assert judged is not None
        return judged

    def state(self, now: float) -> ScheduleState | None:
        found = self.look(now)
        return None if found is None else found.state


def name_of(task_id: str) -> str:
    """What is before the colon; `t` if there is none."""
    name, colon, _ = task_id.partition(":")
    return name if colon else "t"


def next_due(at: float) -> float:
    due = timetable_of(WEEKLY.timetable, WEEKLY.zone).next_after(at)
    assert due is not None
    return due


def test_a_weekly_run_is_missed_also_by_a_leader_that_finds_its_records_expired() -> None:
    """Given a weekly schedule, records that are kept for a day, and a leader that came since the last run, the run that
    does not come is missed.
    """
    bed = Bed(WEEKLY)
    due = next_due(NOW)
    for number in range(3):
        bed.look(due - HOUR)
        bed.runs[f"r{number}"] = due + 1
        assert bed.state(due + HOUR) is ScheduleState.ON_TIME
        due = next_due(due)
    bed.leader = ScheduleGatherer()
    assert bed.state(due - HOUR) is ScheduleState.ON_TIME

    found = bed.look(due + HOUR)

    assert found is not None
    assert (found.state, found.missed, found.since) == (ScheduleState.MISSED, 1, due)


def test_a_daily_task_is_learned_missed_and_forgotten_by_one_leader_after_another() -> None:
    """Given a task that runs daily and of which nobody tells, records that are kept for a day, and another leader every
    five hours, it is learned after ten runs and nine days; when it stops it is missed within four hours, and forgotten
    a day later; nothing of it is learned again.
    """
    bed = Bed()
    told: list[tuple[float, ScheduleState | None]] = [(0.0, None)]
    for hour in range(20 * 24):
        now = NOW + hour * HOUR
        if hour % 5 == 0:
            bed.leader = ScheduleGatherer()
        if hour % 24 == 0 and hour <= 14 * 24:
            bed.runs[f"r{hour}"] = now - 60
        state = bed.state(now)
        if state is not told[-1][1]:
            told.append((hour / 24, state))

    (_, (learned, first), (ran, on_time), (missed, second), (gone, last)) = told
    assert (first, on_time, second, last) == (
        *(ScheduleState.WAITING, ScheduleState.ON_TIME),
        *(ScheduleState.MISSED, None),
    )
    assert (learned, ran) == (9 + 1 / 24, 10)
    assert missed == 15 + 4 / 24
    assert missed + 1 <= gone <= missed + 1 + 1 / 24


def told(bed: Bed, now: float) -> tuple[list[str], frozenset[str]]:
    """Which schedules a look judges, and the kinds of incidents that it does not end."""
    judged = bed.judged(now)
    return [one.definition.name for one in judged.judgements], apply_rules(Facts(now, schedules=judged)).partial


def of_two_tasks() -> Bed:
    """Schedules of two tasks that ran once each."""
    definitions = [msgspec.structs.replace(WEEKLY, name=name, task=name) for name in ("a", "b")]
    bed = Bed(*definitions)
    bed.runs = {"a:1": NOW - 60, "b:1": NOW - 60}
    return bed


def test_while_some_runs_are_not_read_no_incident_of_a_schedule_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """Given a new leader that cannot read all runs at its first look, it judges the schedules whose runs it has read,
    and ends no incident of a schedule; its next look has read the others, judges all, and may end any."""
    monkeypatch.setattr(schedules, "MAX_RECORDS", 1)
    bed = of_two_tasks()

    assert told(bed, NOW) == (["a"], frozenset(OF_SCHEDULES))
    assert told(bed, NOW + 5) == (["a", "b"], frozenset())


def test_schedules_whose_runs_do_not_end_are_judged_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Given more runs that have not ended than one look reads again, each schedule is judged at every other look."""
    monkeypatch.setattr(schedules, "MAX_RECORDS", 1)
    bed = of_two_tasks()
    bed.state_of_runs = State.STARTED

    assert [told(bed, NOW + 5 * number)[0] for number in range(4)] == [["a"], ["b"], ["a"], ["b"]]


HOURLY = Definition(name="hourly", task="", timetable="0 * * * *", zone="UTC", source=Source.TOML)
DUE = (NOW // HOUR + 1) * HOUR
"""When the first runs are due."""
TOO_LATE = 600.0
"""Seconds after a due time when it is missed."""


class Beat(Bed):
    """A beat with hourly tasks, whose runs do not end: each look reads all of them again, as far as there is room."""

    def __init__(self, *names: str, **timetables: str) -> None:
        super().__init__(
            *(
                msgspec.structs.replace(HOURLY, name=name, task=name, timetable=timetables.get(name, HOURLY.timetable))
                for name in names
            )
        )
        self.state_of_runs = State.STARTED
        self.judged(DUE - HOUR)
        self.send(*names, at=DUE)

    def send(self, *names: str, at: float) -> None:
        """The runs that were due then; a look finds that they are on time."""
        self.runs |= {f"{name}:{at:.0f}": at + 1 for name in names}
        assert self.judged(at + TOO_LATE).beats == []

    def silent(self, now: float) -> list[tuple[str, ...]]:
        """The schedules of the beats that a look finds silent."""
        return [one.schedules for one in self.judged(now).beats]


def test_no_beat_is_silent_because_what_it_sent_was_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Given a beat that sends one of its three schedules and misses two, it is not silent: neither for a look that had
    no room for that run, nor for the next one, which has read it.
    """
    bed = Beat("a", "b", "c")
    due = DUE + HOUR
    bed.runs[f"c:{due:.0f}"] = due + 1
    monkeypatch.setattr(schedules, "MAX_RECORDS", 2)

    partial = bed.judged(due + TOO_LATE)

    assert [(one.definition.name, one.state) for one in partial.judgements] == [
        *(("a", ScheduleState.MISSED), ("b", ScheduleState.MISSED))
    ]
    assert (partial.beats, partial.is_whole) == ([], False)
    monkeypatch.setattr(schedules, "MAX_RECORDS", 100)
    assert bed.silent(due + TOO_LATE + 5) == []


def test_a_beat_falls_silent_although_no_look_reads_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """Given more runs than a look has room for, so that schedules are read in turn, a beat that sends nothing any more
    is silent as soon as the second of its schedules is found missed, and with each look from then on.
    """
    bed = Beat("a", "b")
    monkeypatch.setattr(schedules, "MAX_RECORDS", 1)
    late = DUE + HOUR + TOO_LATE

    assert [bed.silent(late + 5 * number) for number in range(4)] == [[], *[[("a", "b")]] * 3]


def test_a_beat_that_may_be_back_is_as_silent_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    """Given a silent beat, and a schedule that was due since and was not read, nothing begins or ends: no incident of
    the beat, and none of the schedules that it explains. When it has been read, and ran, the beat is back.
    """
    bed = Beat("a", "b", "c", c="0 */2 * * *")
    rare = next(at for at in (DUE + HOUR, DUE + 2 * HOUR) if at % (2 * HOUR) == 0)
    if rare == DUE + HOUR:
        bed.send("a", "b", "c", at=rare)
        rare += 2 * HOUR
    assert bed.silent(rare - HOUR + TOO_LATE) == [("a", "b")]
    bed.runs[f"c:{rare:.0f}"] = rare + 1
    monkeypatch.setattr(schedules, "MAX_RECORDS", 2)

    partial = bed.judged(rare + 5)

    seen = apply_rules(Facts(rare + 5, schedules=partial, open_keys=frozenset([("beat-silent", "beat")])))
    assert (seen.sightings, "beat-silent" in seen.judged & seen.partial) == ([], True)
    assert [one.missed for one in partial.judgements] == [1, 1]
    monkeypatch.setattr(schedules, "MAX_RECORDS", 100)
    assert bed.silent(rare + 10) == []
