"""What is said of schedules: each state, and what must not alarm."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from msgspec.structs import replace

from ha_monitor.schedules.judge import judge
from ha_monitor.schedules.model import (
    MAX_OCCURRENCES,
    Definition,
    Evidence,
    History,
    Judged,
    Judgement,
    Run,
    Runs,
    ScheduleState,
    Source,
)

ZONE = ZoneInfo("Europe/Berlin")
MONDAY = datetime(2026, 11, 23, tzinfo=ZONE).timestamp()
MINUTE, HOUR, DAY = 60.0, 3600.0, 86400.0
BEAT, OTHER, WEB = "gen1@a", "gen2@b", "gen77@web"


def defined(name: str = "job", timetable: str = "0 * * * *", **more: Any) -> Definition:
    values = {"task": "t.job", "zone": "Europe/Berlin", "source": Source.CONF} | more
    return Definition(name=name, timetable=timetable, **values)


class Fleet:
    """A monitor that looks, and what came to it."""

    def __init__(self, *definitions: Definition, since: float = MONDAY - HOUR) -> None:
        self.definitions = list(definitions)
        self.histories: dict[str, History] = {}
        self.runs: dict[str, Run] = {}
        self.tasks: dict[str, str] = {}
        """The names of the tasks by their ids."""
        self.known_since = 0.0
        self.gaps: list[tuple[float, float]] = []
        self.complete_since = 0.0
        self.look(since)

    def ran(
        self,
        *times: float,
        producer: str | None = None,
        took: float = 1.0,
        state: str = "SUCCESS",
        task: str = "t.job",
        **more: Any,
    ) -> None:
        """The task was sent at these times, and ended so."""
        for at in times:
            task_id = f"task-{len(self.runs)}"
            run = Run(task_id=task_id, sent=at, started=at, ended=at + took, state=state, producer=producer)
            self.runs[task_id] = replace(run, **more)
            self.tasks[task_id] = task

    def look(self, at: float, certain_until: float | None = None) -> Judged:
        look = Evidence(at, at if certain_until is None else certain_until, self.known_since, self.gaps)
        shown = {
            task: Runs(
                [run for run in self.runs.values() if (run.at or 0) <= at and self.tasks[run.task_id] == task][-200:],
                self.complete_since,
            )
            for task in set(self.tasks.values())
        }
        judged = judge(self.definitions, self.histories, shown, look)
        self.histories = {one.definition.name: one.history for one in judged.judgements}
        return judged

    def one(self, at: float, certain_until: float | None = None) -> Judgement:
        return self.look(at, certain_until).judgements[0]

    def states(self, times: Iterable[float]) -> list[str]:
        return [str(self.one(at).state) for at in times]


def hours(*numbers: float) -> list[float]:
    return [MONDAY + number * HOUR for number in numbers]


def test_a_schedule_in_time() -> None:
    """Given a beat that sends each hour, then the schedule is on time, with its last and next time."""
    fleet = Fleet(defined())
    fleet.ran(*(at + 0.02 for at in hours(0, 1, 2)))

    found = fleet.one(MONDAY + 2.5 * HOUR)

    assert (found.state, found.missed, found.next_due) == (ScheduleState.ON_TIME, 0, MONDAY + 3 * HOUR)
    assert [one.state for one in found.history.occurrences] == [ScheduleState.ON_TIME] * 3
    assert found.last is not None
    assert found.last.delay == pytest.approx(0.02)
    assert (found.history.runs_total, found.period) == (3, HOUR)


def test_a_missed_run_is_found_within_its_grace() -> None:
    """Given a beat that died after one o'clock, then nothing is said until six minutes after two, and then how many are
    missed, and since when; until it runs again.
    """
    fleet = Fleet(defined())
    fleet.ran(*hours(0, 1))

    assert fleet.states([MONDAY + 2 * HOUR + 359, MONDAY + 2 * HOUR + 361]) == ["on time", "missed"]
    found = fleet.one(MONDAY + 4.5 * HOUR)
    assert (found.missed, found.since, found.history.missed_total) == (3, MONDAY + 2 * HOUR, 3)

    fleet.ran(MONDAY + 5 * HOUR)
    found = fleet.one(MONDAY + 5 * HOUR + 1)
    assert (found.state, found.missed, found.history.missed_total) == (ScheduleState.ON_TIME, 0, 3)


@pytest.mark.parametrize(
    ("timetable", "more", "grace"),
    [
        *(("* * * * *", {}, 30.0), ("0 * * * *", {}, 360.0), ("0 2 * * *", {}, 900.0)),
        *(("0 2 * * *", {"grace": 5.0}, 5.0), ("every 20m", {}, 120.0), ("every 2d", {}, 900.0)),
    ],
)
def test_the_grace_is_a_share_of_the_period(timetable: str, more: dict[str, Any], grace: float) -> None:
    """Given periods from a minute to a day, then the grace is a tenth of them, at least half a minute and at most a
    quarter of an hour, or what was set."""
    fleet = Fleet(defined(timetable=timetable, **more), since=MONDAY - 3 * DAY)
    fleet.ran(MONDAY - 2 * DAY if timetable.startswith("every") else MONDAY - 2.5 * DAY)
    due = fleet.one(MONDAY - 2 * DAY + 1).next_due
    assert due is not None

    assert fleet.states([due + grace - 1, due + grace + 1])[1] == "missed"
    assert fleet.one(due + grace + 1).since is not None


def test_a_job_that_ran_late_is_late() -> None:
    """Given a run half an hour after its time, as after a restart of beat, then it was missed, and is late from then
    on."""
    fleet = Fleet(defined())
    fleet.ran(MONDAY, MONDAY + 1.5 * HOUR)

    assert fleet.states([MONDAY + 1.2 * HOUR, MONDAY + 1.6 * HOUR]) == ["missed", "late"]


@pytest.mark.parametrize(
    ("more", "state"),
    [
        ({"state": "FAILURE"}, "failed"),
        ({"state": "REJECTED"}, "failed"),
        ({"state": "REVOKED"}, "failed"),
        ({"state": "STARTED", "ended": None, "is_orphaned": True}, "failed"),
        ({"state": "REVOKED", "is_expired": True}, "skipped"),
        ({"state": "REVOKED", "took": 700.0}, "skipped"),
        ({"state": "SENT", "started": None, "ended": None}, "skipped"),
        ({"state": "STARTED", "ended": None}, "overran"),
        ({"took": 1300.0}, "overran"),
        ({"took": 1100.0}, "on time"),
        ({"state": "RETRY", "ended": None, "at_look": 1100.0}, "on time"),
        ({"state": "SUCCESS", "ended": None}, "on time"),
    ],
)
def test_what_became_of_the_run_is_said(more: dict[str, Any], state: str) -> None:
    """Given a run that failed, was lost with its worker, expired in its queue, or took too long, then the schedule says
    so; a retry has not failed yet.
    """
    at = MONDAY + more.pop("at_look", 1800.0)
    fleet = Fleet(defined(expires=600.0, must_end_within=1200.0))
    fleet.ran(MONDAY, **more)

    assert fleet.states([at]) == [state]


def test_a_failure_stays_until_the_next_end() -> None:
    """Given a run that failed and the next one that runs, then the schedule has failed until that one ends well."""
    fleet = Fleet(defined())
    fleet.ran(MONDAY, state="FAILURE")
    fleet.ran(MONDAY + HOUR, took=600.0, state="STARTED", ended=None)

    assert fleet.states(hours(0.5, 1.1)) == ["failed", "failed"]
    fleet.runs["task-1"] = replace(fleet.runs["task-1"], ended=MONDAY + HOUR + 600, state="SUCCESS")
    assert fleet.states(hours(1.3)) == ["on time"]


def test_nothing_is_judged_while_events_are_on_their_way() -> None:
    """Given a backlog in the queue of events over the due time, then nothing is missed; when it is merged, the run was
    on time.
    """
    fleet = Fleet(defined())
    fleet.ran(MONDAY)
    fleet.look(MONDAY + 1)

    assert fleet.one(MONDAY + 1.9 * HOUR, certain_until=MONDAY + 0.9 * HOUR).state == ScheduleState.ON_TIME
    fleet.ran(MONDAY + HOUR)
    assert fleet.one(MONDAY + 1.95 * HOUR, certain_until=MONDAY + 1.94 * HOUR).missed == 0


def test_what_the_monitor_did_not_see_is_not_known() -> None:
    """Given a monitor that was down over two due times, then these are not known and nothing alarms; the next one is
    judged again. What comes after all, late, is on time.
    """
    fleet = Fleet(defined())
    fleet.ran(*hours(0, 3))
    fleet.look(MONDAY + 1)
    fleet.known_since = MONDAY + 2.5 * HOUR

    assert fleet.look(MONDAY + 2.6 * HOUR).not_seen == ["job"]
    assert fleet.states(hours(2.6, 3.5)) == ["not known", "on time"]
    assert fleet.look(MONDAY + 3.5 * HOUR).not_seen == []
    assert [one.state for one in fleet.one(MONDAY + 3.5 * HOUR).history.occurrences][1:3] == ["not known"] * 2
    assert fleet.one(MONDAY + 4.5 * HOUR).state == ScheduleState.MISSED
    fleet.ran(*hours(1.001, 4.002))
    assert [str(one.state) for one in fleet.one(MONDAY + 4.6 * HOUR).history.occurrences] == [
        *("on time", "on time", "not known", "on time", "on time")
    ]


def test_what_was_missed_before_stays_missed_where_events_are_lost() -> None:
    """Given a dead beat, and events that are missing about one of its due times, then it is still missed: nothing says
    that it ran."""
    fleet = Fleet(defined())
    fleet.ran(MONDAY)
    fleet.gaps.append((MONDAY + 2 * HOUR - 10, MONDAY + 2 * HOUR + 10))

    found = fleet.one(MONDAY + 2.5 * HOUR)

    assert (found.state, found.missed) == (ScheduleState.MISSED, 1)
    assert found.history.occurrences[-1].state == ScheduleState.NOT_KNOWN


def test_a_gap_about_the_due_time_is_not_a_miss() -> None:
    """Given that events about the due time are missing, then it is not known whether it ran."""
    fleet = Fleet(defined())
    fleet.ran(MONDAY)
    fleet.gaps.append((MONDAY + HOUR - 10, MONDAY + HOUR + 10))

    found = fleet.one(MONDAY + 1.5 * HOUR)

    assert (found.state, found.why) == (ScheduleState.NOT_KNOWN, "events of that time are missing")


def test_runs_that_are_not_kept_are_not_missed() -> None:
    """Given a task that is called so often that its runs about the due time are not kept, then that is not known."""
    fleet = Fleet(defined())
    fleet.ran(MONDAY)
    fleet.complete_since = MONDAY + 1.2 * HOUR

    assert fleet.states(hours(1.5)) == ["not known"]


def test_a_new_entry_is_not_missed_at_once() -> None:
    """Given an entry that a deployment brings, and a beat that is started again only after the entry's first due time,
    then that one is not missed; the next one is.
    """
    fleet = Fleet(defined(timetable="*/20 * * * *"), since=MONDAY - MINUTE)

    assert fleet.states([MONDAY + 5 * MINUTE]) == ["not known"]
    assert fleet.one(MONDAY + 5 * MINUTE).why == "it was still new, and beat may not have known it yet"
    assert fleet.states([MONDAY + 23 * MINUTE]) == ["missed"]


def test_a_changed_entry_begins_anew() -> None:
    """Given an entry that is due at other times from now on, then the old ones are not missed; its runs are kept."""
    fleet = Fleet(defined())
    fleet.ran(MONDAY)
    fleet.look(MONDAY + 1)
    fleet.definitions = [defined(timetable="30 6 * * *")]

    found = fleet.one(MONDAY + HOUR - 1)

    assert (found.state, found.next_due) == (ScheduleState.WAITING, MONDAY + 6.5 * HOUR)
    assert fleet.states(hours(2, 6.4, 6.8)) == ["waiting", "waiting", "missed"]
    assert len(fleet.one(MONDAY + 6.8 * HOUR).history.occurrences) == 2


def test_a_paused_entry_is_not_missed() -> None:
    """Given an entry that is not enabled, then it is paused; when it is enabled again, it begins anew."""
    fleet = Fleet(defined(is_enabled=False))

    assert fleet.states(hours(0.5, 5.5)) == ["paused", "paused"]
    fleet.definitions = [defined()]
    assert fleet.states(hours(5.6, 6.5)) == ["waiting", "missed"]


def test_what_workers_do_not_agree_on_is_not_missed() -> None:
    """Given an entry that not all workers have, as while it is removed, then it is not missed."""
    fleet = Fleet(defined(is_disputed=True, differs="only 1 of 3 workers have it"))

    found = fleet.one(MONDAY + 0.5 * HOUR)

    assert (found.state, found.why) == (ScheduleState.NOT_KNOWN, "only 1 of 3 workers have it")


def test_a_timetable_that_cannot_be_read_is_not_judged() -> None:
    """Given an entry of which nobody can say when it is due, then it is not known, and why."""
    fleet = Fleet(defined(problem="its schedule cannot be read"), defined("b", zone=""), defined("c", "99 * * * *"))

    assert [(str(one.state), one.why[:35]) for one in fleet.look(MONDAY + 5 * HOUR).judgements] == [
        ("not known", "its schedule cannot be read"),
        ("not known", "its time zone is not known"),
        ("not known", "minute: expected numbers from 0 to "),
    ]


def test_a_period_counts_from_the_last_run() -> None:
    """Given a period whose runs drift, then each is due a period after the one before, and a beat that dies is found a
    tenth of the period later.
    """
    fleet = Fleet(defined(timetable="every 10m"), since=MONDAY - DAY)
    times = [MONDAY + number * (600 + 0.3) for number in range(100)]
    fleet.ran(*times)

    assert set(fleet.states(times)) == {"on time"}
    assert fleet.states([times[-1] + 659, times[-1] + 661]) == ["on time", "missed"]
    assert fleet.one(times[-1] + 5 * 600).missed == 4
    fleet.ran(times[-1] + 6000)
    assert fleet.one(times[-1] + 6001).next_due == times[-1] + 6600


def test_a_period_shorter_than_the_heartbeat() -> None:
    """Given an entry due every second, and a hiccup of twenty seconds, then nothing is missed; after half a minute it
    is, and then one for each second.
    """
    fleet = Fleet(defined(timetable="every 1s"), since=MONDAY - HOUR)
    fleet.ran(*(MONDAY + number for number in range(60)))
    fleet.ran(*(MONDAY + 80 + number for number in range(60)))

    assert set(fleet.states(MONDAY + 5 * number for number in range(29))) == {"on time"}
    assert fleet.one(MONDAY + 169).state == ScheduleState.ON_TIME
    assert fleet.one(MONDAY + 139 + 32).state == ScheduleState.MISSED
    assert fleet.one(MONDAY + 139 + 41).missed == 11
    assert len(fleet.one(MONDAY + 400).history.occurrences) == MAX_OCCURRENCES
    assert fleet.one(MONDAY + 400).missed == pytest.approx(230, abs=2)


def test_a_period_that_begins_anew_is_followed() -> None:
    """Given a beat that forgot when it ran last, and that ran once by hand before it was watched, then the phase of the
    period is found without an alarm.
    """
    fleet = Fleet(defined(timetable="every 1h"), since=MONDAY - HOUR)
    fleet.ran(MONDAY)  # by hand
    fleet.ran(*hours(0.4, 1.4, 2.4, 3.4))

    assert set(fleet.states(hours(*(number / 10 for number in range(1, 44))))) <= {"on time", "waiting"}
    assert fleet.states(hours(4.6)) == ["missed"]


def test_a_child_is_not_a_run_of_beat() -> None:
    """Given a task that another task sends, then that takes no due time."""
    fleet = Fleet(defined())
    fleet.ran(MONDAY)
    fleet.ran(MONDAY + HOUR, is_child=True)

    assert fleet.states(hours(1.5)) == ["missed"]


def test_a_call_by_hand_changes_nothing() -> None:
    """Given a task that is also called by hand, each half an hour after it was due, then the schedule is on time; when
    beat is dead, such calls do not hide it, whether it is known who sends them or not.
    """
    for producer, hand in ((BEAT, WEB), (None, None)):
        fleet = Fleet(defined())
        fleet.ran(*hours(*range(10)), producer=producer)
        fleet.ran(*hours(*(number + 0.5 for number in range(15))), producer=hand)

        assert set(fleet.states(hours(*(number + 0.7 for number in range(10))))) == {"on time"}
        assert fleet.states(hours(10.3, 10.7, 11.7, 12.7)) == ["missed"] * 4


def test_a_call_by_hand_may_be_beat_that_waited() -> None:
    """Given a task that is also called by hand, and producers that do not tell when they send, then a run at another
    time may be that of beat, which waited in its queue: it is not known.
    """
    fleet = Fleet(defined())
    unknown: dict[str, Any] = {"sent": None}
    fleet.ran(*hours(*range(10)), **unknown)
    fleet.ran(*hours(*(number + 0.5 for number in range(10))), **unknown)
    fleet.ran(MONDAY + 10.4 * HOUR, **unknown)

    assert fleet.states(hours(10.09, 10.5)) == ["on time", "not known"]
    assert fleet.one(MONDAY + 10.6 * HOUR).why == (
        "the task is also called by hand, and no event says which run beat sent"
    )


def test_two_entries_of_one_task_take_their_turns() -> None:
    """Given two entries of one task, at times that meet once a day, then each due time has its run, and when one
    of them is not sent, that one is missed and not the other.
    """
    fleet = Fleet(defined("hourly"), defined("daily", "0 3 * * *"))
    fleet.ran(*hours(0, 1, 2, 3, 3.00001, 4))

    assert [str(one.state) for one in fleet.look(MONDAY + 4.5 * HOUR).judgements] == ["on time", "on time"]
    assert [
        one.last.run.task_id for one in fleet.look(MONDAY + 4.5 * HOUR).judgements if one.last and one.last.run
    ] == [*("task-5", "task-4")]
    fleet.ran(*hours(5, 6))
    fleet.ran(*hours(*range(7, 28)))
    assert [str(one.state) for one in fleet.look(MONDAY + 27.5 * HOUR).judgements] == ["on time", "missed"]


def test_two_entries_of_one_task_are_told_apart_by_their_arguments() -> None:
    """Given two entries at the same times with arguments that events tell, then each run is of the one whose arguments
    it has.
    """
    fleet = Fleet(defined("a", arguments="1"), defined("b", arguments="2"))
    for number in range(3):
        fleet.ran(MONDAY + number * HOUR, arguments="2")

    found = fleet.look(MONDAY + 2.5 * HOUR).judgements

    assert [str(one.state) for one in found] == ["missed", "on time"]


def test_two_periods_of_one_task() -> None:
    """Given two entries of one task with periods of their own, then neither is missed nor doubled."""
    fleet = Fleet(defined("often", "every 10m"), defined("seldom", "every 35m"), since=MONDAY - MINUTE)
    times = sorted(
        [MONDAY + 600 * number for number in range(30)] + [MONDAY + 77 + 2100 * number for number in range(9)]
    )
    fleet.ran(*times)

    for at in times[2:]:
        assert {str(one.state) for one in fleet.look(at + 1).judgements} <= {"on time", "waiting"}, at


@pytest.mark.parametrize("producers", [(BEAT, OTHER), (None, None)])
def test_two_beats_are_found(producers: tuple[str | None, str | None]) -> None:
    """Given a second beat, then the schedule is doubled: at its first due time if it is known who sends it, else at the
    second; until it ends.
    """
    fleet = Fleet(defined())
    fleet.ran(*hours(*range(6)), producer=producers[0])
    fleet.ran(*(at + 0.5 for at in hours(2, 3)), producer=producers[1])

    found = fleet.states(hours(1.5, 2.5))
    senders = fleet.one(MONDAY + 2.6 * HOUR).producers
    found += fleet.states(hours(3.5, 4.5, 5.5))

    assert set(senders) == (set() if producers[0] is None else {BEAT, OTHER})
    assert found == ["on time", "doubled" if producers[0] else "on time", "doubled", "on time", "on time"]


@pytest.mark.parametrize("producers", [(BEAT, OTHER), (None, None)])
def test_two_beats_with_a_period_are_found(producers: tuple[str | None, str | None]) -> None:
    """Given a second beat with a period, and so with a phase of its own, then it is found after two or three periods,
    and not earlier.
    """
    fleet = Fleet(defined(timetable="every 10m"), since=MONDAY - HOUR)
    first = [MONDAY + 600 * number for number in range(12)]
    fleet.ran(*first, producer=producers[0])
    fleet.ran(*(at + 200 for at in first[5:]), producer=producers[1])

    found = fleet.states(at + 300 for at in first)

    assert found[:6] == ["on time"] * 6
    assert found[8:] == ["doubled"] * 4


def test_the_same_sender_does_not_double() -> None:
    """Given a run by hand just when it is due, by somebody unknown, or twice by the same sender, then nothing is
    doubled."""
    fleet = Fleet(defined())
    fleet.ran(*hours(*range(6)), producer=BEAT)
    fleet.ran(MONDAY + 2 * HOUR + 3, producer=None)
    fleet.ran(MONDAY + 3 * HOUR + 3, producer=BEAT)

    assert set(fleet.states(hours(0.5, 1.5, 2.5, 3.5, 4.5, 5.5))) == {"on time"}


def test_a_beat_that_wakes_up_beside_its_successor() -> None:
    """Given a beat that is frozen, a second one in its place, and the first one waking up, then what both sent for one
    due time is doubled, though one of them came late.
    """
    fleet = Fleet(defined())
    fleet.ran(*hours(0, 1, 2), producer=BEAT)
    fleet.ran(*hours(3, 4, 5), producer=OTHER)
    fleet.ran(MONDAY + 5.4 * HOUR, producer=BEAT)

    assert fleet.states(hours(2.5, 3.5, 4.5, 5.2, 5.5)) == ["on time"] * 4 + ["doubled"]


def test_a_silent_beat_is_one_finding() -> None:
    """Given fifty schedules and a beat that died, then there is one silent beat with all that it missed so far, who it
    was, and since when; not before the second of them is missed. It ends when it sends again.
    """
    entries = [defined(f"entry {minute:02}", f"{minute} * * * *") for minute in range(50)]
    fleet = Fleet(*entries)
    fleet.ran(*(MONDAY + minute * MINUTE for minute in range(50)), producer=BEAT)
    fleet.ran(*(MONDAY + HOUR + minute * MINUTE for minute in range(20)), producer=BEAT)
    for minute in range(0, 86, 2):
        assert fleet.look(MONDAY + minute * MINUTE).beats == []
    fleet.look(MONDAY + HOUR + 26.5 * MINUTE)
    judged = fleet.look(MONDAY + HOUR + 27.5 * MINUTE)

    (silent,) = judged.beats
    assert (silent.key, silent.watched) == (BEAT if judged.judgements[20].producers else "beat", 50)
    assert silent.schedules == ("entry 20", "entry 21")
    assert silent.since == MONDAY + HOUR + 20 * MINUTE
    assert silent.last_heard == MONDAY + HOUR + 19 * MINUTE
    assert [one.beat for one in judged.judgements if one.state == "missed"] == [silent.key] * 2
    fleet.ran(MONDAY + HOUR + 28 * MINUTE, producer=OTHER)
    assert fleet.look(MONDAY + HOUR + 28.1 * MINUTE).beats == []


def test_a_beat_that_falls_silent_again_is_so_since_the_first_that_it_missed() -> None:
    """Given a beat that was killed twice, and a schedule that it missed both times, the second silence begins with that
    one, and it is among those that did not run; what is missed all the time makes no beat silent.
    """
    entries = [defined(f"entry {minute}", f"{minute} * * * *", task=f"t.{minute}") for minute in (0, 10, 20, 30)]
    fleet = Fleet(*entries)
    for minute in (0, 10, 20, 30):
        at = [MONDAY + hour * HOUR + minute * MINUTE for hour in range(4) if (hour, minute) != (3, 0)]
        fleet.ran(*at, producer=BEAT, task=f"t.{minute}")
    fleet.look(MONDAY + 3.2 * HOUR)
    assert fleet.look(MONDAY + 4 * HOUR + 9 * MINUTE).beats == []

    (silent,) = fleet.look(MONDAY + 4 * HOUR + 30 * MINUTE).beats

    assert (silent.since, silent.last_heard) == (MONDAY + 4 * HOUR, MONDAY + 3.5 * HOUR)
    assert silent.schedules == ("entry 0", "entry 10", "entry 20")


def test_one_schedule_that_is_missed_is_no_silent_beat() -> None:
    """Given two schedules of which one is sent and the other is not, then no beat is silent."""
    fleet = Fleet(defined("a"), defined("b", "1 * * * *", arguments="2"), defined("c", "2 * * * *"))
    fleet.ran(*hours(0, 1, 2, 3))
    fleet.ran(*(at + 120 for at in hours(0, 1, 2, 3)))

    judged = fleet.look(MONDAY + 3.5 * HOUR)

    assert [str(one.state) for one in judged.judgements].count("missed") == 1
    assert judged.beats == []


def test_two_applications_have_two_beats() -> None:
    """Given two applications of which one has a dead beat, then that one is silent, by its name."""
    fleet = Fleet(
        *(defined(f"a{number}", f"{number} * * * *", app="shop", task=f"t.a{number}") for number in range(3)),
        defined("b", app="stock"),
    )
    fleet.ran(*hours(*range(3)))

    (silent,) = fleet.look(MONDAY + 2.5 * HOUR).beats

    assert (silent.key, silent.schedules) == ("shop", ("a0", "a1", "a2"))


def test_one_of_two_beats_of_an_application() -> None:
    """Given two beats with schedules of their own in one application, and one of them dies, then that one is
    silent, and not the other. One that has taken over from a dead one is not silent, whatever was missed in between.
    """
    entries = [
        defined(f"{part}{number}", f"{number * 5} * * * *", task=f"t.{part}{number}")
        for part in "ab"
        for number in (0, 1)
    ]
    fleet = Fleet(*entries)
    for one in entries:
        name = BEAT if one.name[0] == "a" else OTHER
        fleet.ran(
            *(at + int(one.name[1]) * 300 for at in hours(*range(4 if name == BEAT else 8))),
            producer=name,
            task=one.task,
        )

    (silent,) = fleet.look(MONDAY + 5.5 * HOUR).beats
    assert (silent.key, silent.schedules, silent.watched) == (BEAT, ("a0", "a1"), 2)

    fleet = Fleet(
        *(
            replace(one, timetable=timetable)
            for one, timetable in zip(entries, ("5 3 * * *", "6 3 * * *", "0 * * * *", "0 * * * *"), strict=True)
        ),
        since=MONDAY - DAY,
    )
    fleet.ran(MONDAY - 21 * HOUR + 300, MONDAY + 3 * HOUR + 300, producer=BEAT, task="t.a0")
    fleet.ran(MONDAY - 21 * HOUR + 360, MONDAY + 3 * HOUR + 360, producer=BEAT, task="t.a1")
    for task in ("t.b0", "t.b1"):
        fleet.ran(*hours(*range(-23, 26)), producer=BEAT, task=task)
        fleet.ran(*hours(*range(28, 32)), producer=OTHER, task=task)
    fleet.look(MONDAY + 4 * HOUR)
    judged = fleet.look(MONDAY + 31.5 * HOUR)
    assert [str(one.state) for one in judged.judgements] == ["missed", "missed", "on time", "on time"]
    assert [one.producers for one in judged.judgements] == [(BEAT,), (BEAT,), (OTHER, BEAT), (OTHER, BEAT)]
    assert judged.beats == []


def test_a_clock_change_is_no_alarm() -> None:
    """Given the nights in which the clock changes, and a beat that runs an hour off in them, then nothing is missed or
    late; a beat that does not run at all is found an hour later than else.
    """
    for night in ("2026-03-29", "2026-10-25"):
        due = datetime.fromisoformat(f"{night}T02:30:00").replace(tzinfo=ZONE).timestamp()
        for off in (-HOUR, 0.0, HOUR):
            fleet = Fleet(defined(timetable="30 2 * * *"), since=due - 2.5 * DAY)
            fleet.ran(due - 2 * DAY, due - DAY)
            fleet.look(due - DAY + 1)
            fleet.ran(due + off)

            found = fleet.states(due + minutes * MINUTE for minutes in (-70, -1, 1, 20, 59, 61, 80, 200, 900))

            assert set(found) == {"on time"}, (night, off, found)
        fleet = Fleet(defined(timetable="30 2 * * *"), since=due - 2.5 * DAY)
        fleet.ran(due - 2 * DAY, due - DAY)
        assert fleet.states([due + 74 * MINUTE, due + 76 * MINUTE]) == ["on time", "missed"]


def test_a_look_repeats_without_a_difference() -> None:
    """Given that a leader looks again, or another one from what was kept, then the answer is the same, and kept is what
    JSON can hold.
    """
    import msgspec

    fleet = Fleet(defined(), defined("b", "every 7m"))
    fleet.ran(*hours(0, 1, 1.3, 2))
    first = fleet.look(MONDAY + 2.3 * HOUR)
    fleet.histories = {
        name: msgspec.json.decode(msgspec.json.encode(one), type=History) for name, one in fleet.histories.items()
    }

    assert fleet.look(MONDAY + 2.3 * HOUR) == first


def test_a_year_without_a_look_costs_little() -> None:
    """Given histories of a year ago, then only the last due times are gone through, and none is missed."""
    fleet = Fleet(defined(timetable="* * * * *"), defined("b", "every 1s"), since=MONDAY - 366 * DAY)
    fleet.known_since = MONDAY

    judged = fleet.look(MONDAY + 1)

    assert [one.missed for one in judged.judgements] == [0, 0]
    assert all(len(one.history.occurrences) <= MAX_OCCURRENCES for one in judged.judgements)
