"""How late queues are, and what they need: worked out, and as a person or a program asks."""

from __future__ import annotations

import json
import re
from math import inf
from typing import Any

import pytest

from ha_monitor.events.catalogue import State
from ha_monitor.query.queues import Outlook, QueueState, queue_states, rates_since
from ha_monitor.store.queries import Gap
from ha_monitor.store.queue_flow import QueueFlow, base_of
from ha_monitor.text.visible import columns
from tests.unit.asked import NOW, Asked, serve, task, worker
from tests.unit.test_asking import Call, at_terminal, call, interrupted

__all__ = ["call"]

SECONDS = NOW - rates_since(NOW)
"""Over which rates are taken."""


def flow(came: float, left: float, *, ended: int = 10, run_time: float = 2.0) -> QueueFlow:
    """So many a second, whose runs take so long."""
    return QueueFlow(round(came * SECONDS), round(left * SECONDS), ended, ended * run_time)


def waiting(number: int, *, queue: str = "mail", age: float = 60.0, **changes: Any) -> Any:
    """A task that waits."""
    return task(f"{queue}{number}", State.SENT, at=NOW - age - number, queue=queue, **changes)


def state(*tasks: Any, flows: dict[str, QueueFlow | None]) -> QueueState:
    (found,) = queue_states(Asked(*tasks, flows=flows), NOW, lambda _: True)
    return found


@pytest.mark.parametrize(
    ("rates", "count", "outlook", "needed"),
    [
        ((1.0, 3.0), 40, (Outlook.EMPTIES, 20.0), (0, 0)),
        ((1.0, 1.0), 40, (Outlook.NEVER, None), (0, 1)),
        ((3.0, 1.0), 40, (Outlook.NEVER, None), (4, 5)),
        ((0.0, 0.0), 1, (Outlook.NEVER, None), (0, 1)),
        ((3.0, 3.0), 0, (Outlook.EMPTY, 0.0), (0, 0)),
    ],
)
def test_whether_a_queue_empties_and_what_it_needs(
    rates: tuple[float, float], count: int, outlook: tuple[Outlook, float | None], needed: tuple[int, int]
) -> None:
    """Given what waits, what comes and what leaves, the outlook follows, and how many more processes are needed: runs
    take two seconds, and the queue is to be empty in ten minutes."""
    found = state(*map(waiting, range(count)), flows={"mail": flow(*rates)})

    assert (found.outlook, found.empty_in) == (outlook[0], outlook[1] and pytest.approx(outlook[1], rel=0.02))
    assert (found.needed(inf), found.needed(600.0)) == needed
    assert found.busy == pytest.approx(2 * rates[1], rel=0.02)


def test_a_queue_that_nobody_tells_of_is_not_known() -> None:
    """Given a queue that a worker consumes, and no producer that says what it sends, nothing is claimed of it."""
    found = state(flows={"mail": None})

    assert (found.has_producers, found.outlook, found.empty_in, found.needed(600.0)) == (
        False,
        Outlook.UNKNOWN,
        None,
        None,
    )


def test_how_long_runs_take_may_not_be_known() -> None:
    """Given a queue of which no run has ended, it is not known how many processes it needs, if it needs some."""
    found = state(waiting(1), flows={"mail": flow(1.0, 0.0, ended=0)})

    assert (found.run_time, found.busy, found.needed(inf), found.needed(600.0)) == (None, 0.0, None, None)


def test_how_long_runs_took_before() -> None:
    """Given a queue that nothing leaves any more, what its runs took in the last hours counts."""

    class Stopped(Asked):
        def queue_flow(self, queues: Any, since: float, until: float) -> list[QueueFlow]:
            ended = 4 if until - since > 3600 else 0
            return [QueueFlow(600, 0, ended, ended * 3.0) for _ in queues]

    (found,) = queue_states(Stopped(waiting(1), flows={"mail": None}), NOW, lambda _: True)
    assert (found.run_time, found.left) == (3.0, 0.0)


def test_the_priorities_of_a_queue_are_one() -> None:
    """Given the queues that kombu's Redis transport makes of priorities, they are one with the oldest of all."""
    names = ["mail", "mail\x06\x163", "mail\x06\x169"]
    tasks = [waiting(number, queue=name, age=100.0 * number) for number, name in enumerate(names)]
    found = state(*tasks, flows=dict.fromkeys(names, flow(1.0, 2.0)))

    assert (found.name, found.wait.waiting, found.wait.oldest) == ("mail", 3, NOW - 202)
    assert found.came == pytest.approx(3.0, rel=0.02)
    assert base_of("mail\x06\x16x") == "mail\x06\x16x"


