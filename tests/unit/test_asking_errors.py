"""`ha-monitor errors` and `ha-monitor names`, and tasks by the group of their error."""

from __future__ import annotations

import json

import pytest

from ha_monitor.clock import SystemClock
from ha_monitor.events.catalogue import State
from ha_monitor.query.language import parse_filter
from ha_monitor.query.search import Search
from ha_monitor.query.statistics import DAY
from ha_monitor.store.error_groups import MAX_TASKS, FailedTask, GroupState
from ha_monitor.store.queries import StoryEvent
from tests.unit.asked import NOW, Asked, group, serve, statistic, task
from tests.unit.test_asking import Call, call

__all__ = ["call"]

PAY = group(retries=1, tasks=(FailedTask("t2", NOW - 60), FailedTask("t1", NOW - 70), FailedTask("gone", NOW - 80)))
MAIL = group(
    "77aa000001", name="mail.send", error_class="Late", failures=9, last=NOW - 4000, by_hour=(*(0,) * 22, 9, 0)
)
TASKS = [
    task("t1", State.FAILURE, worker="celery@b", error_group=PAY.id),
    task("t2", State.FAILURE, worker="celery@a", error_group=PAY.id),
]


def test_a_list_of_groups(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    """Given two groups, the one that came last is first: with its counts, the workers of its latest tasks, and one of
    these; what was searched is said beside the data."""
    serve(monkeypatch, *TASKS, groups=[MAIL, PAY])

    status, out, err = call("errors", "-o", "tsv")
    header, *rows = (line.split("\t") for line in out.splitlines())
    pay, mail = (dict(zip(header, row, strict=True)) for row in rows)

    assert status == 0
    assert (pay["group"], mail["group"]) == (PAY.id, MAIL.id)
    assert [pay[name] for name in ("state", "count", "hour", "day", "retries")] == ["known", "5", "2", "5", "1"]
    assert [pay[name] for name in ("name", "error", "place")] == ["shop.pay", "Declined", "shop/tasks.py:charge"]
    assert (pay["workers"], pay["example"]) == ("celery@a, celery@b", "t2")
    assert err == "2 groups of errors. Searched: all groups of errors, at most the 2,000 that came last. Complete.\n"


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--sort", "count"], [MAIL.id, PAY.id]),
        (["--sort", "hour"], [PAY.id, MAIL.id]),
        (["-r"], [MAIL.id, PAY.id]),
        (["-n", "1"], [PAY.id]),
        (["--since", "-1h"], [PAY.id]),
        (["--until", "-3h"], []),
        (["--since", "2020-01-01", "--until", "now"], [PAY.id, MAIL.id]),
    ],
)
def test_which_groups_and_in_which_order(
    call: Call, monkeypatch: pytest.MonkeyPatch, arguments: list[str], expected: list[str]
) -> None:
    """Given an order, a limit or a time, the list has the groups that it asks for."""
    serve(monkeypatch, groups=[PAY, MAIL])

    assert call("errors", "-o", "ids", *arguments)[1].split() == expected


