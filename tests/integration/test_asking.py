"""The commands that ask, over real instances and a real Redis: each answer is what the events themselves say."""

from __future__ import annotations

import json
import re
import time
from collections import Counter, defaultdict
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from ha_monitor.cli.main import main
from ha_monitor.store.queries import MAX_NEWEST
from tests.support.instances import Fleet
from tests.support.kills import kill_at_random
from tests.support.process import wait_until
from tests.support.publishing import Load
from tests.support.recording import Recorded, publish, read_stream, replicate
from tests.support.rights import as_monitor

ENDS = {"task-succeeded": (2, "SUCCESS"), "task-failed": (1, "FAILURE"), "task-revoked": (1, "REVOKED")}
"""Ranks, as docs/states.md has them, and states."""
RUN_ENDS = ("task-succeeded", "task-failed", "task-retried")


class Truth:
    """What recorded events say, worked out without the program."""

    def __init__(self, messages: list[Recorded]) -> None:
        self.events: dict[str, list[dict[str, Any]]] = defaultdict(list)
        self.workers: set[str] = set()
        for event in (event for message in messages for event in message.events):
            if "uuid" in event:
                self.events[event["uuid"]].append(event)
            elif event["type"].startswith("worker-"):
                self.workers.add(event["hostname"])
        for events in self.events.values():
            events.sort(key=lambda event: event["timestamp"])

    def state(self, task_id: str) -> str:
        """Of one that has ended, how; `open` for all others."""
        ended = [
            (*ENDS.get(event["type"], (0, "REJECTED")), event["timestamp"])
            for event in self.events[task_id]
            if event["type"] in ENDS or (event["type"] == "task-rejected" and not event["requeue"])
        ]
        return max(ended, key=lambda end: (end[0], end[2]))[1] if ended else "open"

    def name(self, task_id: str) -> str | None:
        return next((event["name"] for event in self.events[task_id] if event.get("name")), None)

    def with_state(self, *states: str) -> set[str]:
        return {task_id for task_id in self.events if self.state(task_id) in states}


class Asking:
    """Calls the program, and reads what it answers."""

    def __init__(self, capsys: pytest.CaptureFixture[str], truth: Truth) -> None:
        self._capsys = capsys
        self.truth = truth
        """What it should answer."""

    def __call__(self, *arguments: str, status: int = 0) -> tuple[str, str]:
        assert main(arguments) == status
        written = self._capsys.readouterr()
        return written.out, written.err

    def document(self, *arguments: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self(*arguments, "-o", "json", "-n", "0")[0])
        return found


def merge_twice(fleet: Fleet, broker_url: str, stream: list[Recorded]) -> None:
    """Have the stream merged, some of it twice."""
    count = len({json.dumps(event, sort_keys=True) for message in stream for event in message.events})
    publish(broker_url, stream)
    publish(broker_url, stream[::7])
    wait_until(lambda: sum(entry.stats.get("new", 0) for entry in fleet.entries()) >= count, 60, "the merge", 0.2)


def merge_while_killed(fleet: Fleet, broker_url: str, stream: list[Recorded]) -> None:
    """Have the stream merged by instances of which one after the other is killed, twenty times."""
    load = Load(broker_url, stream, rate=100)
    kill_at_random(fleet, 20, seed=13)
    fleet.wait_until_consuming()
    account = fleet.close_account(load.finish())
    assert account.lost == 0


