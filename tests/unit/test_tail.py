"""`ha-monitor tail`, as a person or a program calls it."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from ha_monitor.errors import StoreUnavailable
from ha_monitor.events.model import Event
from ha_monitor.outputs.line import Identity, build_line, encode_line, iso_time
from ha_monitor.store.outbox import Entry, OutboxItem
from ha_monitor.store.record import Facts
from ha_monitor.store.tail import TailEvent, TailGap
from ha_monitor.text.visible import columns
from tests.unit.asked import NOW, serve
from tests.unit.test_asking import Call, at_terminal, call, interrupted

__all__ = ["call"]

WHO = {"instance": "2", "host": "host", "pid": 17}
ID = "8d3b9c4e-1f0a-4b7e-9a51-2f6d0c1e7a90"


def shown(kind: str = "task-failed", task_id: str | None = ID, **changes: Any) -> TailEvent:
    """An announcement about a task that was sent, received and started a second each before."""
    at = int(NOW * 1e6)
    known: dict[str, Any] = {"sent": at - 3_000_000, "received": at - 2_000_000, "started": at - 1_000_000}
    counts = {"received_count": 1, "started_count": 1}
    known |= {"name": "shop.pay", "queue": "mail", "worker": "celery@app1"} | counts
    fields = changes.pop("fields", {"exception": "ValueError('card declined')"} if kind == "task-failed" else {})
    event = Event(kind, f"{kind}-{task_id}", "celery@app1", NOW, task_id, fields)
    facts = None if task_id is None else Facts(**(known | changes))
    return TailEvent(Entry(0, event, facts, False), NOW + 0.5, WHO)


FAILED, DONE = shown(), shown("task-succeeded", "t2", name="mail.send")
RETRIED = shown("task-retried", "t3", fields={"exception": "KeyError('x')"}, retried_count=1)
LOST = shown("worker-lost", None, fields={"silent": 61.0})


def test_what_comes_is_shown(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    """Given what is announced, there is a row for each event with time, state, name, worker, id and error, until ^C."""
    serve(monkeypatch, shown=[[FAILED], [], [RETRIED, LOST]])

    status, out, err = call("tail", "--time", "utc")
    header, *rows = (re.split(r"  +", row.strip()) for row in out.splitlines())

    assert status == 130
    assert header == ["TIME", "STATE", "NAME", "WORKER", "ID", "ERROR"]
    at = iso_time(NOW)
    assert rows[0] == [at, "FAILURE", "shop.pay", "celery@app1", ID, "ValueError('card declined')"]
    assert rows[1] == [at, "RETRY", "shop.pay", "celery@app1", "t3", "KeyError('x')"]
    assert rows[2] == [at, "warning", "worker-lost", "celery@app1"]
    assert err == "what the fleet announces from now on; ^C ends it\n"


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["state=FAILURE,RETRY"], [ID, "t3"]),
        (["name=shop.*"], [ID, "t3"]),
        (["name=mail.send"], ["t2"]),
        (["exception~KeyError"], ["t3"]),
        (["worker=celery@app1", "state=SUCCESS"], ["t2"]),
        (["queue=other"], []),
        (["retries>5"], []),
    ],
)
def test_filters_are_those_of_tasks(
    call: Call, monkeypatch: pytest.MonkeyPatch, words: list[str], found: list[str]
) -> None:
    """Given a filter, only events that left a task so are shown."""
    serve(monkeypatch, shown=[[FAILED, DONE, RETRIED, LOST]])

    assert call("tail", *words, "-o", "ids")[1].split() == found


def test_each_event_has_the_state_in_which_it_left_its_task(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    """Given events of a task that were merged together, so that each knows its end, each has its own state, and only
    the failure has the error."""
    ended: dict[str, Any] = {"finish": 9, "finished": int(NOW * 1e6), "exception": "ValueError('x')"}
    kinds = ("task-sent", "task-received", "task-started", "task-retried", "task-failed")
    serve(monkeypatch, shown=[[shown(kind, **ended) for kind in kinds]])

    rows = [re.split(r"  +", row) for row in call("tail", "--no-legend")[1].splitlines()]
    assert [row[1] for row in rows] == ["SENT", "RECEIVED", "STARTED", "RETRY", "FAILURE"]
    assert [row[5:] for row in rows] == [[], [], [], [], ["ValueError('card declined')"]]


def test_a_worker_s_events_are_found_by_the_worker(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    """Given an event about a worker, it is shown where nothing is asked of a task."""
    serve(monkeypatch, shown=[[LOST, FAILED]])

    _, out, _ = call("tail", "worker=celery@app1", "-o", "jsonl")
    assert [json.loads(row)["event"] for row in out.splitlines()] == ["worker-lost", "task-failed"]


def test_the_line_as_the_log_has_it(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    """Given jsonl, each event is the line that its instance writes; one whose instance is not known has no name."""
    serve(monkeypatch, shown=[[FAILED, DONE._replace(who={})]])

    _, out, _ = call("tail", "-o", "jsonl", "--no-legend")
    first, second = out.splitlines()

    identity = Identity("ha-monitor", "2", "host", 17)
    assert first == encode_line(build_line(OutboxItem(0, FAILED.entry), identity, iso_time(NOW + 0.5))).decode()
    assert (json.loads(second)["instance"], json.loads(second)["task_name"]) == ("", "mail.send")


def test_values_for_programs(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    """Given tsv, each row has as many values as the header, whatever is in them."""
    serve(monkeypatch, shown=[[shown(task_id="a\tb\nc"), LOST]])

    rows = [row.split("\t") for row in call("tail", "-o", "tsv", "--time", "utc")[1].splitlines()]
    assert {len(row) for row in rows} == {6}
    assert rows[1][4] == r"a\tb\nc"


def test_it_ends_after_so_many(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    """Given a limit, it ends with status 0 after so many events that match."""
    serve(monkeypatch, shown=[[FAILED, DONE], [RETRIED, LOST]])

    assert call("tail", "-n", "2", "state=FAILURE,RETRY", "-o", "ids")[:2] == (0, f"{ID}\nt3\n")


def test_what_was_missed_is_said(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    """Given gaps, they are said beside the data: how many events, if that is known."""
    gaps = [TailGap(NOW - 5, NOW, 1200), TailGap(0, NOW, None), TailGap(NOW - 5, NOW, 1)]
    serve(monkeypatch, shown=[[gaps[0], FAILED, *gaps[1:]]])

    _, out, err = call("tail", "-o", "ids")
    assert out == f"{ID}\n"
    assert re.search(r"^ha-monitor: may lack 1,200 events between 20.* and 20.*: they were trimmed before", err, re.M)
    assert re.search(r"^ha-monitor: may lack events before 20", err, re.M)
    assert "may lack 1 event between" in err


def test_a_store_that_goes_away_is_waited_for(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    """Given a store that goes away while it is read, that is said once, and when it is there again; what comes then is
    shown. One that is away at the beginning is status 69."""
    away = StoreUnavailable("Redis at h: away")
    serve(monkeypatch, shown=[[FAILED], away, away, [DONE]])
    interrupted(monkeypatch, *[lambda: None] * 2)

    status, out, err = call("tail", "-o", "ids")
    assert (status, out.split()) == (130, [ID, "t2"])
    said = ["ha-monitor: Redis at h: away; waiting for it", "ha-monitor: the store is there again"]
    assert err.splitlines()[1:] == said

    def gone(*_: object) -> None:
        raise away

    monkeypatch.setattr("tests.unit.asked.Shown.begin", gone)
    assert call("tail")[0] == 69


def test_what_means_nothing_is_wrong_usage(call: Call) -> None:
    """Given a filter or a number that means nothing, that is said before anything is asked."""
    assert "unknown field" in call("tail", "stat=FAILURE")[2]
    assert call("tail", "-n", "0")[0] == 64


@pytest.mark.parametrize("width", [40, 80, 120, 200])
@pytest.mark.usefixtures("call")
def test_at_a_terminal(monkeypatch: pytest.MonkeyPatch, width: int) -> None:
    """Given a terminal, no row is wider, rows stand below each other, and the state is in colour."""
    long = shown(fields={"exception": "東" * 300}, name="shop." + "x" * 90)
    serve(monkeypatch, shown=[[long, LOST, DONE]])
    monkeypatch.delenv("NO_COLOR", raising=False)
    written = at_terminal(monkeypatch, width, "tail", "-n", "3")
    rows = re.sub(r"\x1b\[[0-9;]*m", "", written).split("\r\n")[:-1]

    assert "\x1b[31mFAILURE\x1b[0m" in written
    assert [row for row in rows if columns(row) > width] == []
    assert {row.index(word) for row, word in zip(rows, ("STATE", "FAILURE", "warning", "SUCCESS"), strict=True)} == {14}
