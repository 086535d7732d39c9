"""Tasks that run regularly, and have no schedule that is known."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping, Sequence
from random import Random
from typing import Any, cast

import pytest
from msgspec.structs import replace

from ha_monitor.cli.main import main
from ha_monitor.exit_status import ExitStatus
from ha_monitor.incidents.facts import Facts, SurveyedQueue
from ha_monitor.incidents.habits import FIRST_TASKS, HabitFollower
from ha_monitor.incidents.rules import apply_rules
from ha_monitor.metrics.fleet import schedule_families
from ha_monitor.schedules.judge import judge
from ha_monitor.schedules.learned import Habit, followed, forgotten, learn, schedule_in
from ha_monitor.schedules.model import (
    MAX_TEXT,
    Definition,
    Evidence,
    History,
    Judged,
    Judgement,
    Occurrence,
    Run,
    Runs,
    ScheduleState,
    SilentBeat,
    Source,
)
from ha_monitor.schedules.toml import proposed
from ha_monitor.store.queries import KeptTask, Queries
from ha_monitor.store.schedules import ScheduleChanges
from tests.unit.asked import NOW, serve, task

DAY = 86400.0


def runs(*times: float) -> list[Run]:
    return [Run(task_id=str(place), sent=at) for place, at in enumerate(times)]


def test_what_comes_regularly_is_learned() -> None:
    """Given ten runs of a task a day, but for some minutes, it is learned as daily."""
    learned = learn("t", runs(*(86400 * number + (number % 3) * 60 for number in range(10))))

    assert learned is not None
    assert (learned.task, learned.period, learned.times, learned.regular) == ("t", 86400.0, 9, 9)


@pytest.mark.parametrize(
    "some",
    [
        pytest.param(runs(*(60.0 * number for number in range(9))), id="too few"),
        pytest.param(runs(*(60.0 * number for number in range(8)), 500, 700, 710, 760), id="irregular"),
        pytest.param(runs(*(1.0 * number for number in range(100))), id="the load of an application"),
        pytest.param([replace(run, is_child=True) for run in runs(*range(0, 1200, 60))], id="other tasks send it"),
        pytest.param([replace(run, sent=None) for run in runs(*range(0, 1200, 60))], id="no time is known"),
        pytest.param(runs(*([5.0] * 20)), id="all at once"),
    ],
)
def test_what_does_not_come_regularly_is_not_learned(some: list[Run]) -> None:
    """Given too few runs, irregular or very frequent ones, or those that another task sends, nothing is learned."""
    assert learn("t", some) is None
    assert learn("t" * (MAX_TEXT + 1), runs(*range(0, 1200, 60))) is None


def test_what_is_proposed_is_a_configuration(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Given a task every ten minutes, now and then a bit later, one of which a schedule is known, and one that comes
    irregularly, the first is proposed, as the configuration takes it, and nothing else.
    """
    regular = [task(f"r{n}", at=NOW - 600 * n - (20 if n % 9 == 0 else 0), name='odd "name"') for n in range(40)]
    known = [task(f"k{n}", at=NOW - 300 * n, name="shop.known") for n in range(40)]
    wild = [task(f"w{n}", at=NOW - 37 * n * n, name="shop.wild") for n in range(40)]
    definition = Definition(name="known", task="shop.known", timetable="every 5m", source=Source.CONF)
    judgement = Judgement(definition, ScheduleState.ON_TIME, History("known", "every 5m", "", NOW))
    serve(monkeypatch, *regular, *known, *wild, schedules=ScheduleChanges([judgement]))

    assert main(["schedules", "--learned", "--fail-if-none"]) == ExitStatus.OK

    out, error = capsys.readouterr()
    assert tomllib.loads(out) == {"schedules": {'odd "name"': {"task": 'odd "name"', "every": "10m"}}}
    assert "39 of the last 39 times between runs" in out
    assert error.startswith("1 task runs regularly without a schedule that is known.")
    assert main(["schedules", "shop.*", "--learned", "--fail-if-none"]) == ExitStatus.FAILURE
    assert capsys.readouterr()[1].startswith("no task runs regularly")


