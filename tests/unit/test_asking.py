"""The commands that ask, as a person or a program calls them."""

from __future__ import annotations

import json
import os
import pty
import re
import sys
from collections.abc import Callable
from contextlib import suppress

import pytest

from ha_monitor.cli.main import joined, main
from ha_monitor.cli.tasks import ChangeFinder
from ha_monitor.errors import StoreUnavailable
from ha_monitor.events.catalogue import State
from ha_monitor.store.queries import Gap, StoryEvent
from ha_monitor.store.worker_runs import Abandoned
from ha_monitor.text.visible import columns
from tests.unit.asked import NOW, serve, task, worker

ID = "8d3b9c4e-1f0a-4b7e-9a51-2f6d0c1e7a90"
OTHER = "8d3c77aa-5d2e-4f11-8a3c-77aa5d2e4f11"
FAILED = task(ID, State.FAILURE, name="shop.charge_card", exception="ValueError('card declined for order 17')")
RUNS = task(OTHER, State.STARTED, at=NOW - 700, name="shop.book_parcel")
Call = Callable[..., tuple[int, str, str]]


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    """Calls the program, over two tasks if nothing else is served, and returns its status and what it wrote."""
    for name in [name for name in os.environ if name.startswith("HA_MONITOR_")]:
        monkeypatch.delenv(name)
    serve(monkeypatch, FAILED, RUNS, workers=[worker("celery@a"), worker("celery@b", "lost", silent=70.0)])

    def run(*arguments: str) -> tuple[int, str, str]:
        try:
            status = main(arguments)
        except SystemExit as ended:
            status = int(ended.code or 0)
        written = capsys.readouterr()
        return status, written.out, written.err

    return run


def test_a_list_of_tasks(call: Call) -> None:
    """Given a filter, matching tasks are listed whole in a pipe; what was searched is said beside the data."""
    status, out, err = call("tasks", "state=FAILURE", "name=shop.*")

    assert status == 0
    assert [row.split()[:2] for row in out.splitlines()] == [["ID", "STATE"], [ID, "FAILURE"]]
    assert "ValueError('card declined for order 17')" in out
    assert err == "1 task. Searched: what failed, was rejected or revoked. Complete.\n"


def test_flags_may_stand_anywhere(call: Call) -> None:
    """Given flags before, between and behind the words of a filter, and a time with a dash before it, all are read."""
    for arguments in (
        ["state=FAILURE", "--since", "-1h", "name=shop.*", "-o", "ids"],
        ["--since", "-1h", "-o", "ids", "state=FAILURE", "name=shop.*"],
        ["-o", "ids", "state=FAILURE", "--since=-1h", "name=shop.*"],
    ):
        assert call("tasks", *arguments)[:2] == (0, f"{ID}\n")
    assert call("tasks", "state=FAILURE", "--since", "-10s", "-o", "ids")[:2] == (0, "")
    assert joined(["--until", "-5m", "-1"]) == ["--until=-5m", "-1"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["tasks", "stat=FAILURE"], "ha-monitor: stat: unknown field, did you mean state? The fields are state, name,"),
        (["tasks", "runtime"], "runtime: expected runtime>5s; in a shell, > and < must be quoted"),
        (["tasks", "--sort", "nam"], "nam: unknown field, did you mean name?"),
        (["tasks", "--sort", "since"], "--sort since: the newest come first anyway"),
        (["tasks", "--since", "soon"], "since=soon: expected a time such as -1h, 02:00"),
        (["tasks", "-n", "many"], "argument -n/--limit: expected a number from 0 to 1000000"),
        (["tasks", "--watch=soon"], "argument --watch: expected a duration"),
        (["tasks", "--nonsense"], "tasks does not take --nonsense; see ha-monitor tasks --help"),
        (["queues", "--since", "-1h"], "queues does not take --since; see ha-monitor queues --help"),
        (["names", "--until"], "argument --until: expected one argument; see ha-monitor names --help"),
        (["task"], "the following arguments are required: ID"),
    ],
)
def test_what_means_nothing_is_wrong_usage(call: Call, arguments: list[str], said: str) -> None:
    """Given a command line that means nothing, the one line says what is wrong, and nothing was asked."""
    status, out, err = call(*arguments)

    assert (status, out, err.count("\n")) == (64, "", 1)
    assert said in err


