"""Incidents of a fleet of two processes, with a real Redis and a real RabbitMQ: each is told once, whoever dies."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from kombu import Connection

from ha_monitor.store.incidents import Phase
from ha_monitor.store.reader import StoreReader
from tests.support.celery_app import make_app
from tests.support.crash_points import INCIDENT
from tests.support.instances import Fleet, Overrides
from tests.support.ledger import Line
from tests.support.process import wait_for_value, wait_until
from tests.support.recording import Recorded, publish
from tests.support.workers import CeleryWorker
from tests.unit.builders import event

WORKER = "celery@a"
SETTINGS: Overrides = {
    "workers": {"late_after": 3.0, "lost_after": 5.0},
    "store": {"lease": 3.0, "timeout": 1.5},
}


def beat(broker_url: str, *names: str) -> None:
    bodies = (event("worker-heartbeat", at=time.time(), hostname=name) for name in names)
    publish(broker_url, [Recorded("worker.heartbeat", "application/json", "utf-8", json.dumps(one)) for one in bodies])


def told(fleet: Fleet, kind: str = "worker-lost") -> list[tuple[str, bool]]:
    """The lines of incidents of a kind: (event, recovered), by time."""
    lines: list[Line] = [line for line in fleet.lines() if line["event"].startswith("incident-")]
    lines.sort(key=lambda line: line["event_time"])
    return [(line["event"], line.get("recovered", False)) for line in lines if line["kind"] == kind]


def phases(fleet: Fleet, kind: str = "worker-lost") -> dict[str, Phase]:
    reader = StoreReader(fleet.config.store, fleet.node_id)
    reader.connect()
    try:
        return {one.key: one.phase for one in reader.incidents.incidents() if one.kind == kind}
    finally:
        reader.close()


def test_a_queue_that_nobody_consumes_is_seen_without_http(broker_url: str, store_url: str, tmp_path: Path) -> None:
    """Given an instance that serves no HTTP, and a message in a queue without workers, the incident is there once the
    instance has listened; it is gone when the message is.
    """
    settings: Overrides = {**SETTINGS, "metrics": {"survey_interval": 1.0, "queues": ["forgotten"]}}
    with (
        Fleet(tmp_path, broker_url, store_url, size=1, settings=settings).start() as fleet,
        Connection(broker_url) as connection,
    ):
        queue = connection.SimpleQueue("forgotten")
        queue.put({"task": "x"})
        wait_for_value(
            lambda: phases(fleet, "no-consumer"), {"forgotten": Phase.PENDING}, 60, "that the queue is seen", 0.5
        )
        queue.get().ack()
        queue.close()
        wait_for_value(lambda: phases(fleet, "no-consumer"), {}, 60, "that it is over", 0.5)
        assert len(fleet.said("queue-survey-failed")) == 0


def test_a_leader_killed_between_an_incident_and_its_line_loses_and_doubles_nothing(
    broker_url: str, store_url: str, tmp_path: Path, problems: Callable[..., tuple[int, str]]
) -> None:
    """Given two instances and a worker that is lost, when the leader is killed right after it wrote the incident, the
    other one writes its line, once; and when the worker is back, that it is over, once. `ha-monitor problems` says so.
    """

    with Fleet(tmp_path, broker_url, store_url, size=2, settings=SETTINGS) as fleet:
        victim, other = fleet.instances
        victim.start(launcher=("tests.support.crash_points", INCIDENT, "1"))
        wait_until(lambda: victim.said("leadership-acquired") > 0, 60, "that the victim leads", 0.1)
        other.start()
        wait_until(other.consumes, 60, "that the other consumes", 0.1)
        begun = time.monotonic()
        while time.monotonic() - begun < 8:  # the leader must have listened for as long as a worker may be silent
            beat(broker_url, WORKER)
            time.sleep(1)
        assert problems(tmp_path, "-o", "ids") == (0, "")

        wait_until(lambda: not victim.running, 60, "that the leader dies of the incident", 0.1)
        wait_until(lambda: told(fleet) != [], 60, "the line of the incident", 0.1)
        victim.start()
        wait_until(victim.consumes, 60, "that the victim is back", 0.1)
        assert told(fleet) == [("incident-opened", True)]
        assert phases(fleet) == {WORKER: Phase.FIRING}
        status, out = problems(tmp_path, "-o", "jsonl")
        assert (status, [json.loads(row)["kind"] for row in out.splitlines()][:1]) == (1, ["worker-lost"])

        def is_over() -> bool:
            beat(broker_url, WORKER)
            return phases(fleet) == {WORKER: Phase.RESOLVED} and len(told(fleet)) > 1

        wait_until(is_over, 60, "that it is over", 0.5)
        assert told(fleet) == [("incident-opened", True), ("incident-resolved", False)]
        assert told(fleet, "monitor") == []
        assert len(fleet.said("incidents-not-judged")) == 0


def has_ended(worker: CeleryWorker) -> bool:
    return not worker.process.running


def test_a_task_that_kills_one_worker_after_the_other_is_told_of_once(
    broker_url: str, store_url: str, tmp_path: Path
) -> None:
    """Given real workers and a task with `acks_late` and `reject_on_worker_lost` that kills the main process of whoever
    runs it, the broker gives it to the next one, and once both are lost the fleet tells of it, once, with its id and
    both workers; when a worker survives it, that is over.
    """
    poison = "poison-task"
    with (
        Fleet(tmp_path, broker_url, store_url, size=2, settings=SETTINGS).start() as fleet,
        # Where nobody is heard of any more, no worker is said to be lost.
        CeleryWorker(broker_url, "z", pool="solo", queues=("other",)),
    ):
        sent = make_app(broker_url).tasks["tests.end_worker"].delay().id
        nodenames = []
        for name in ("a", "b"):
            with CeleryWorker(broker_url, name, concurrency=1) as worker:
                nodenames.append(worker.nodename)
                wait_until(partial(has_ended, worker), 30, "the end of the worker", 0.2)
                assert worker.process.returncode == -signal.SIGKILL
        wait_for_value(lambda: phases(fleet, poison), {"tests.end_worker": Phase.FIRING}, 90, "the incident", 0.5)
        wait_until(lambda: told(fleet, poison), 15, "its line", 0.2)
        with CeleryWorker(broker_url, "c", pool="solo", env={"TESTS_SURVIVES": "1"}):
            wait_for_value(lambda: phases(fleet, poison), {"tests.end_worker": Phase.RESOLVED}, 60, "its end", 0.5)
            wait_for_value(lambda: len(told(fleet, poison)), 2, 15, "the line of its end", 0.2)

        assert [event for event, _ in told(fleet, poison)] == ["incident-opened", "incident-resolved"]
        (line,) = [line for line in fleet.said("incident-opened") if line["kind"] == poison]
        a, b = sorted(nodenames)
        said = f"task {sent} of tests.end_worker lost its worker 2 times while running: {a} and {b}"
        assert (line["summary"], line["command"]) == (said, f"ha-monitor task {sent}")
