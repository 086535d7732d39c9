"""The demo's summary tells the truth about the lines, and its children see nothing of the user's set-up."""

from __future__ import annotations

import argparse
import shutil
import signal
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ha_monitor.cli import demo as cli_demo
from ha_monitor.config.load import load
from ha_monitor.config.schema import Config
from ha_monitor.demo import producer as demo_producer
from ha_monitor.demo.demo import Demo, Plan
from ha_monitor.demo.environment import clean, monitor_environment
from ha_monitor.demo.merge_observer import MergeObserver
from ha_monitor.demo.pages import LOG, ensure_pages
from ha_monitor.demo.process import Child
from ha_monitor.demo.producer import Producer
from ha_monitor.demo.redis_server import start_redis
from ha_monitor.demo.show import Screen, about
from ha_monitor.demo.summary import Run, Summary, are_even, summarise
from ha_monitor.errors import ServiceMissing
from ha_monitor.exit_status import ExitStatus
from ha_monitor.text.terminal import standard_output
from ha_monitor.text.visible import shortened
from tests.support.process import wait_until

Line = dict[str, Any]


def line(task: str, event: str = "task-succeeded", instance: str = "1", **fields: Any) -> Line:
    return {
        "event": event,
        "instance": instance,
        "event_id": f"{task}/{event}",
        "task_id": task,
        "task_name": "shop.send_receipt",
        **fields,
    }


def summary_of(lines: list[Line], outcomes: dict[str, str] | None = None, **run: Any) -> Summary:
    outcomes = {"a": "task-succeeded", "b": "task-failed"} if outcomes is None else outcomes
    facts: dict[str, Any] = {
        "instances": ["1", "2"],
        "sent": len(outcomes),
        "reached": {},
        "dealt_out": False,
        "killed": None,
        "lines_before_kill": 0,
    }
    return summarise(Run(outcomes=outcomes, **(facts | run)), lines)


def test_all_announced_once_is_good() -> None:
    """Given a line for each end, and others that are no events, all is announced and the shares count events only."""
    lines = [{"event": "store-connected", "instance": "1"}, line("a"), line("b", "task-failed", "2")]

    summary = summary_of(lines, lines_before_kill=2)

    assert (summary.run, summary.announced, summary.lost, summary.wrong) == (2, 2, 0, 0)
    assert (summary.twice, summary.nameless) == (0, 0)
    assert (summary.shares, summary.early_shares) == ({"1": 1, "2": 1}, {"1": 1, "2": 0})
    assert summary.good


def test_a_missing_end_is_lost() -> None:
    """Given only the retry of a task, its end is lost."""
    summary = summary_of([line("a"), line("b", "task-retried")])

    assert (summary.announced, summary.lost, summary.wrong, summary.good) == (1, 1, 0, False)


def test_another_end_than_the_result_says_is_wrong() -> None:
    """Given a success where the result backend has a failure, the task is neither announced nor lost, but wrong."""
    summary = summary_of([line("a"), line("b", "task-succeeded")])

    assert (summary.announced, summary.lost, summary.wrong, summary.good) == (1, 0, 1, False)


def test_the_same_event_again_is_twice() -> None:
    """Given the same event_id from another instance, it counts as twice, and as marked only if it is."""
    ends = [line("a"), line("b", "task-failed")]

    plain = summary_of([*ends, line("a", instance="2")])
    marked = summary_of([*ends, line("a", instance="2", recovered=True)])

    assert (plain.twice, plain.marked, plain.good) == (1, 0, False)
    assert (marked.twice, marked.marked, marked.good) == (1, 1, False)


def test_a_recovered_line_alone_is_not_twice() -> None:
    """Given a line that a dead instance left to another one, and that came once, nothing is wrong."""
    summary = summary_of([line("a", recovered=True), line("b", "task-failed")])

    assert (summary.twice, summary.marked, summary.good) == (0, 0, True)


def test_two_ends_of_one_task_are_twice() -> None:
    """Given two ends with ids of their own, the second one counts as twice."""
    summary = summary_of([line("a"), line("b", "task-failed"), line("a", "task-failed")])

    assert (summary.announced, summary.twice, summary.good) == (2, 1, False)