def test_a_task_whose_eta_is_to_come_does_not_wait(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    """Given a task with an eta, it is counted apart, and makes no queue late."""
    serve(monkeypatch, waiting(1, eta=NOW + 500), waiting(2), flows={"mail": flow(1.0, 1.0)})

    (one,) = json.loads(call("queues", "-o", "json")[1])["items"]
    assert (one["waiting"], one["later"], one["oldest_age"]) == (1, 1, 62.0)


@pytest.fixture
def served(call: Call, monkeypatch: pytest.MonkeyPatch) -> Asked:
    """Four queues: two late, one empty, one of which nobody tells."""
    tasks = [waiting(n) for n in range(3)] + [waiting(n, queue="push", age=3.0) for n in range(2)]
    flows = {"mail": flow(3.0, 1.0), "push": flow(1.0, 3.0), "idle": flow(0.5, 0.5), "dark": None}
    workers = [worker("celery@a"), worker("celery@b", heartbeat={"active": 4}), worker("celery@c", "lost")]
    return serve(monkeypatch, *tasks, flows=flows, workers=workers)


@pytest.mark.usefixtures("served")
def test_a_list_of_queues(call: Call) -> None:
    """Given queues, the latest comes first, and one of which nobody tells says so; what was searched stands below."""
    status, out, err = call("queues", "--no-legend")
    rows = [re.split(r"  +", row) for row in out.splitlines()]

    assert status == 0
    assert [row[0] for row in rows] == ["mail", "push", "idle", "dark"]
    assert rows[0][1:7] == ["3", "1m2s", "3.00", "1.00", "never", "2.0s"]
    assert rows[0][7:9] == ["2.00", "+5"]
    assert rows[1][1:6] == ["2", "4.0s", "1.00", "3.00", "1.0s"]
    assert rows[2][1:5] == ["0", "0.50", "0.50", "empty"]
    assert rows[3][1] == "not known"
    assert err == ""
    said = call("queues")[2]
    assert re.fullmatch(
        r"4 queues. Searched: what waits now, and what came and left since 20.* "
        r"May lack: what waits in dark, not known: producers send no task-sent.\n",
        said,
    )


@pytest.mark.usefixtures("served")
def test_sorted_limited_and_by_name(call: Call) -> None:
    """Given a field, a limit or a name, the list is that; a name of no queue is status 1."""

    def ids(*arguments: str) -> list[str]:
        return call("queues", "-o", "ids", *arguments)[1].split()

    assert ids("--sort", "out")[:2] == ["push", "mail"]
    assert ids("-r")[0] == "dark"
    assert ids("-n", "1") == ["mail"]
    assert ids("*a*") == ["mail", "dark"]
    assert call("queues", "none")[:2] == (1, "")
    assert call("queues", "none")[2].endswith("none: no queue has this name; ha-monitor queues lists them\n")
    assert call("queues", "--sort", "age")[0] == 64
    assert call("queues", "--within", "soon")[0] == 64


@pytest.mark.usefixtures("served")
def test_one_queue_whole(call: Call) -> None:
    """Given the name of a queue, all about it is told, and the tasks that have waited longest, the oldest first."""
    status, out, _ = call("queues", "mail", "--within", "1m")

    assert status == 0
    assert out.splitlines()[0] == "mail"
    assert re.search(r"^  needed +more processes: \+4 to keep up, \+5 to be empty within 1m$", out, re.M)
    assert "all 2 workers run 5 tasks now" in out
    assert re.findall(r"^(mail\d) ", out, re.M) == ["mail2", "mail1", "mail0"]
    assert "not known: producers send no task-sent" in call("queues", "dark")[1]
    (found,) = json.loads(call("queues", "mail", "-o", "json")[1])["items"]
    assert [one["task_id"] for one in found["oldest_tasks"]] == ["mail2", "mail1", "mail0"]


@pytest.mark.usefixtures("served")
def test_queues_for_programs(call: Call) -> None:
    """Given JSON, what is not known is null, rates and times are numbers; tsv has the same number of values a row."""
    found = {one["queue"]: one for one in json.loads(call("queues", "-o", "json")[1])["items"]}

    assert (found["mail"]["outlook"], found["mail"]["empty_in"]) == ("never", None)
    assert (found["push"]["outlook"], found["push"]["empty_in"]) == ("empties", pytest.approx(1.0, rel=0.02))
    assert (found["mail"]["needed_to_keep_up"], found["mail"]["needed_to_empty"]) == (4, 5)
    dark = {name: value for name, value in found["dark"].items() if value is not None}
    assert dark.keys() == {"queue", "told", "outlook", "consumed"}
    assert (dark["told"], dark["outlook"]) == (False, "not known")
    rows = [row.split("\t") for row in call("queues", "-o", "tsv")[1].splitlines()]
    assert {len(row) for row in rows} == {len(rows[0])}


def test_what_may_wait_unseen_is_said(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    """Given open tasks of which nobody said that they were sent, and lost events, the list does not claim to be
    complete."""
    unseen = task("u", State.RECEIVED, queue=None, name="shop.count")
    serve(monkeypatch, unseen, flows={"mail": flow(1, 1)}, gaps=[Gap("12 starts of celery@app3", NOW - 50, NOW - 40)])

    err = call("queues")[2]
    assert "May lack: 12 starts of celery@app3 between" in err
    assert "tasks whose producers send no task-sent, such as shop.count" in err


@pytest.mark.parametrize("width", [40, 80, 120])
@pytest.mark.usefixtures("call", "served")
def test_queues_at_a_terminal(monkeypatch: pytest.MonkeyPatch, width: int) -> None:
    """Given a terminal, no row is wider; how many wait and how old the oldest is stands in each."""
    for arguments in (["queues"], ["queues", "mail"]):
        rows = re.sub(r"\x1b\[[0-9;]*m", "", at_terminal(monkeypatch, width, *arguments)).split("\r\n")[:-1]
        assert [row for row in rows if columns(row) > width] == []
    assert "OLDEST" in at_terminal(monkeypatch, width, "queues")


def test_watching_queues(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    """Given --watch, the queues are listed again and again."""
    asked = serve(monkeypatch, flows={"mail": flow(1, 1)})
    interrupted(monkeypatch, lambda: asked.flows.update(push=flow(1, 1)))

    assert call("queues", "--watch", "-o", "ids")[:2] == (130, "mail\nmail\npush\n")