def test_the_answer_as_one_document(call: Call) -> None:
    """Given JSON, it is one document with when, what was searched, and whether it is complete; times are in UTC."""
    _, out, err = call("tasks", "state=FAILURE", "-o", "json")
    found = json.loads(out)

    assert {name: found[name] for name in ("complete", "gaps", "searched", "more")} == {
        "complete": True,
        "gaps": [],
        "searched": "what failed, was rejected or revoked",
        "more": False,
    }
    assert found["time"].endswith("Z")
    (one,) = found["items"]
    assert (one["task_id"], one["state"], one["runtime"], one["queue_time"]) == (ID, "FAILURE", 1.0, 2.0)
    assert re.fullmatch(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", one["finished"])
    assert err == ""


def test_an_object_a_line(call: Call) -> None:
    """Given jsonl, each row is an object."""
    _, out, _ = call("tasks", "-o", "jsonl")

    assert [json.loads(row)["task_id"] for row in out.splitlines()] == [ID, OTHER]


def test_values_for_programs(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    """Given tsv, each row has the same number of values, durations in seconds and times in UTC, whatever is in them."""
    serve(monkeypatch, task("a\tb\nc", State.FAILURE, exception="x\ty\n"))

    _, out, _ = call("tasks", "-o", "tsv")
    header, row = (line.split("\t") for line in out.splitlines())

    assert len(header) == len(row)
    assert (row[0], row[header.index("runtime")]) == (r"a\tb\nc", "1.000000")
    assert row[header.index("sent")].endswith("Z")
    assert call("tasks", "-o", "tsv", "--no-legend")[1].count("\n") == 1


def test_nothing_found_is_no_failure(call: Call) -> None:
    """Given nothing that matches, the list is empty and the status 0, unless the caller says otherwise."""
    assert call("tasks", "name=none.such")[:2] == (0, "")
    assert call("tasks", "name=none.such", "--fail-if-none")[0] == 1
    assert call("tasks", "--fail-if-none")[0] == 0
    assert call("tasks", "--fail-if-any")[0] == 1


def test_no_legend(call: Call) -> None:
    """Given --no-legend, there is nothing but the rows."""
    _, out, err = call("tasks", "--no-legend")

    assert out.startswith(ID)
    assert err == ""


def test_what_may_be_missing_is_said(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    """Given a loss in the time that a list touches, it stands below the list and in the document."""
    gap = Gap("12 starts of celery@app3", NOW - 600, NOW - 500)
    serve(monkeypatch, FAILED, RUNS, gaps=[gap])

    assert "May lack: 12 starts of celery@app3 between 20" in call("tasks")[2]
    found = json.loads(call("tasks", "-o", "json")[1])
    assert (found["complete"], found["gaps"][0]["what"]) == (False, "12 starts of celery@app3")


def test_more_than_are_shown(call: Call) -> None:
    """Given a limit, the sentence says that there is more."""
    assert call("tasks", "-n", "1")[2].startswith("1 task, and there are more (-n 0: all). Searched: ")


def test_sorted_and_reversed(call: Call) -> None:
    """Given a field to sort by, or the reverse, the order is that."""
    assert call("tasks", "--sort", "runtime", "-o", "ids")[1].split() == [OTHER, ID]
    assert call("tasks", "-r", "-o", "ids")[1].split() == [OTHER, ID]


def test_a_story(call: Call) -> None:
    """Given the beginning of an id, the story of the task is told, event by event."""
    status, out, _ = call("task", "8d3c", "--time", "utc")

    assert status == 0
    assert out.splitlines()[0] == "shop.book_parcel  STARTED"
    assert re.search(r"Z +\+1\.0s  task-received$", out, re.MULTILINE)
    assert "It has been running for 11m38s on celery@a." in out


def test_a_task_whose_worker_is_lost(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    """Given an open task on a lost worker, that is said."""
    serve(monkeypatch, RUNS, workers=[worker("celery@a", "lost")])

    assert "Its worker celery@a is lost." in call("task", OTHER)[1]


def test_an_ambiguous_or_unknown_id(call: Call) -> None:
    """Given a beginning of two ids, both are named; of none, where it was looked for. The status is 1 for both."""
    status, out, err = call("task", "8d3")
    assert (status, out) == (1, "")
    assert err.splitlines()[:3] == [
        "ha-monitor: 8d3: 2 tasks begin so:",
        f"  {ID}  FAILURE  shop.charge_card",
        f"  {OTHER}  STARTED  shop.book_parcel",
    ]

    status, out, err = call("task", "zz")
    assert (status, out) == (1, "")
    assert "zz: no task has this id, and none begins so among the newest tasks of each name" in err
    assert err.count("\n") == 1


def test_one_of_two_ids_is_known(call: Call) -> None:
    """Given a known and an unknown id, the known one is told, and the status is 1."""
    status, out, _ = call("task", ID, "zz", "-o", "ids")

    assert (status, out) == (1, f"{ID}\n")


def test_a_tree(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    """Given a workflow, its tree and its critical path are told, and in JSON."""
    root = task("r", at=NOW - 90, name="shop.order", root_id="r")
    child = task("c", at=NOW - 80, name="shop.pay", root_id="r", parent_id="r")
    serve(monkeypatch, root, child)

    _, out, err = call("task", "c", "--tree")
    assert "The tree of r: 2 tasks" in out
    assert re.search(r"^  shop\.order .*\n    shop\.pay ", out, re.MULTILINE)
    assert "The critical path: 2 tasks, which waited 4.0s and ran 2.0s" in out
    assert "A group or chord that a client sent" in err
    found = json.loads(call("task", "c", "--tree", "-o", "json")[1])["items"][0]
    assert [(one["task_id"], one["parent"]) for one in found["tree"]] == [("c", "r"), ("r", None)]
    assert [one["task_id"] for one in found["critical_path"]] == ["r", "c"]
    assert [one["type"] for one in found["story"]] == ["task-sent", "task-received", "task-started", "task-succeeded"]


def test_workers(call: Call) -> None:
    """Given workers, those that are lost come first; of a single one its tasks are listed, the oldest first, and what
    failed there.
    """
    status, out, _ = call("workers", "-o", "ids")
    assert (status, out.split()) == (0, ["celery@b", "celery@a"])

    status, out, _ = call("workers", "celery@a")
    assert status == 0
    assert "py-celery 5.7.0" in out
    _, runs, failed = out.split("\n\n")
    assert (OTHER in runs, ID in runs) == (True, False)
    assert (OTHER in failed, ID in failed) == (False, True)
    assert ID not in call("workers", "celery@b")[1], "it failed elsewhere"

    assert call("workers", "celery@*", "-o", "ids")[1].split() == ["celery@b", "celery@a"]
    assert call("workers", "none")[0] == 1
    assert call("workers", "none")[2].endswith("none: no worker has this name; ha-monitor workers lists them\n")
    found = json.loads(call("workers", "celery@b", "-o", "json")[1])
    assert [(one["name"], one["state"]) for one in found["items"]] == [("celery@b", "lost")]


def test_what_became_of_the_tasks_of_a_lost_worker(monkeypatch: pytest.MonkeyPatch, call: Call) -> None:
    """Given a lost worker that had tasks, of it alone is told what became of each: one that another worker ran, one
    that has ended, an orphan, one that is still open, and one whose record has expired; not one that it had retried,
    and which another one took then."""
    begun = [StoryEvent("task-received", NOW - 99), StoryEvent("task-started", NOW - 98)]
    retried = [StoryEvent("task-retried", NOW - 97)]
    tasks = [
        task("again", worker="celery@a", story=[*begun, *begun]),
        task("retried", worker="celery@a", story=[*begun, *retried, *begun]),
        task("ended", State.FAILURE, worker="celery@b"),
        task("orphan", State.STARTED, worker="celery@b"),
        task("open", State.RECEIVED, worker="celery@b"),
        task("late", State.RETRY, worker="celery@b"),
    ]
    ids = [*(one.record.task_id for one in tasks), "gone"]
    left = {"celery@b": [Abandoned(one, one == "orphan") for one in ids]}
    serve(monkeypatch, *tasks, workers=[worker("celery@a"), worker("celery@b", "lost", silent=70.0)], left=left)

    _, out, _ = call("workers", "celery@b")
    fates = out.split("\n\n")[1].splitlines()
    assert fates[0] == "Of the 5 tasks that it had when it was lost:"
    assert [row.split() for row in fates[2:]] == [
        ["run", "again", "elsewhere", "1", "again"],
        ["ended", "1", "ended"],
        ["orphaned", "1", "orphan"],
        ["still", "open", "1", "open"],
        ["record", "expired", "1", "gone"],
    ]
    (item,) = json.loads(call("workers", "celery@b", "-o", "json")[1])["items"]
    assert item["left"]["run_again"] == {"count": 1, "ids": ["again"]}
    assert (item["failed"], item["rate"] > 0) == (1, True)
    assert [one["left"] for one in json.loads(call("workers", "-o", "json")[1])["items"]] == [None, None]


def at_terminal(monkeypatch: pytest.MonkeyPatch, width: int, *arguments: str) -> str:
    """What a call writes to a terminal."""
    master, slave = pty.openpty()
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setenv("TERM", "xterm")
    with os.fdopen(slave, "w", encoding="utf-8") as stream, monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", stream)
        assert main(arguments) == 0
    written = b""
    with suppress(OSError):  # a terminal that nobody writes to any more
        while piece := os.read(master, 100_000):
            written += piece
    os.close(master)
    return written.decode()


@pytest.mark.parametrize("width", [40, 80, 200])
@pytest.mark.usefixtures("call")
def test_a_terminal_gets_rows_of_its_width(monkeypatch: pytest.MonkeyPatch, width: int) -> None:
    """Given a terminal, no row is wider, the state is in colour, and enough of each id is there to name it."""
    monkeypatch.delenv("NO_COLOR", raising=False)
    written = at_terminal(monkeypatch, width, "tasks")
    rows = re.sub(r"\x1b\[[0-9;]*m", "", written).split("\r\n")[:-1]

    assert "\x1b[31mFAILURE\x1b[0m" in written
    assert [row for row in rows if columns(row) > width] == []
    assert (ID in written) is (width == 200)
    assert rows[1].startswith(ID[:8])


@pytest.mark.usefixtures("call")
def test_no_colour_where_none_is_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Given NO_COLOR, or --color never, a terminal gets none; --color always colours even a pipe."""
    assert "\x1b[31m" not in at_terminal(monkeypatch, 80, "tasks", "--color", "never")
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b" not in at_terminal(monkeypatch, 80, "tasks")
    assert "\x1b[31m" in at_terminal(monkeypatch, 80, "tasks", "--color", "always")


def away(*_: object) -> object:
    """In place of a question: the store is away."""
    raise StoreUnavailable("Redis at h: away")


def interrupted(monkeypatch: pytest.MonkeyPatch, *meanwhile: Callable[[], object]) -> None:
    """Have something happen each time that a command waits, and somebody interrupt it at last."""
    todo = list(meanwhile)

    def sleep(_seconds: float) -> None:
        if not todo:
            raise KeyboardInterrupt
        todo.pop(0)()

    monkeypatch.setattr("time.sleep", sleep)


def test_following(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    """Given -f, what comes and what changes is listed as it does, the latest last, until ^C."""
    asked = serve(monkeypatch, RUNS)
    new = task("new", State.FAILURE, at=NOW - 5)
    done = task(OTHER, State.SUCCESS, at=NOW - 700)
    interrupted(
        monkeypatch,
        lambda: asked.kept.update({"new": new}),
        lambda: asked.kept.update({OTHER: done}),
        lambda: None,
    )

    status, out, err = call("tasks", "-f", "-o", "ids")

    assert (status, out.split()) == (130, [OTHER, "new", OTHER])
    assert "following; ^C ends it" in err


def test_following_lists_what_changes_alone(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    """Given more tasks than are listed at first, those that are followed and do not change are not listed later; that
    older ones are not followed is said once, also where nothing is said of the list.
    """
    many = [task(f"t{number}", State.STARTED, at=NOW - number) for number in range(250)]
    asked = serve(monkeypatch, *many)
    done = task("t199", State.SUCCESS, at=NOW - 199)
    beyond = task("t200", State.SUCCESS, at=NOW - 200)
    interrupted(monkeypatch, lambda: None, lambda: asked.kept.update(t199=done, t200=beyond), lambda: None)

    _, out, err = call("tasks", "-f", "-n", "2", "-o", "ids", "--no-legend")

    assert out.split() == ["t1", "t0", "t199"]
    assert err == (
        "ha-monitor: only the 200 newest of these tasks are followed; ha-monitor tail shows what becomes of any\n"
    )


def test_all_failures_are_followed(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    """Given more failures than are followed, an old task that fails is listed, and nothing is said to be missing."""
    many = [task(f"t{number}", State.FAILURE, at=NOW - 10 - number) for number in range(250)]
    asked = serve(monkeypatch, *many)
    late = task("late", State.FAILURE, at=NOW - 9000, finished=NOW)
    interrupted(monkeypatch, lambda: asked.kept.update(late=late))

    assert call("tasks", "state=FAILURE", "-f", "-n", "1", "-o", "ids", "--no-legend") == (130, "t0\nlate\n", "")


@pytest.mark.parametrize(("known", "come", "skips"), [(0, 250, True), (0, 200, False), (1, 200, True), (1, 199, False)])
def test_what_following_may_have_missed_is_said(
    call: Call, monkeypatch: pytest.MonkeyPatch, known: int, come: int, skips: bool
) -> None:
    """Given so many tasks between two looks that some may not have been seen, that is said."""
    asked = serve(monkeypatch, *[task("first", State.STARTED, at=NOW - 2000)][:known])
    new = {f"t{number}": task(f"t{number}", State.STARTED, at=NOW - number) for number in range(come)}
    interrupted(monkeypatch, lambda: asked.kept.update(new))

    _, out, err = call("tasks", "-f", "-o", "ids", "--no-legend")

    assert len(out.split()) == known + min(come, 200)
    missed = "ha-monitor: more than 200 tasks came since the look before; the oldest of them may not be shown\n"
    assert err.count(missed) == skips


def test_following_outlives_the_store(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    """Given a store that goes away, that is said once, and when it is there again; what came meanwhile is listed."""
    asked = serve(monkeypatch, RUNS)

    real = asked.tasks
    interrupted(
        monkeypatch,
        lambda: setattr(asked, "tasks", away),
        lambda: None,
        lambda: (setattr(asked, "tasks", real), asked.kept.update({"new": task("new")})),
    )

    status, out, err = call("tasks", "-f", "-o", "ids", "--no-legend")

    assert (status, out.split()) == (130, [OTHER, "new"])
    first, second = err.splitlines()
    assert re.fullmatch(r"ha-monitor: Redis at h: away \(store\.url is the default.*\); waiting for it", first)
    assert second == "ha-monitor: the store is there again"


def test_what_a_look_may_lack_is_said(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    """Given losses while it follows, they are said when they begin, with and without a legend."""
    asked = serve(monkeypatch, RUNS)
    gaps = [Gap("lost events", NOW - 10, NOW)]
    interrupted(monkeypatch, lambda: setattr(asked, "_gaps", gaps), lambda: None)

    _, _, err = call("tasks", "-f", "-o", "ids", "--no-legend")
    assert re.fullmatch(r"ha-monitor: May lack: lost events between 20.* and 20.*\.\n", err)


def test_what_is_remembered_while_following_is_bounded() -> None:
    """Given ever more tasks, only the states of the latest are remembered, and those that are looked at always."""
    followed = ChangeFinder()
    for start in range(0, 30_000, 200):
        some = [task(f"t{number}") for number in range(start + 199, start - 1, -1)]
        assert len(followed.changed(some, more=False)) == 200
        assert followed.changed(some, more=False) == []

    assert len(followed._states) == 10_000
    many = [task(f"m{number}") for number in range(11_000)]
    followed.changed(many, more=False)
    assert followed.changed(many, more=False) == []


def test_watching(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    """Given --watch, the list is written again and again, until ^C; a store that is away meanwhile ends nothing."""
    asked = serve(monkeypatch, RUNS)

    real = asked.tasks
    interrupted(
        monkeypatch,
        lambda: setattr(asked, "tasks", away),
        lambda: (setattr(asked, "tasks", real), asked.kept.update({"new": task("new")})),
    )

    status, out, err = call("tasks", "--watch=1", "-o", "ids")

    assert (status, out.split()) == (130, [OTHER, OTHER, "new", OTHER])
    assert re.search(
        r"^ha-monitor: Redis at h: away \(store.url is the default.*\); this is what was known at 20", err, re.M
    )


def test_watching_a_worker(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    """Given --watch and one worker, its tasks are listed each time, as they are then; a store that is away meanwhile
    ends nothing.
    """
    asked = serve(monkeypatch, RUNS, workers=[worker("celery@a")])

    real = asked.tasks
    interrupted(
        monkeypatch,
        lambda: setattr(asked, "tasks", away),
        lambda: (setattr(asked, "tasks", real), asked.kept.update({"new": task("new", State.STARTED)})),
    )

    status, out, _ = call("workers", "celery@a", "--watch=1")

    assert (status, out.count("py-celery 5.7.0")) == (130, 3)
    assert (out.count(OTHER), out.count("new ")) == (2, 1)


def test_watching_in_a_pipe(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    """Given --watch and no terminal, an empty line stands between one table and the next."""
    serve(monkeypatch, RUNS)
    interrupted(monkeypatch, lambda: None, lambda: None)

    _, out, _ = call("tasks", "--watch=1")

    tables = out.split("\n\n")
    assert [table.splitlines()[0].split()[:2] for table in tables] == 3 * [["ID", "STATE"]]


def test_a_store_that_is_away(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    """Given a store that cannot be reached, the status says so, and the line where its address is from."""
    asked = serve(monkeypatch)

    def away() -> float:
        raise StoreUnavailable("Redis at h: away")

    monkeypatch.setattr(asked, "now", away)

    status, out, err = call("tasks")

    assert (status, out) == (69, "")
    assert err.startswith("ha-monitor: Redis at h: away (store.url is the default: ")


def test_values_for_a_shell(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    """Given names, those that can be typed are offered as a filter takes them, and nothing if the store is away."""
    asked = serve(monkeypatch, task("a", name="shop.pay"), task("b", name="a,*b"), task("c", name="a\x1b"))
    monkeypatch.setattr("ha_monitor.cli.completion.TIMEOUT", 60.0)

    assert call("completion", "--values", "name")[:2] == (0, "a\\,\\*b\nshop.pay\n")

    def away() -> list[str]:
        raise StoreUnavailable("Redis at h: away")

    monkeypatch.setattr(asked, "names", away)
    assert call("completion", "--values", "name") == (0, "", "")
    assert call("completion")[0] == 64


def test_a_queue_is_offered_by_its_name(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    """Given a queue that a Redis broker has only with priorities, its name is offered, once."""
    serve(monkeypatch, flows=dict.fromkeys(["mail\x06\x163", "mail\x06\x169", "celery"]))
    monkeypatch.setattr("ha_monitor.cli.completion.TIMEOUT", 60.0)

    assert call("completion", "--values", "queue")[:2] == (0, "celery\nmail\n")


@pytest.mark.parametrize("command", [["task"], ["errors", "--resolve"], ["dead-letters", "--drop"]])
def test_an_empty_id_is_refused(call: Call, command: list[str]) -> None:
    """Given a script whose variable is unset, no command takes what there is for what was meant."""
    status, out, err = call(*command, "")

    assert (status, out) == (64, "")
    assert "expected an id, or its beginning; it is empty" in err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ["tasks", "name=shop.charge_crad"],
            "May lack: tasks of the name shop.charge_crad, which is not known (near it: shop.charge_card).",
        ),
        (["tasks", "queue=celrey,celery", "state=SENT"], "tasks of the queue celrey, which is not known"),
        (["tasks", "name=zzz*"], "May lack: tasks of the name zzz*, which is not known."),
        (
            ["tasks", "worker=celery@aa"],
            "May lack: tasks of the worker celery@aa, which is not known (near it: celery@a, celery@b).",
        ),
        (
            ["names", "shop.charge_crad"],
            "May lack: runs of the name shop.charge_crad, which is not known (near it: shop.charge_card).",
        ),
    ],
)
def test_a_name_that_is_not_known_is_no_complete_answer(call: Call, words: list[str], said: str) -> None:
    """Given a name, a queue or a worker that nothing has, an empty list says so, with what is near; given one that is
    known, and of which nothing is so, it is complete.
    """
    status, out, err = call(*words)

    assert (status, out) == (0, "")
    assert said in err
    assert call("tasks", "name=shop.charge_card", "state=REVOKED")[2].endswith("Complete.\n")
    assert call("tasks", "worker=celery@b", "state=REVOKED")[2].endswith("Complete.\n")


def test_any_name_is_none_that_is_not_known(monkeypatch: pytest.MonkeyPatch, call: Call) -> None:
    """Given a record without any task, an answer about all names, asked for or not, lacks nothing."""
    serve(monkeypatch)

    assert call("names")[2].endswith("Complete.\n")
    assert call("tasks", "name=*", "queue=*")[2].endswith("Complete.\n")