@pytest.mark.parametrize("name", [None, ""])
def test_a_line_without_a_name_is_counted(name: str | None) -> None:
    """Given a line about a task without its name, it is nameless; a worker's line needs no name."""
    worker = {"event": "worker-online", "instance": "1", "event_id": "w"}

    summary = summary_of([line("a", task_name=name), line("b", "task-failed"), worker])

    assert (summary.nameless, summary.good) == (1, False)


def test_a_task_without_a_result_is_no_success() -> None:
    """Given a task that never ended, or none at all, the demo has proved nothing."""
    assert summary_of([line("a"), line("b", "task-failed")], sent=3).unfinished == 1
    assert not summary_of([line("a"), line("b", "task-failed")], sent=3).good
    assert not summary_of([], {}).good


def test_pieces_at_several_instances_are_counted() -> None:
    """Given whom the pieces of each task reached, only tasks at more than one instance are split."""
    summary = summary_of([line("a"), line("b", "task-failed")], reached={"a": {"1", "2"}, "b": {"1"}, "x": {"1", "2"}})

    assert summary.split == 1


@pytest.mark.parametrize(
    ("counts", "even"), [([40, 40, 40], True), ([60, 40, 20], True), ([61, 40, 19], False), ([20, 20, 20], None)]
)
def test_shares_are_even_within_half_of_an_equal_one(counts: list[int], even: bool | None) -> None:
    """Given the lines while all ran, half more or less is even, beyond it is not, and a few lines say nothing."""
    assert are_even(counts) is even


def test_an_instance_without_work_is_a_failure_only_where_the_broker_deals_out() -> None:
    """Given one instance that told everything, it is a failure with RabbitMQ and none with Redis; given others with
    a little, the shares are uneven, and that is none."""
    outcomes = {f"t{number}": "task-succeeded" for number in range(60)}
    lines = [line(task) for task in outcomes]

    dealt = summary_of(lines, outcomes, dealt_out=True, lines_before_kill=60)
    broadcast = summary_of(lines, outcomes, dealt_out=False, lines_before_kill=60)
    others = [line(task, instance=instance) for task, instance in zip(outcomes, "12", strict=False)]
    uneven = summary_of([*others, *lines[2:]], outcomes, dealt_out=True, lines_before_kill=60)

    assert (dealt.even, dealt.good) == (False, False)
    assert (broadcast.even, broadcast.good) == (None, True)
    assert (uneven.even, uneven.good) == (False, True)


CALL = b'1700000000.1 [1 127.0.0.1:%d] "EVALSHA" "c0ffee" "2" %s'
INSIDE = b'1700000000.1 [1 lua] "SET" "t:0e5f4f43-74ec-4d2c-8d3a-3f4d23ab7d5c"'
TASK = b"0e5f4f43-74ec-4d2c-8d3a-3f4d23ab7d5c"


def test_pieces_are_known_by_the_connection_of_the_instance() -> None:
    """Given calls of two instances, one of which restarts, a piece belongs to the one that introduced itself there."""
    pieces = MergeObserver.__new__(MergeObserver)
    pieces._instances, pieces._reached = {}, {}
    for port, name in ((1, b"1"), (2, b"2"), (3, b"2")):
        pieces.note(CALL % (port, rb'"{\"instance\": \"' + name + rb'\", \"host\": \"h\"}"'))

    pieces.note(CALL % (2, rb'"\x93\xd9$' + TASK + rb'"'))
    pieces.note(CALL % (9, TASK))
    pieces.note(INSIDE)
    assert pieces.reached() == {TASK.decode(): {"2"}}

    pieces.note(CALL % (1, TASK))
    pieces.note(CALL % (3, TASK))
    assert pieces.reached() == {TASK.decode(): {"1", "2"}}


