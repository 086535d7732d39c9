"""`ha-monitor schedules`: what it lists, and how."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

import msgspec
import pytest

from ha_monitor.cli.main import main
from ha_monitor.schedules.model import Definition, History, Judgement, Occurrence, Run, ScheduleState, Source
from ha_monitor.store.schedules import Coverage, KnownSource, ScheduleChanges
from tests.unit.asked import NOW, serve

DAY = 86400.0


def due(at: float, delay: float | None = 0.5, state: ScheduleState = ScheduleState.ON_TIME) -> Occurrence:
    """A due time with a run that took a second, unless there is no delay."""
    if delay is None:
        return Occurrence(due=at, state=state)
    sent = at + delay
    run = Run(task_id=f"run-{at:.0f}", sent=sent, started=sent + 1, ended=sent + 2, state="SUCCESS")
    return Occurrence(due=at, state=state, run=run)


def schedule(name: str, state: ScheduleState = ScheduleState.ON_TIME, *times: Occurrence, **known: Any) -> Judgement:
    """A schedule that is due at the beginning of each day."""
    definition = Definition(
        name=name, task="shop.report", timetable="0 0 * * *", zone="Europe/Berlin", source=Source.CONF, **known
    )
    occurrences = times or (due(NOW - DAY), due(NOW - 3600))
    last = next((one for one in reversed(occurrences) if one.run is not None), None)
    missed = sum(one.state is ScheduleState.MISSED for one in occurrences)
    history = History(
        name, "0 0 * * *", "Europe/Berlin", NOW - 9 * DAY, occurrences=occurrences, next_due=NOW + 7200, missed=missed
    )
    return Judgement(definition, state, history, last=last, period=DAY)


MISSED = schedule("nightly report", ScheduleState.MISSED, due(NOW - DAY), due(NOW - 3600, None, ScheduleState.MISSED))
READ = {Source.CONF: KnownSource((), NOW - 200)}
COVERED = Coverage(NOW - 9 * DAY, NOW)


def test_what_did_not_run_comes_first(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Given schedules, those that did not run come first, and below is said where they are from."""
    serve(monkeypatch, schedules=ScheduleChanges([schedule("hourly"), MISSED], sources=READ, coverage=COVERED))

    assert main(["schedules"]) == 0

    out, error = capsys.readouterr()
    rows = [" ".join(line.split()) for line in out.splitlines()]
    assert rows == [
        "NAME TASK EVERY LAST NEXT STATE SOURCE",
        "nightly report shop.report 0 0 * * * 23h59m ago in 2h0m missed conf",
        "hourly shop.report 0 0 * * * 59m59s ago in 2h0m on time conf",
    ]
    assert error == (
        "2 schedules. Searched: the schedules of the settings of the workers, read 3m20s ago; the configuration. "
        "Complete.\n"
    )


def test_one_schedule_has_its_due_times_and_delays(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Given the name of one, its due times are listed, the latest first, with the run that came and how late it was."""
    serve(monkeypatch, schedules=ScheduleChanges([schedule("hourly"), MISSED], sources=READ, coverage=COVERED))

    assert main(["schedules", "nightly report", "--time", "utc"]) == 0

    rows = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert rows[0] == "nightly report missed"
    assert "due 0 0 * * *, Europe/Berlin" in rows
    assert rows[-3:] == [
        "DUE STATE DELAY RAN TASK-STATE TASK",
        "2026-11-25T04:54:03 missed",
        f"2026-11-24T05:54:03 on time 500ms 1.0s SUCCESS run-{NOW - DAY:.0f}",
    ]


def test_programs_get_all_that_is_known(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Given `-o json`, times are in UTC, and one schedule has its due times; a list has not."""
    serve(monkeypatch, schedules=ScheduleChanges([MISSED], sources=READ, coverage=COVERED))

    assert main(["schedules", "nightly report", "-o", "json"]) == 0
    (item,) = json.loads(capsys.readouterr().out)["items"]
    assert (item["state"], item["missed"], item["schedule"], item["source"]) == ("missed", 1, "0 0 * * *", "conf")
    assert [(one["state"], one["delay"]) for one in item["due_times"]] == [("missed", None), ("on time", 0.5)]
    assert main(["schedules", "-o", "jsonl"]) == 0
    assert "due_times" not in json.loads(capsys.readouterr().out)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (ScheduleChanges(), "schedules that the workers know: none was asked yet"),
        (
            ScheduleChanges(sources={Source.CONF: KnownSource((), NOW - 60, "access refused")}),
            "schedules of the settings of the workers: access refused",
        ),
        (
            ScheduleChanges(sources={Source.CONF: KnownSource((), NOW, is_partial=True)}),
            "schedules of the settings of the workers: not all that were asked answered",
        ),
        (
            ScheduleChanges(sources=READ, coverage=Coverage(NOW - 9 * DAY, NOW, ((NOW - 60, NOW - 50),))),
            "runs, since no instance listened",
        ),
    ],
)
def test_what_may_be_missing_is_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], changes: ScheduleChanges, said: str
) -> None:
    """Given workers that were not asked, or a time in which nobody listened, the answer says so."""
    serve(monkeypatch, schedules=changes)

    assert main(["schedules"]) == 0
    assert f"May lack: {said}" in capsys.readouterr().err


def test_an_unknown_name_is_a_no(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Given a name that no schedule has, the exit status says so, in every form."""
    serve(monkeypatch, schedules=ScheduleChanges([MISSED], sources=READ, coverage=COVERED))

    assert main(["schedules", "unheard"]) == 1
    assert "no schedule has this name" in capsys.readouterr().err
    assert main(["schedules", "--fail-if-any"]) == 1


@pytest.mark.parametrize(
    ("timetable", "kept", "after"),
    [
        ("every 10s", NOW - 31, 9.0),
        ("every 10s", NOW, 10.0),
        ("every 10s", NOW + 3, 3.0),
        ("* * * * *", NOW - 200, 60 - NOW % 60),
        ("once 2026-11-01T00:00:00Z", NOW - 200, None),
        ("nonsense", NOW - 200, None),
    ],
)
def test_when_it_is_due_next_is_never_in_the_past(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    timetable: str,
    kept: float,
    after: float | None,
) -> None:
    """Given a schedule that was judged a while ago, when it is due next follows from its timetable and from now."""
    one = schedule("often")
    definition = msgspec.structs.replace(one.definition, timetable=timetable)
    history = msgspec.structs.replace(one.history, next_due=kept)
    one = msgspec.structs.replace(one, definition=definition, history=history)
    serve(monkeypatch, schedules=ScheduleChanges([one], sources=READ, coverage=COVERED))

    assert main(["schedules", "-o", "json"]) == 0
    (item,) = json.loads(capsys.readouterr().out)["items"]

    found = None if item["next"] is None else round(datetime.fromisoformat(item["next"]).timestamp() - NOW, 3)
    assert found == after