def test_one_group(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    """Given the beginning of a group's id, all about it is told: the latest tasks whose records are kept, with their
    workers, and the traceback, in which no control character gets through."""
    odd = PAY._replace(traceback=PAY.traceback + "\x1b[31mred\n", message="no\x1b]0;x")
    serve(monkeypatch, *TASKS, groups=[odd, MAIL])

    status, out, err = call("errors", "0f3c", "--time", "utc")

    assert status == 0
    assert out.splitlines()[0] == "shop.pay  Declined  known"
    assert "errors     5 failures, 1 retry; 2 failed in this hour, 5 in 24 hours" in out
    assert "workers    celery@a, celery@b" in out
    assert [row.split()[-1] for row in out.splitlines() if "FAILURE" in row] == ["t2", "t1"]
    assert 'File "/srv/shop/tasks.py", line 9, in charge' in out
    assert "\x1b" not in out + err
    (one,) = json.loads(call("errors", PAY.id, "-o", "json")[1])["items"]
    assert one["traceback"] == odd.traceback
    assert [found["task_id"] for found in one["tasks"]] == ["t2", "t1", "gone"]


def test_a_group_that_does_not_exist(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    """Given an id that no group has, or that several begin with, one line says so, and the status is 1."""
    serve(monkeypatch, groups=[PAY, MAIL._replace(id="0f3c000000")])

    assert call("errors", "ffff") == (1, "", "ha-monitor: ffff: no group of errors has this id\n")
    status, out, err = call("errors", "0f3c")
    assert (status, out) == (1, "")
    assert err == f"ha-monitor: 0f3c: 2 groups begin so: {PAY.id}, 0f3c000000\n"


def test_what_is_said_of_a_group(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    """Given a group that a person marks, it is shown as it is then; without an id that is wrong usage."""
    asked = serve(monkeypatch, groups=[PAY])

    assert call("errors", "0f3c", "--resolve")[1].splitlines()[0].endswith("resolved")
    assert asked.groups[PAY.id].resolved_at == NOW
    assert call("errors", "0f3c", "--ignore", "2h")[1].splitlines()[0].endswith("ignored")
    assert asked.groups[PAY.id].ignored_until == NOW + 7200
    assert call("errors", "0f3c", "--reopen")[1].splitlines()[0].endswith("known")
    assert asked.groups[PAY.id].state is GroupState.KNOWN
    for arguments, said in (
        (["--resolve"], "--resolve, --ignore and --reopen need the id of a group"),
        ([PAY.id, "--ignore", "soon"], "argument --ignore: expected a duration"),
        ([PAY.id, "--resolve", "--reopen"], "not allowed with argument"),
        (["--since", "soon"], "expected a time"),
    ):
        status, out, err = call("errors", *arguments)
        assert (status, out) == (64, "")
        assert said in err


def test_tasks_of_a_group_that_knows_all_of_them(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    """Given a group with few tasks, those are all that are read, also one that was retried for the error and then
    succeeded; of a group that does not exist that is said."""
    again = task("t3", name="shop.pay", retry_error_groups=["ffff", PAY.id])
    known = PAY._replace(tasks=(*PAY.tasks, FailedTask("t3", NOW - 90)))
    others = [task(f"other-{number}", State.FAILURE) for number in range(50)]
    asked = serve(monkeypatch, *TASKS, again, *others, groups=[known])

    status, out, err = call("tasks", f"error={PAY.id}", "-o", "ids")
    assert (status, set(out.split())) == (0, {"t1", "t2", "t3"})
    assert "Searched: the latest tasks of the groups of errors that were named. Complete." in err
    assert asked.read <= 10
    assert set(call("tasks", f"error={PAY.id}", "state=FAILURE", "-o", "ids")[1].split()) == {"t1", "t2"}
    assert "May lack: tasks of the group of errors ffff, of which nothing is known." in call("tasks", "error=ffff")[2]


def test_tasks_of_a_group_that_knows_its_latest() -> None:
    """Given a group with more tasks than it knows, the others are found among what failed, and by its name."""
    found = [task(f"t{n:02}", State.FAILURE, at=NOW - 100 - n, error_group=PAY.id) for n in range(MAX_TASKS + 10)]
    late = task("late", at=NOW - 900, retry_error_groups=[PAY.id])
    latest = tuple(FailedTask(one.record.task_id, NOW - 90) for one in found[:MAX_TASKS])
    asked = Asked(*found, late, task("other"), groups=[PAY._replace(tasks=latest)])

    answer = Search(asked, SystemClock()).find(parse_filter([f"error={PAY.id}"], NOW), 0)
    assert {one.record.task_id for one in answer.tasks} == {one.record.task_id for one in [*found, late]}
    assert "the newest 200 tasks of shop.pay" in answer.searched


def test_the_story_names_the_errors(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    """Given a task that was retried for an error and failed with another, its story says at which step."""
    story = [
        StoryEvent("task-received", NOW - 60),
        StoryEvent("task-retried", NOW - 50, error_group="77aa000001"),
        StoryEvent("task-failed", NOW - 40, error_group=PAY.id),
    ]
    serve(monkeypatch, task("t1", State.FAILURE, story=story, error_group=PAY.id))

    out = call("task", "t1")[1]
    assert "task-retried   retry 1, error 77aa000001" in out
    assert f"task-failed    error {PAY.id}" in out
    assert f"error      {PAY.id}" in out
    (one,) = json.loads(call("task", "t1", "-o", "json")[1])["items"]
    assert [step["error"] for step in one["story"]] == [None, "77aa000001", PAY.id]
    assert one["error"] == PAY.id


def test_what_was_run_by_name(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    """Given runs of this hour and of the same hour a day before, each name has both, that with most failures first;
    one that ran only then is listed, and one that ran in neither is not."""
    runs = [(NOW - 600, statistic("shop.pay", 8, 2)), (NOW - 600, statistic("mail.send", 50, runtime=4.0))]
    runs += [(NOW - 600 - DAY, statistic("shop.pay", 4, 1)), (NOW - 600 - DAY, statistic("nightly", 1))]
    serve(monkeypatch, runs=[*runs, (NOW - 9000, statistic("old", 5))])

    status, out, err = call("names", "-o", "tsv")
    header, *rows = (line.split("\t") for line in out.splitlines())
    pay, mail, nightly = (dict(zip(header, row, strict=True)) for row in rows)
    assert status == 0
    shown = ("name", "runs", "failed", "runs-1d", "failed-1d")
    assert [pay[name] for name in shown] == ["shop.pay", "10", "2", "5", "1"]
    assert float(mail["p50"]) == pytest.approx(4.0, rel=0.2)
    assert float(mail["wait-p95"]) == pytest.approx(2.0, rel=0.2)
    assert [nightly[name] for name in ("name", "runs", "p50", "runs-1d")] == ["nightly", "0", "", "1"]
    assert "3 names. Searched: what was run between " in err
    (one,) = json.loads(call("names", "shop.*", "-o", "json")[1])["items"]
    assert (one["name"], one["now"]["runs"], one["day_before"]["runs"]) == ("shop.pay", 10, 5)


def test_which_names_and_in_which_order(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    """Given an order, a limit and a time, the list is as asked; a time from before what is kept is said."""
    runs = [(NOW - 600, statistic("a", 8, 2)), (NOW - 600, statistic("b", 50, runtime=4.0))]
    serve(monkeypatch, runs=[*runs, (NOW - 9000, statistic("old", 5))])

    assert call("names", "-o", "ids")[1].split() == ["a", "b"]
    assert call("names", "-o", "ids", "--sort", "p95", "-n", "1")[1].split() == ["b"]
    assert call("names", "-o", "ids", "--sort", "runs", "-r")[1].split() == ["a", "b"]
    assert call("names", "-o", "ids", "--since", "-3h", "--until", "-2h")[1].split() == ["old"]
    assert "May lack: runs before " in call("names", "--since", "-4d")[2]
    assert "May lack: runs before " in call("names", "--since", "-50h")[2]  # of the day before
    assert "Complete." in call("names", "--since", "-48h")[2]
    assert call("names", "--since", "soon")[0] == 64
