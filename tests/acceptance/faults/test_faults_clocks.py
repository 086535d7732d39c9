"""Wrong clocks of real workers and producers: what is said is right by the clock of the store, or not said."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import redis

from ha_monitor.store.keys import Keys
from tests.acceptance.faults.conftest import FaultTable
from tests.acceptance.faults.test_faults_workers import Tap, tap
from tests.support.celery_app import make_app
from tests.support.instances import ROOT, Fleet, Instance, Overrides
from tests.support.ledger import Line, Published, assert_guarantee
from tests.support.machine import patient
from tests.support.process import wait_until
from tests.support.steady_workers import SteadyWorkers
from tests.support.workers import CeleryWorker

HOURS = 7200
LIMIT = 15.0
"""Seconds that a task may stay in a phase."""
SETTINGS: Overrides = {
    "store": {"lease": 5.0, "name_wait": 5.0},
    "workers": {"late_after": 10.0, "lost_after": 60.0},
    "stuck": {"sent_after": LIMIT, "received_after": LIMIT, "started_after": LIMIT, "run_time_factor": 0},
}
PRODUCER = """
from tests.support.celery_app import make_app
add = make_app(send_sent_event=True).tasks["tests.add"]
print(add.delay(1, 2).id, add.apply_async((1, 2), queue="other").id)
"""


def with_clock(folder: Path, ahead: int) -> dict[str, str]:
    """An environment in which Python's clock is ahead."""
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(
        f"import time\nreal = time.time\ntime.time = lambda: real() + {ahead}\n"  # imported before all others
    )
    return {"PYTHONPATH": f"{folder}:{ROOT}"}


def wait_until_caught_up(store_url: str) -> None:
    """Until the leader has seen the queue of events empty."""
    with redis.Redis.from_url(store_url) as client:
        key = Keys("ha-monitor", "fleet").caught_up
        wait_until(lambda: client.exists(key), 60, "that all is merged", 0.2)


def lines_of(fleet: Fleet, event: str, task_id: str) -> list[Line]:
    return [line for line in fleet.said(event) if line["task_id"] == task_id]


def stuck(fleet: Fleet, task_id: str, began: float) -> Line:
    """The line of a task that hangs: by the clock of the store it comes when the limit is over, not before."""
    (line,) = wait_until(lambda: lines_of(fleet, "task-stuck", task_id), 120, "the line task-stuck", 0.2)
    assert time.monotonic() - began >= LIMIT
    assert LIMIT <= line["seconds"] < HOURS / 2
    return line


def account(fleet: Fleet, tapped: Tap, fault_table: FaultTable, fault: str) -> None:
    published = Published(list(tapped.messages()))
    # What comes since then has a line, and is not among them.
    found = fleet.account(published, patient(60))._replace(renamed=0)
    assert_guarantee(fault_table.add(fault, found))


@pytest.mark.parametrize("ahead", [HOURS, -HOURS], ids=["ahead", "behind"])
def test_a_worker_with_a_wrong_clock(
    *, tmp_path: Path, broker_url: str, store_url: str, fault_table: FaultTable, ahead: int
) -> None:
    """Given a worker whose clock is two hours ahead or behind, one line says so; no line says that a task waited for
    hours, those of later tasks say how long they did; and a task that hangs is stuck when its limit is over.
    """
    app = make_app(broker_url, send_sent_event=True)
    with (
        tap(broker_url) as tapped,
        Fleet(tmp_path, broker_url, store_url, size=2, settings=SETTINGS).start() as fleet,
        CeleryWorker(broker_url, env=with_clock(tmp_path / "clock", ahead)) as worker,
    ):
        early = app.tasks["tests.add"].delay(1, 2).id
        wait_until(lambda: fleet.said("worker-clock-skew"), 60, "the line", 0.2)
        late = [app.tasks["tests.add"].delay(1, 2).id for _ in range(5)]
        began = time.monotonic()
        hangs = app.tasks["tests.slow"].delay(600).id
        wait_until(lambda: all(lines_of(fleet, "task-succeeded", one) for one in (early, *late)), 60, "the ends", 0.2)

        line = stuck(fleet, hangs, began)

        assert (line["phase"], line["worker"]) == ("started", worker.nodename)
        (skewed,) = fleet.said("worker-clock-skew")
        assert skewed["skew"] == pytest.approx(ahead, abs=60)
        waits = {one: lines_of(fleet, "task-succeeded", one)[0].get("queue_time") for one in (early, *late)}
        assert all(wait < HOURS / 2 for wait in waits.values() if wait is not None)
        assert None not in [waits[one] for one in late]
        for event in ("task-orphaned", "worker-lost", "events-lost"):
            assert fleet.said(event) == []
        assert len(fleet.said("task-stuck")) == 1
        account(fleet, tapped, fault_table, f"a worker's clock is two hours {'ahead' if ahead > 0 else 'behind'}")
        worker.kill()