def test_nothing_of_the_users_celery_reaches_the_children() -> None:
    """Given a user with Celery and ha-monitor configured in the environment, none of it is left, all else is."""
    own = {"CELERY_BROKER_URL": "amqp://real", "BROKER_URL": "amqp://real", "HA_MONITOR_STORE_URL": "redis://real"}

    assert clean({**own, "PATH": "/bin", "LANG": "C.UTF-8"}) == {"PATH": "/bin", "LANG": "C.UTF-8"}


def test_the_monitors_obey_no_file(tmp_path: Path) -> None:
    """Given files that say otherwise, the configuration is the default one but for what the demo chose."""
    overlay = tmp_path / "1.toml"
    overlay.write_text('[log]\nformat = "console"\n[handlers]\nmodules = ["mailer"]\n[broker]\nexchange = "other"\n')

    environment = monitor_environment(
        {"HA_MONITOR_CONFIG": "/nowhere", "HA_MONITOR_QUEUE_TYPE": "classic"}, node_id="demo-1", broker_prefetch="20"
    )
    config = load(None, environment, overlay)

    expected = Config()
    assert (config.node_id, config.broker.prefetch) == ("demo-1", 20)
    assert (config.queue, config.store, config.batch) == (expected.queue, expected.store, expected.batch)
    assert (config.log, config.handlers) == (expected.log, expected.handlers)
    assert config.broker.exchange == expected.broker.exchange


def test_the_monitors_of_the_demo_are_configured_as_the_rules_demand() -> None:
    """Given the settings that the demo chooses, they are valid together, as those of any instance must be."""
    demo = Demo(Plan(3, 400, None), Screen(standard_output(), cut=False))

    config = load(None, demo.monitor_environment("redis://127.0.0.1:1/0", "redis://127.0.0.1:1"))

    assert max(config.broker.connect_timeout, config.store.timeout) <= config.store.max_wait