@pytest.fixture(params=["Redis", "RabbitMQ, 20 kill -9"])
def ask(
    tmp_path: Path,
    request: pytest.FixtureRequest,
    store_url: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Asking:
    """Asks the store of instances that have merged a recorded stream."""
    broker, merge = (
        ("redis_broker_url", merge_twice) if request.param == "Redis" else ("broker_url", merge_while_killed)
    )
    broker_url: str = request.getfixturevalue(broker)
    # Not of when this module is imported: other tests may take longer than the last hour, which is asked for.
    stream = list(replicate(read_stream("small"), 1, start=time.time() - 120))
    with Fleet(tmp_path, broker_url, store_url).start() as fleet:
        merge(fleet, broker_url, stream)
    monkeypatch.setenv("HA_MONITOR_STORE_URL", as_monitor(store_url))
    monkeypatch.setenv("HA_MONITOR_NODE_ID", fleet.node_id)
    # On a busy machine the stream is older by now than what `queues` looks back to.
    monkeypatch.setattr("ha_monitor.query.queues.WINDOW", 3600.0)
    monkeypatch.setattr("ha_monitor.cli.completion.TIMEOUT", 60.0)
    return Asking(capsys, Truth(stream))


def check_errors_and_names(ask: Asking) -> None:
    # Errors, in groups: each failure and each retry for an exception is in one, and the group finds its tasks.
    groups = ask.document("errors")["items"]
    events = [event for one in ask.truth.events.values() for event in one]
    kinds = Counter(event["type"] for event in events)
    assert sum(group["failures"] for group in groups) == kinds["task-failed"]
    assert sum(group["retries"] for group in groups) == kinds["task-retried"]
    failing = {event["uuid"] for event in events if event["type"] in ("task-failed", "task-retried")}
    listed = {one["task_id"] for group in groups for one in ask.document("tasks", f"error={group['group']}")["items"]}
    assert listed == failing
    assert ask.truth.with_state("FAILURE") <= {one["task_id"] for one in ask.document("tasks", "error!=")["items"]}

    # What was run by name.
    runs = Counter(ask.truth.name(event["uuid"]) for event in events if event["type"] in RUN_ENDS)
    counted = {one["name"]: one["now"]["runs"] for one in ask.document("names", "--since", "-3h")["items"]}
    assert counted == {name: count for name, count in runs.items() if name}


def check_queues(ask: Asking) -> None:
    # What waits: sent, and neither started nor ended since. What came and left: all that was sent or put back, and each
    # start, or an end without one.
    waits: Counter[str] = Counter()
    moved: Counter[tuple[str, str]] = Counter()
    for task_id, events in ask.truth.events.items():
        sent = [event for event in events if event["type"] == "task-sent"]
        moved.update((event["queue"], "in") for event in sent)
        starts = sum(event["type"] == "task-started" for event in events)
        retries = sum(event["type"] == "task-retried" for event in events)
        if not sent:
            continue
        queue = sent[-1]["queue"]
        moved[queue, "in"] += sum(event["type"] == "task-rejected" and event["requeue"] for event in events)
        moved[queue, "out"] += starts or ask.truth.state(task_id) != "open"
        if ask.truth.state(task_id) == "open" and starts <= retries:
            waits[queue] += 1
    found = {one["queue"]: one for one in ask.document("queues")["items"] if one["told"]}
    assert {queue: one["waiting"] + one["later"] for queue, one in found.items()} == {
        queue: waits[queue] for queue in {queue for queue, _ in moved}
    }
    for queue, one in found.items():
        assert one["in_rate"] * moved[queue, "out"] == pytest.approx(one["out_rate"] * moved[queue, "in"], rel=1e-3)


def test_every_answer_is_what_the_events_say(ask: Asking) -> None:
    """Given instances that merged recorded events, with repetitions, what the commands list by state, name, root and
    time, what they tell of a task, errors, names and the workers, is what the events themselves say."""
    # What failed, in the order in which it did.
    failed = ask.document("tasks", "state=FAILURE", "--since", "-1h")
    assert failed["complete"]
    assert {one["task_id"] for one in failed["items"]} == ask.truth.with_state("FAILURE")
    ends = [one["finished"] for one in failed["items"]]
    assert ends == sorted(ends, reverse=True)
    assert {one["task_id"] for one in ask.document("tasks", "state=REVOKED,REJECTED")["items"]} == ask.truth.with_state(
        "REVOKED", "REJECTED"
    )

    # What is open, whatever it is.
    found = ask.document("tasks", "state=open")
    assert {one["task_id"] for one in found["items"]} == ask.truth.with_state("open")

    # By name: all of a rare one; of a frequent one the newest, and what is missing is said.
    rare = ask.document("tasks", "name=tests.flaky")
    named = {task_id for task_id in ask.truth.events if ask.truth.name(task_id) == "tests.flaky"}
    assert ({one["task_id"] for one in rare["items"]}, rare["complete"]) == (named, True)
    retried = {task_id: sum(e["type"] == "task-retried" for e in ask.truth.events[task_id]) for task_id in named}
    assert {one["task_id"]: one["retries"] for one in rare["items"]} == retried
    frequent = ask.document("tasks", "name=tests.add")
    of_it = {task_id for task_id in ask.truth.events if ask.truth.name(task_id) == "tests.add"}
    listed = {one["task_id"] for one in frequent["items"]}
    assert listed <= of_it
    assert of_it - listed <= ask.truth.with_state("SUCCESS")
    assert len(listed) >= MAX_NEWEST
    assert not frequent["complete"]
    assert "succeeded tasks of tests.add beyond the newest 200" in frequent["gaps"][0]["what"]

    # One task, event by event; a beginning of its id is enough.
    task_id = max(named, key=lambda one: len(ask.truth.events[one]))
    out, _ = ask("task", task_id[:13], "-o", "json")
    (told,) = json.loads(out)["items"]
    assert [step["type"] for step in told["story"]] == [event["type"] for event in ask.truth.events[task_id]]
    times = [datetime.fromisoformat(step["time"]).timestamp() for step in told["story"]]
    assert times == pytest.approx([event["timestamp"] for event in ask.truth.events[task_id]], rel=0, abs=2e-6)
    assert ask("task", "no-such-task", status=1)[0] == ""

    # Where no instance has ever been, nothing is complete.
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HA_MONITOR_NODE_ID", "wrong")
        (gap,) = ask.document("queues")["gaps"]
        assert "no instance has written to this store as node_id wrong: correct node_id" in gap["what"]

    # What is no UTF-8 is found nowhere.
    assert ask("task", "\udcff", status=1)[0] == ""
    assert ask.document("tasks", "name=\udcff")["items"] == ask.document("tasks", "root=\udcff")["items"] == []
    assert ask("errors", "no-such-group", "--resolve", status=1)[1].count("no-such-group") == 1

    # A tree is all that names the root.
    roots = defaultdict(set)
    for one, events in ask.truth.events.items():
        for root in {event["root_id"] for event in events if event.get("root_id")}:
            roots[root].add(one)
    root = max(roots, key=lambda one: len(roots[one]))
    assert len(roots[root]) > 1
    assert {one["task_id"] for one in ask.document("tasks", f"root={root}")["items"]} == roots[root]
    (tree,) = json.loads(ask("task", root, "--tree", "-o", "json")[0])["items"]
    assert {one["task_id"] for one in tree["tree"]} == roots[root]

    # Errors in groups, and what was run by name.
    check_errors_and_names(ask)

    # Queues.
    check_queues(ask)

    # Workers.
    out, err = ask("workers", "-o", "ids")
    assert set(out.split()) == ask.truth.workers
    assert re.fullmatch(rf"{len(ask.truth.workers)} workers\. Searched: .* Complete\.\n", err)

    # Values for the completion of a shell.
    assert set(ask("completion", "--values", "name")[0].split()) == {
        ask.truth.name(one) for one in ask.truth.events
    } - {None}
