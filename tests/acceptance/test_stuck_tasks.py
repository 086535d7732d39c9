"""Tasks that go no further under real workers and brokers: each is told once by a fleet, or its end is made up for."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from kombu import Connection

from tests.support.capture import capture
from tests.support.celery_app import make_app
from tests.support.instances import ROOT, Fleet
from tests.support.process import wait_for_value, wait_until
from tests.support.recording import Recorded, publish
from tests.support.scraping import free_listen, scrape
from tests.support.workers import CeleryWorker
from tests.unit.builders import event

LISTEN = free_listen(3)
SETTINGS: dict[str, dict[str, Any]] = {
    "store": {"lease": 5.0, "name_wait": 2.0},
    "http": {"listen": LISTEN},
    "workers": {"late_after": 4.0, "lost_after": 8.0},
    "stuck": {"sent_after": 6.0, "received_after": 6.0, "started_after": 6.0},
}
SETTLED = 12
"""Seconds in which two rounds of the leader fit: what is not told by then is not told."""


@pytest.fixture
def fleet(tmp_path: Path, broker_url: str, store_url: str) -> Iterator[Fleet]:
    with Fleet(tmp_path, broker_url, store_url, settings=SETTINGS).start() as running:
        yield running


def said(fleet: Fleet, event: str, task_id: str) -> list[dict[str, Any]]:
    return [line for line in fleet.said(event) if line["task_id"] == task_id]


def told_once(fleet: Fleet, event: str, task_id: str, timeout: float = 60) -> dict[str, Any]:
    """The line about a task, once it is there; that it is the only one is checked a while later."""
    wait_until(lambda: said(fleet, event, task_id), timeout, f"the line {event}", 0.2)
    time.sleep(SETTLED)
    (line,) = said(fleet, event, task_id)
    return line


def exported(name: str) -> float:
    """The sum over the fleet."""
    return sum(scrape(LISTEN, number).sum(name) for number in "123")


def test_a_task_whose_worker_is_killed_is_orphaned_once(fleet: Fleet, broker_url: str) -> None:
    """Given a worker that is killed with SIGKILL while it runs a task, the task is said to be orphaned, once, as soon
    as the worker is lost; another worker's running task is not.
    """
    app = make_app(broker_url, send_sent_event=True)
    with (
        capture(broker_url) as truth,
        CeleryWorker(broker_url, "a") as victim,
        CeleryWorker(broker_url, "b", queues=("other",)) as other,
    ):
        orphan = app.tasks["tests.slow"].delay(300).id
        healthy = app.tasks["tests.slow"].apply_async((3,), queue="other").id
        truth.wait_for("task-started", 2)
        name = victim.nodename
        victim.kill()

        line = told_once(fleet, "task-orphaned", orphan)

        assert (line["level"], line["task_name"], line["queue"]) == ("error", "tests.slow", "celery")
        assert (line["worker"], line["phase"]) == (name, "started")
        assert line["confirmed_by"] == ["worker-lost", "workers"]
        assert line["answered"] == 1
        assert said(fleet, "task-orphaned", healthy) == []
        wait_for_value(lambda: exported("ha_monitor_tasks_orphaned"), 1, 30, "the gauge")
        assert other.nodename != name


def test_a_hung_task_is_stuck_once_and_ends_as_any_other(fleet: Fleet, broker_url: str) -> None:
    """Given a task that takes longer than it may, it is said to be stuck, once, though the leader is killed afterwards;
    when it ends after all, it has its end, and is not stuck any more.
    """
    app = make_app(broker_url, send_sent_event=True)
    with CeleryWorker(broker_url, "a") as worker:
        hung = app.tasks["tests.slow"].delay(45).id
        wait_until(lambda: said(fleet, "task-stuck", hung), 60, "the line task-stuck", 0.2)
        leader = next(one for one in fleet.instances if scrape(LISTEN, one.name).sum("ha_monitor_leader"))
        # A leader that dies before it has recorded that it wrote a line leaves it to another one, to be written again.
        wait_until(lambda: not any(one.outbox for one in fleet.entries()), 60, "the record that the line is written")
        leader.kill()
        leader.start()
        fleet.wait_until_consuming()

        line = told_once(fleet, "task-stuck", hung)

        assert (line["level"], line["worker"], line["phase"]) == ("warning", worker.nodename, "started")
        assert line["confirmed_by"] == ["worker"]
        assert line["seconds"] >= 6
        wait_until(lambda: said(fleet, "task-succeeded", hung), 60, "the task's end")
        assert "source" not in said(fleet, "task-succeeded", hung)[0]
        wait_for_value(lambda: exported("ha_monitor_leader"), 1, 60, "a leader that exports")
        wait_for_value(lambda: exported("ha_monitor_tasks_stuck"), 0, 30, "the gauge")
        assert said(fleet, "task-orphaned", hung) == []


def test_what_a_worker_need_not_list_is_no_orphan(fleet: Fleet, broker_url: str) -> None:
    """Given a task that waits in a worker for its rate limit, and one that is acknowledged late and whose worker is
    killed, so that it is back in its queue, both are stuck, once, and no orphans.
    """
    app = make_app(broker_url, send_sent_event=True)
    with (
        capture(broker_url) as truth,
        CeleryWorker(broker_url, "a") as victim,
        CeleryWorker(broker_url, "b", queues=("other",)) as limited,
    ):
        for _ in range(2):
            waiting = app.tasks["tests.limited"].apply_async((1, 2), queue="other").id
        back = app.tasks["tests.slow_late"].delay(300).id
        truth.wait_for("task-received", 3)
        truth.wait_for("task-started", 2)
        victim.kill()

        line = told_once(fleet, "task-stuck", waiting)
        assert (line["phase"], line["worker"], line["confirmed_by"]) == ("received", limited.nodename, ["workers"])
        wait_until(lambda: fleet.said("worker-lost"), 60, "the loss of the worker", 0.2)
        line = told_once(fleet, "task-stuck", back)
        assert line["phase"] == "started"
        assert fleet.said("task-orphaned") == []


def test_a_task_that_no_worker_takes_is_stuck_once(fleet: Fleet, broker_url: str) -> None:
    """Given a task in a queue that nobody consumes, it is said to be stuck, sent and not received; one that a busy
    worker holds is received and not started; one with an eta is neither.
    """
    app = make_app(broker_url, send_sent_event=True)
    with CeleryWorker(broker_url, "a", concurrency=1) as worker:
        running = app.tasks["tests.slow"].delay(300).id
        waiting = app.tasks["tests.add"].delay(1, 2).id
        later = app.tasks["tests.add"].apply_async((1, 2), countdown=60).id
        nobody = app.tasks["tests.add"].apply_async((1, 2), queue="other").id

        line = told_once(fleet, "task-stuck", nobody)

        assert (line["phase"], line["queue"], line["confirmed_by"]) == ("sent", "other", ["workers"])
        assert line["worker"] == ""
        held = told_once(fleet, "task-stuck", waiting)
        assert (held["phase"], held["confirmed_by"]) == ("received", ["worker"])
        assert {line["task_id"] for line in fleet.said("task-stuck")} == {running, waiting, nobody}
        assert said(fleet, "task-stuck", later) == []
        assert fleet.said("task-orphaned") == []
        worker.kill()


def test_ends_that_nobody_heard_of_are_reconciled_once(
    tmp_path: Path, broker_url: str, store_url: str, result_url: str
) -> None:
    """Given tasks that end while no instance runs and whose last events are purged from the queue, each gets its end
    from the result backend, once, with its source; nothing is stuck or orphaned.
    """
    settings = {**SETTINGS, "result_backend": {"url": result_url}}
    app = make_app(broker_url, result_url, send_sent_event=True)
    with (
        Fleet(tmp_path, broker_url, store_url, settings=settings).start() as fleet,
        capture(broker_url) as truth,
        CeleryWorker(broker_url, "a", concurrency=2, result_backend=result_url) as worker,
    ):
        slow = app.tasks["tests.slow"].delay(12).id
        app.tasks["tests.slow"].delay(12)
        failed = app.tasks["tests.fail"].delay("no such thing").id
        wait_until(lambda: f"{failed}] received" in worker.log(), 30, "the tasks' receipt")
        truth.wait_for("task-received", 3)
        fleet.wait_until_merged(len(truth.events))
        for instance in fleet.instances:
            assert instance.stop() == 0
        unseen = app.tasks["tests.add"].delay(1, 2).id
        wait_until(lambda: f"{slow}] succeeded" in worker.log(), 30, "the task's end")
        wait_until(lambda: f"{unseen}] succeeded" in worker.log(), 30, "the last task's end")
        truth.wait_for("task-succeeded", 3)
        truth.wait_for("task-failed", 1)
        with Connection(broker_url) as connection:
            connection.default_channel.queue_purge("celeryev.fleet")
        fleet.start()

        line = told_once(fleet, "task-succeeded", slow)

        assert (line["source"], line["task_name"], line["queue"]) == ("reconciled", "tests.slow", "celery")
        assert line["worker"] == worker.nodename
        assert line["runtime"] == pytest.approx(12, abs=1)
        assert "incomplete" not in line
        assert fleet.said("task-stuck") == fleet.said("task-orphaned") == []
        (line,) = said(fleet, "task-failed", failed)
        assert (line["source"], line["exception"]) == ("reconciled", "KeyError('no such thing')")
        assert line["traceback"].rstrip().endswith("KeyError: 'no such thing'")
        # Of this one nobody ever heard a word, so there is no record to complete.
        assert said(fleet, "task-succeeded", unseen) == []
        wait_for_value(lambda: exported("ha_monitor_tasks_reconciled_total"), 3, 30, "the counter")


SLOW_HANDLER = """
import time
from pathlib import Path
from ha_monitor import on