def test_a_missing_redis_is_one_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Given no redis-server, neither on PATH nor in its usual places, the error says how to get it."""
    monkeypatch.setattr(shutil, "which", lambda *_args, **_options: None)

    with pytest.raises(ServiceMissing, match="apt install redis-server"):
        start_redis(tmp_path)
    assert list(tmp_path.iterdir()) == []


def full_summary(**changed: Any) -> Summary:
    fields: dict[str, Any] = {
        "run": 100_000, "outcomes": {"task-succeeded": 90_000, "task-failed": 9_000, "task-revoked": 1_000},
        "announced": 99_000, "lost": 500, "wrong": 500, "twice": 100_000, "marked": 100_000, "nameless": 100_000,
        "split": 100_000, "dealt_out": True, "shares": {"1": 1, "100000": 100_000},
        "early_shares": {"1": 0, "100000": 100_000},
        "even": False, "killed": "100000", "unfinished": 100_000,
    }  # fmt: skip
    return Summary(**(fields | changed))


def test_the_summary_fits_80_columns_even_at_its_worst(capsys: pytest.CaptureFixture[str]) -> None:
    """Given every number at its longest, and every complaint, no row is wider than 80 columns or coloured."""
    Screen(standard_output(), cut=False).summary(full_summary())

    rows = capsys.readouterr().out.splitlines()
    assert [row for row in rows if len(row) > 80 or "\x1b" in row] == []
    assert sum("WRONG" in row for row in rows) == 6
    assert rows[-1] == "  the guarantee is broken"


@pytest.mark.parametrize(
    ("changed", "status"),
    [({}, ExitStatus.OK), ({"lost": 1}, ExitStatus.FAILURE), ({"twice": 1}, ExitStatus.FAILURE)],
)
def test_the_exit_status_is_the_verdict(
    monkeypatch: pytest.MonkeyPatch, changed: dict[str, Any], status: ExitStatus
) -> None:
    """Given what a run adds up to, only a kept promise ends with 0."""
    good = {"lost": 0, "wrong": 0, "twice": 0, "nameless": 0, "unfinished": 0, "even": True}
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    monkeypatch.setattr(Demo, "run", lambda _self: full_summary(**(good | changed)))

    assert cli_demo.run(argparse.Namespace(broker=None, monitors=3, tasks=10, web=False, json=False)) is status


def test_colours_are_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    """Given two instances on a terminal with colours, each name has a colour of its own."""
    screen = Screen(standard_output(colors=True), cut=False)

    screen.line(line("a", timestamp="2026-01-01T10:00:00.123456Z", level="info"))
    screen.line(line("a", timestamp="2026-01-01T10:00:00.123456Z", level="info", instance="2"))

    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith("10:00:00 \x1b[36mha-monitor@1\x1b[0m \x1b[32mtask-succeeded")
    assert second.startswith("10:00:00 \x1b[35mha-monitor@2\x1b[0m \x1b[32mtask-succeeded")


def test_a_line_says_which_task_and_why() -> None:
    """Given a success, a failure, a retry and no name, the person reads name, short id, and duration or cause."""
    task = {"task_id": "0e5f4f43-74ec", "task_name": "shop.charge_card"}

    assert about({**task, "runtime": 0.0123}) == "shop.charge_card  0e5f4f43 12 ms"
    assert about({**task, "runtime": 0.0123, "exception": "KeyError('x')"}) == (
        "shop.charge_card  0e5f4f43 KeyError('x')"
    )
    assert about({**task, "exception": "Retry(Retry(...), OSError('x, y'), 0.5)"}) == (
        "shop.charge_card  0e5f4f43 OSError('x, y')"
    )
    assert about({**task, "task_name": None}) == "?                 0e5f4f43"


@pytest.mark.parametrize(("room", "shown"), [(None, "abcdef"), (6, "abcdef"), (5, "abcd…")])
def test_text_is_cut_to_the_terminal(room: int | None, shown: str) -> None:
    """Given less room than text, the rest is cut; where there is no terminal, nothing is."""
    assert shortened("abcdef", room) == shown


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("print('a', flush=True)\nraise SystemExit('no more files')", "no more files"),
        ("import os; os.abort()", "they were killed"),
    ],
    ids=["by themselves", "killed"],
)
def test_pages_that_end_while_they_are_kept_end_the_demo(tmp_path: Path, code: str, said: str) -> None:
    """Given pages that end although they are to stay, the demo ends with one line that says why."""
    with (tmp_path / LOG).open("wb") as output:
        child = Child([sys.executable, "-c", code], {}, output, tmp_path)
    wait_until(lambda: not child.running, 60, "the end of the pages")

    with pytest.raises(ServiceMissing, match=f"^the pages ended: {said}$"):
        ensure_pages(child, tmp_path)


class Results:
    """A result backend that knows each task from one look at it on; each look takes a time."""

    def __init__(self, clock: list[float], takes: dict[int, float], **known_from: int) -> None:
        self.clock, self.takes, self.known_from = clock, takes, known_from
        self.looks = 0

    def get_state(self, task_id: str) -> str:
        self.clock[0] += self.takes.get(self.looks, 0.0)
        return "SUCCESS" if self.looks >= self.known_from[task_id] else "PENDING"

    def next(self) -> bool:
        self.looks += 1
        return True


@pytest.mark.parametrize(
    ("takes", "known_from", "found"),
    [
        pytest.param({3: 1000.0}, 5, True, id="the machine stands still"),
        pytest.param(dict.fromkeys(range(100), 1.0), 59, True, id="late"),
        pytest.param(dict.fromkeys(range(100), 1.0), 70, False, id="never"),
    ],
)
def test_results_are_waited_for_as_long_as_there_is_time_to_make_them(
    monkeypatch: pytest.MonkeyPatch, takes: dict[int, float], known_from: int, found: bool
) -> None:
    """Given a task without a result, it is waited for a minute in which the machine works, not one in which it stands
    still."""
    clock = [0.0]
    results = Results(clock, takes, late=known_from)
    time = SimpleNamespace(monotonic=lambda: clock[0], sleep=lambda _seconds: None)
    monkeypatch.setattr(demo_producer, "time", time)
    producer = Producer(Any, results, worker="worker", count=0, rate=1.0)
    producer.sent = ["late"]

    outcomes = producer.outcomes(60.0, results.next)

    assert outcomes == ({"late": "task-succeeded"} if found else {})