def test_what_is_learned_is_listed_as_such_and_proposed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Given a daily task that was learned, the list has it with its source and why, and it is proposed, with the grace
    of what is known once it is confirmed.
    """
    habit = followed(None, "shop.nightly", [NOW - DAY * (20 - number) for number in range(20)])
    assert habit is not None
    definition = schedule_in(habit)
    assert definition is not None
    judgement = Judgement(definition, ScheduleState.ON_TIME, History("shop.nightly", "every 1d", "UTC", NOW))
    serve(monkeypatch, schedules=ScheduleChanges([judgement], habits=[habit, Habit("shop.new", NOW, NOW)]))
    expected = {"schedules": {"shop.nightly": {"task": "shop.nightly", "every": "1d"}}}

    assert main(["schedules", "-o", "tsv"]) == ExitStatus.OK
    assert "learned" in capsys.readouterr()[0].splitlines()[1].split("\t")
    assert main(["schedules", "shop.nightly"]) == ExitStatus.OK
    told = capsys.readouterr()[0]
    assert "no source defines it: 19 of the last 19 times between runs were about this" in " ".join(told.split())
    assert main(["schedules"]) == ExitStatus.OK
    assert "the configuration; what was learned from runs" in " ".join("".join(capsys.readouterr()).split())
    for words in (["--learned"], ["-o", "toml"]):
        assert main(["schedules", *words]) == ExitStatus.OK
        out = capsys.readouterr()[0]
        assert tomllib.loads(out) == expected
        assert "19 of the last 19 times" in out


def test_what_is_learned_is_written_in_one_form(capsys: pytest.CaptureFixture[str]) -> None:
    """Given another form that is asked for, it is refused in one line."""
    assert main(["schedules", "--learned", "-o", "json"]) == ExitStatus.USAGE
    assert capsys.readouterr()[1] == "ha-monitor: --learned is written as toml, not as json\n"


def test_nothing_is_proposed_as_nothing() -> None:
    """Given nothing that comes regularly, the configuration stays as it is."""
    assert proposed([]) == ""


def habit_of(times: Iterable[float], blind: Sequence[tuple[float, float]] = ()) -> Definition | None:
    """The schedule that is learned from runs at these times."""
    habit = followed(None, "t", times, blind)
    return None if habit is None else schedule_in(habit)


def every(period: float, days: float, jitter: float = 0.0) -> list[float]:
    random = Random(1)
    return [number * period + random.uniform(0, jitter) for number in range(int(days * DAY / period) + 1)]


@pytest.mark.parametrize(
    ("times", "timetable", "grace"),
    [
        pytest.param(every(600, 9), "every 10m", 900.0, id="may be left out once, and five minutes more"),
        pytest.param(every(600, 9, jitter=25), "every 10m", 900.0, id="jittered"),
        pytest.param(every(DAY, 10, jitter=1800), "every 1d", 0.1 * DAY + 3600, id="daily"),
        pytest.param(every(7 * DAY, 70), "every 7d", 0.7 * DAY + 3600, id="weekly"),
        pytest.param(
            [at + 3600 * (at > 20 * DAY) for at in every(DAY, 40)], "every 1d", 0.1 * DAY + 3600, id="summer time"
        ),
    ],
)
def test_what_was_regular_for_more_than_a_week_is_a_schedule(times: list[float], timetable: str, grace: float) -> None:
    """Given ten runs and more, regular on all days of a week, they are a schedule with a long grace, that says why."""
    found = habit_of(times)

    assert found is not None
    assert (found.name, found.task, found.timetable, found.source) == ("t", "t", timetable, Source.LEARNED)
    assert found.grace == pytest.approx(grace)
    assert found.basis.endswith("times between runs were about this")


@pytest.mark.parametrize(
    "times",
    [
        pytest.param(every(600, 7.9), id="not yet for all days of a week"),
        pytest.param(every(DAY, 8), id="too few runs"),
        pytest.param(every(60, 30), id="a client that asks each minute"),
        pytest.param([at for at in every(600, 60) if at % DAY > 8 * 3600], id="pauses at night"),
        pytest.param([at for at in every(600, 60) if at % (7 * DAY) < 5 * DAY], id="pauses at weekends"),
        pytest.param([at for at in every(DAY, 60) if at % (7 * DAY) < 5 * DAY], id="working days"),
        pytest.param([Random(2).uniform(0, 60 * DAY) for _ in range(500)], id="people"),
        pytest.param([*every(600, 20), *(20 * DAY + 6000 + at for at in every(600, 7))], id="was missing a week ago"),
        pytest.param([*every(600, 20), *(20 * DAY + at for at in every(3600, 7))], id="moved"),
    ],
)
def test_what_was_not_regular_all_the_time_is_no_schedule(times: list[float]) -> None:
    """Given runs that, had they been watched, would have been missed once in the last week, they are no schedule."""
    assert habit_of(times) is None


def test_a_time_in_which_nobody_looked_proves_nothing() -> None:
    """Given runs that were not seen while the monitor was down, these times count neither for nor against a habit."""
    down = (5 * DAY + 60, 5 * DAY + 36000)
    seen = [at for at in every(600, 12) if not down[0] < at < down[1]]

    assert habit_of(seen) is None
    assert habit_of(seen, [down]) is not None
    assert habit_of([at for at in seen if at < 8.2 * DAY], [down]) is None


def test_what_was_forgotten_must_be_regular_for_as_long_again() -> None:
    """Given a habit that is forgotten, the runs before that do not count any more."""
    habit = followed(None, "t", every(600, 20))
    assert habit is not None
    begun = forgotten(habit)

    again = followed(begun, "t", [*every(600, 20), *(habit.last + at for at in every(600, 7))])
    assert again is not None
    assert again.since >= habit.last
    assert schedule_in(again) is None
    later = followed(again, "t", [habit.last + at for at in every(600, 9)])
    assert later is not None
    assert schedule_in(later) is not None


class Store:
    """The newest runs of many names, and how many records were read."""

    def __init__(self, runs: Mapping[str, Sequence[float]]) -> None:
        self.runs = runs
        self.now = 0.0
        self.read = 0

    def names(self) -> list[str]:
        return sorted(self.runs)

    def newest_of(self, names: Sequence[str], count: int) -> list[list[str]]:
        seen = [[at for at in self.runs[name] if at <= self.now] for name in names]
        return [[f"{name}@{at}" for at in sorted(times)[::-1][:count]] for name, times in zip(names, seen, strict=True)]

    def tasks(self, ids: Sequence[str]) -> list[KeptTask | None]:
        self.read += len(ids)
        times = [float(one.rpartition("@")[2]) for one in ids]
        return [
            None if at < self.now - DAY else task(one, at=at, parent_id="p" if "child" in one else None)
            for one, at in zip(ids, times, strict=True)
        ]  # a record is kept for a day


def follow(store: Store, until: float, follower: HabitFollower) -> int:
    """Let it have its turns, and write what it finds. :return: the most records that one turn read."""
    most = 0
    while store.now < until:
        store.now += 600
        store.read = 0
        habits, gone = follower.follow(
            cast("Queries", store), store.now, defined={"told"}, certain_until=store.now, gaps=[]
        )
        follower.written(ScheduleChanges(habits=habits, forgotten=gone))
        most = max(most, store.read)
    return most


def test_a_daily_task_is_learned_though_records_are_kept_for_a_day_only() -> None:
    """Given tasks whose records expire after a day, one that runs daily is learned after ten runs; one that a source
    tells is not, nor one that other tasks send; a name that is not known any more is forgotten.
    """
    daily = [NOW + at for at in every(DAY, 11)]
    store, follower = Store({"daily": daily, "told": daily, "child": daily, "seldom": [NOW + 50]}), HabitFollower()
    store.now = NOW
    follow(store, NOW + 8.5 * DAY, follower)
    assert follower.schedules([]) == []
    follow(store, NOW + 9.5 * DAY, follower)

    (found,) = follower.schedules([])
    assert (found.task, found.timetable) == ("daily", "every 1d")
    assert follower.schedules([Definition(name="daily", task="x", timetable="", source=Source.CONF)]) == []
    assert follower.schedules([Definition(name="x", task="daily", timetable="", source=Source.CONF)]) == []
    store.runs = {"other": []}
    follow(store, NOW + 9.6 * DAY, follower)
    assert (follower.schedules([]), follower.has_habits) == ([], False)


def test_a_turn_reads_as_much_however_many_tasks_there_are() -> None:
    """Given two thousand names, of which some run each second, a turn looks at twenty of them, and reads of those that
    run often or were seen before a few records only.
    """
    often = [NOW + DAY - number for number in range(400)]
    store = Store({f"n{number:04}": often if number % 2 else [NOW] for number in range(2000)})
    store.now, follower = NOW + DAY, HabitFollower()

    assert follow(store, NOW + DAY + 600 * 100, follower) <= 20 * (FIRST_TASKS + 1)
    assert follower.schedules([]) == []


def is_warned_of(run: Run | None, **facts: Any) -> bool:
    """Whether there is a warning of a learned task that is missing, and of nothing else."""
    definition = Definition(name="t", task="t", timetable="every 1d", source=Source.LEARNED, basis="regular")
    last = None if run is None else Occurrence(0.0, run=run)
    judgement = Judgement(
        definition, ScheduleState.MISSED, History("t", "every 1d", "", 0.0), last=last, since=NOW, period=DAY
    )
    beats = facts.pop("beats", ())
    judged = Judged([judgement], beats, is_whole=facts.pop("is_whole", True))
    seen = apply_rules(Facts(NOW, schedules=judged, **facts))
    found = [one.kind for one in seen.sightings if one.kind != "no-consumer"]
    assert set(found) <= {"learned-missed", *(["beat-silent"] if beats else [])}
    return "learned-missed" in found


BUSY = [SurveyedQueue("celery", 5, is_consumed=True)]
IDLE = [SurveyedQueue("celery", 0, is_consumed=True)]
NO_WORKER = [SurveyedQueue("celery", 0, is_consumed=False)]
OPEN = frozenset([("learned-missed", "t")])
WAS_SILENT = frozenset([("beat-silent", "beat")])
SENT, NOT_SENT = Run(task_id="r", sent=0.0), Run(task_id="r", received=0.0)
SILENT = SilentBeat("beat", NOW, None, ("a", "b"), 2)


@pytest.mark.parametrize(
    ("run", "facts", "is_warned"),
    [
        pytest.param(SENT, {"survey": BUSY}, True, id="producers tell what they send"),
        pytest.param(NOT_SENT, {"survey": IDLE}, True, id="nothing waits"),
        pytest.param(NOT_SENT, {"survey": BUSY}, False, id="it may wait"),
        pytest.param(NOT_SENT, {"survey": NO_WORKER}, False, id="no worker takes it"),
        pytest.param(NOT_SENT, {}, False, id="it is not known what waits"),
        pytest.param(None, {"survey": BUSY}, False, id="no run was seen"),
        pytest.param(NOT_SENT, {"survey": BUSY, "open_keys": OPEN}, True, id="it was told before"),
        pytest.param(SENT, {"beats": [SILENT]}, False, id="a beat is silent, and that is told"),
        pytest.param(SENT, {"open_keys": WAS_SILENT, "is_whole": False}, False, id="a beat may still be silent"),
        pytest.param(SENT, {"open_keys": WAS_SILENT}, True, id="a beat is back"),
    ],
)
def test_a_backlog_or_a_silent_beat_is_no_warning_of_its_own(
    run: Run | None, facts: dict[str, Any], is_warned: bool
) -> None:
    """Given a learned task that is missing, it is warned of but while it may wait in a queue, or a beat is silent."""
    assert is_warned_of(run, **facts) is is_warned


@pytest.mark.parametrize("state", [ScheduleState.FAILED, ScheduleState.OVERRAN, ScheduleState.SKIPPED])
def test_of_what_was_learned_only_a_miss_is_told(state: ScheduleState) -> None:
    """Given a learned task whose run failed or expired, nothing is told: errors are told of by their groups."""
    definition = Definition(name="t", task="t", timetable="every 1d", source=Source.LEARNED)
    judgement = Judgement(definition, state, History("t", "every 1d", "", 0.0))

    assert apply_rules(Facts(NOW, schedules=Judged([judgement]))).sightings == []


def test_what_was_learned_raises_no_alert_of_prometheus() -> None:
    """Given a learned schedule, it is not among the metrics, on which alerts rest that wake somebody."""
    definition = Definition(name="t", task="t", timetable="every 1d", source=Source.LEARNED)
    judgement = Judgement(definition, ScheduleState.MISSED, History("t", "every 1d", "", 0.0, missed_total=3))

    assert [sample for family in schedule_families([judgement]) for sample in family.samples] == []


def judged_at(run_at: Sequence[float], now: float) -> Judgement:
    """What is said of a learned task of each day, watched every hour."""
    definition = habit_of(every(DAY, 11))
    assert definition is not None
    histories: dict[str, History] = {}
    judged = judge([definition], {}, {}, Evidence(DAY * 11, DAY * 11, 0.0))
    at = 11 * DAY
    while at <= now:
        histories = {one.definition.name: one.history for one in judged.judgements}
        seen = [Run(task_id=str(one), sent=one, ended=one + 1, state="SUCCESS") for one in run_at if one <= at]
        judged = judge([definition], histories, {"t": Runs(seen)}, Evidence(at, at, 0.0))
        at += 3600
    (found,) = judged.judgements
    return found


def test_a_run_that_comes_earlier_than_it_was_learned_is_no_miss() -> None:
    """Given a daily task that somebody moves to an earlier hour, it is not missed at the old one; one that stops is,
    three hours and a half after it was due.
    """
    days = [DAY * day for day in range(12, 20)]
    moved = [*days, *(at - 8 * 3600 for at in (DAY * 20, DAY * 21))]

    assert judged_at(moved, 20 * DAY + 5 * 3600).state is ScheduleState.NOT_KNOWN
    assert judged_at(moved, 20 * DAY + 5 * 3600).why == "it runs at other times than before"
    assert judged_at(days, 20 * DAY + 3 * 3600).state is ScheduleState.ON_TIME
    assert judged_at(days, 20 * DAY + 4 * 3600).state is ScheduleState.MISSED