@on("task-succeeded")
def slow(event, task):
    time.sleep(0.004)

@on("task-stuck", "task-orphaned")
def note(event, task):
    with (Path(__file__).parent / "noted").open("a") as file:
        print(event.type, event.task_id, task.name, task.state, event.fields["phase"], file=file)
"""


def test_a_backlog_is_no_alarm(tmp_path: Path, broker_url: str, store_url: str, result_url: str) -> None:
    """Given tasks that were sent and done long ago and whose ends wait far behind in the queue, through which an
    instance with a slow handler works for half a minute, nothing is stuck, orphaned or reconciled but the one task
    that never ended; that goes to the handler.
    """
    (tmp_path / "slow_handler.py").write_text(SLOW_HANDLER)
    settings = {
        **SETTINGS,
        "result_backend": {"url": result_url},
        "handlers": {"modules": ["slow_handler"]},
    }
    began = time.time() - 1000
    with (
        Fleet(
            tmp_path, broker_url, store_url, settings=settings, size=1, env={"PYTHONPATH": f"{ROOT}:{tmp_path}"}
        ) as fleet,
        CeleryWorker(broker_url, "a"),  # who knows how such a task is acknowledged
    ):
        fleet.start()
        assert fleet.instances[0].stop() == 0  # it has declared the queue
        beat = json.dumps(event("worker-heartbeat", at=began))
        publish(broker_url, [Recorded("worker.heartbeat", "application/json", "utf-8", beat)])
        for kind in ("task-sent", "task-received", "task-started", "task-succeeded"):
            numbers = range(5000) if kind == "task-succeeded" else range(5001)
            publish(broker_url, backlog(kind, numbers, began))
        fleet.start()

        wait_for_value(lambda: len(fleet.said("task-succeeded")), 5000, 120, "the ends", 0.5)
        line = told_once(fleet, "task-orphaned", "task 5000")

        assert line["confirmed_by"] == ["worker-lost", "workers", "result-backend"]
        assert fleet.said("task-stuck") == []
        assert len(fleet.said("task-orphaned")) == 1
        assert len(fleet.said("task-succeeded")) == 5000
        assert (tmp_path / "noted").read_text() == "task-orphaned task 5000 tests.add STARTED started\n"
        # The heartbeats of the living worker wait in the queue, too; the other one has been silent for long.
        assert [line["worker"] for line in fleet.said("worker-lost")] == ["celery@host"]
        assert fleet.said("worker-clock-skew") == []


def backlog(kind: str, numbers: Iterable[int], at: float) -> Iterator[Recorded]:
    """Messages of a worker of which nothing was heard since."""
    for number in numbers:
        body = event(kind, at=at, uuid=f"task {number}", name="tests.add", clock=number)
        yield Recorded(kind.replace("-", "."), "application/json", "utf-8", json.dumps(body))


def test_a_result_backend_that_is_away_is_said_and_nothing_is_made_up(
    tmp_path: Path, broker_url: str, store_url: str
) -> None:
    """Given a result backend that does not answer, a task that no worker has is neither orphaned nor ended; one line
    says why.
    """
    settings = {**SETTINGS, "result_backend": {"url": "redis://127.0.0.1:1/0"}}
    app = make_app(broker_url, send_sent_event=True)
    with (
        Fleet(tmp_path, broker_url, store_url, settings=settings, size=1).start() as fleet,
        CeleryWorker(broker_url, "a"),
    ):
        ignored = app.tasks["tests.ignore"].delay().id
        wait_until(lambda: fleet.said("task-inspection-failed"), 60, "the line", 0.2)
        time.sleep(SETTLED)

        assert len(fleet.said("task-inspection-failed")) == 1
        assert [line for line in fleet.lines() if line.get("task_id") == ignored and line["level"] != "debug"] == []


def test_a_redis_broker(tmp_path: Path, redis_broker_url: str, store_url: str, result_url: str) -> None:
    """Given Redis as the broker, a hung task is stuck and an orphan is orphaned as with RabbitMQ."""
    app = make_app(redis_broker_url, result_url, send_sent_event=True)
    with (
        Fleet(tmp_path, redis_broker_url, store_url, settings=SETTINGS).start() as fleet,
        CeleryWorker(redis_broker_url, "a") as worker,
        CeleryWorker(redis_broker_url, "b", queues=("other",)),
    ):
        hung = app.tasks["tests.slow"].delay(300).id
        line = told_once(fleet, "task-stuck", hung)
        assert (line["worker"], line["confirmed_by"]) == (worker.nodename, ["worker"])
        worker.kill()

        line = told_once(fleet, "task-orphaned", hung)

        assert line["confirmed_by"] == ["worker-lost", "workers"]
    redis.Redis.from_url(redis_broker_url).flushdb()