@pytest.mark.parametrize("ahead", [HOURS, -HOURS], ids=["ahead", "behind"])
def test_a_producer_with_a_wrong_clock(
    *, tmp_path: Path, broker_url: str, store_url: str, fault_table: FaultTable, ahead: int
) -> None:
    """Given a producer whose clock is two hours ahead or behind, no line has a wait that is hours too long, and a task
    that no worker receives is stuck when its limit is over.
    """
    # Confirmed: else the end of a producer may take with it what a busy broker has not read yet.
    own = {"TESTS_BROKER_URL": broker_url, "TESTS_CONFIRM_PUBLISH": "1"}
    env = os.environ | with_clock(tmp_path / "clock", ahead) | own
    with (
        tap(broker_url) as tapped,
        Fleet(tmp_path, broker_url, store_url, size=2, settings=SETTINGS).start() as fleet,
        CeleryWorker(broker_url),
    ):
        wait_until_caught_up(store_url)
        began = time.monotonic()
        made = subprocess.run([sys.executable, "-c", PRODUCER], env=env, check=True, capture_output=True, text=True)
        runs, waits = made.stdout.split()
        (end,) = wait_until(lambda: lines_of(fleet, "task-succeeded", runs), 60, "the end", 0.2)
        # If another instance is given the task-sent, the end may not wait for it: then the wait begins at the worker.
        assert end.get("queue_time", 0.0) < HOURS / 2

        line = stuck(fleet, waits, began)

        assert line["phase"] == "sent"
        for event in ("task-orphaned", "worker-lost", "worker-clock-skew", "events-lost"):
            assert fleet.said(event) == []
        assert len(fleet.said("task-stuck")) == 1
        account(fleet, tapped, fault_table, f"a producer's clock is two hours {'ahead' if ahead > 0 else 'behind'}")


STEPPING = """
import time
from pathlib import Path

real, ahead = time.time, Path({file!r})
time.time = lambda: real() + (float(ahead.read_text()) if ahead.exists() else 0.0)
"""


def wait_for_work(instance: Instance, lines: int) -> None:
    before = instance.said("task-succeeded")
    wait_until(lambda: instance.said("task-succeeded") > before + lines, 60, "work")


@pytest.mark.long
def test_an_instance_whose_clock_steps(
    *, tmp_path: Path, broker_url: str, store_url: str, fault_table: FaultTable
) -> None:
    """Given a load and two instances, when the clock of one steps two hours ahead, back, and two hours behind, nothing
    is lost or doubled, no lease is lost, and nothing untrue is said.
    """
    (folder := tmp_path / "clock").mkdir()
    ahead = tmp_path / "ahead"
    (folder / "sitecustomize.py").write_text(STEPPING.format(file=str(ahead)))
    (others := tmp_path / "right").mkdir()
    with (
        Fleet(others, broker_url, store_url, size=1, settings=SETTINGS).start() as fleet,
        Fleet(
            tmp_path, broker_url, store_url, size=1, settings=SETTINGS, env={"PYTHONPATH": f"{folder}:{ROOT}"}
        ) as wrong,
        SteadyWorkers(broker_url, rate=30) as workers,
    ):
        wrong.instances[0].name = "2"
        wrong.start()
        fleet.instances += wrong.instances
        for step in (HOURS, 0, -HOURS):
            unfinished = ahead.with_suffix(".new")
            unfinished.write_text(str(step))
            unfinished.rename(ahead)
            wait_for_work(wrong.instances[0], 50)
        found = fault_table.add("an instance's clock steps by two hours", fleet.close_account(workers.stop()))
        said = [line["event"] for line in fleet.lines()]
    assert_guarantee(found)
    for event in ("lease-lost", "outbox-taken-over", "task-stuck", "task-orphaned", "events-lost", "worker-lost"):
        assert event not in said
