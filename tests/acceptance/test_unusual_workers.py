"""Workers that are set up unlike most, under a fleet: none is called what it is not."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ha_monitor.check.findings import Severity
from ha_monitor.check.workers import check_workers
from ha_monitor.clock import SystemClock
from ha_monitor.status.fleet import read_fleet
from tests.support.celery_app import make_app
from tests.support.instances import ROOT, Fleet
from tests.support.process import wait_until
from tests.support.workers import CeleryWorker

LOST_AFTER = 6.0
SETTINGS: dict[str, dict[str, Any]] = {
    "store": {"lease": 5.0},
    "workers": {"late_after": 3.0, "lost_after": LOST_AFTER},
    "stuck": {"received_after": 600.0, "started_after": 600.0},
}
BEHIND = 7200
CLOCK = f"""
import time
real = time.time
time.time = lambda: real() - {BEHIND}
"""
"""A module that Python imports before all others."""


@pytest.fixture
def fleet(tmp_path: Path, broker_url: str, store_url: str) -> Iterator[Fleet]:
    with Fleet(tmp_path, broker_url, store_url, settings=SETTINGS, size=2).start() as running:
        yield running


def test_a_worker_without_heartbeats_is_not_lost(fleet: Fleet, broker_url: str) -> None:
    """Given a worker that sends no heartbeats and that an instance asked for one as it started, no line calls it lost
    while it works, nor while it has nothing to do, and the check knows that it sends task events.
    """
    app = make_app(broker_url)
    with CeleryWorker(broker_url, "a", args=("--without-heartbeat",)) as worker:
        fleet.instances[0].stop()
        fleet.instances[0].start()
        fleet.wait_until_consuming()
        worked_until = time.monotonic() + 2 * LOST_AFTER
        while time.monotonic() < worked_until:
            app.tasks["tests.add"].delay(1, 2)
            time.sleep(1)
        wait_until(lambda: fleet.said("task-succeeded"), 60, "the first task")
        (finding,) = check_workers(fleet.config)
        assert (finding.severity, finding.text) == (Severity.OK, f"{worker.nodename} sends task events")
        time.sleep(3 * LOST_AFTER)

        assert fleet.said("worker-lost") + fleet.said("worker-recovered") == []


def test_a_worker_whose_clock_is_behind_is_called_that(fleet: Fleet, broker_url: str, tmp_path: Path) -> None:
    """Given a worker whose clock is two hours behind, one line says so, and status shows it; its running task is not
    stuck, and no instance lags.
    """
    (tmp_path / "behind").mkdir()
    (tmp_path / "behind" / "sitecustomize.py").write_text(CLOCK)
    app = make_app(broker_url)
    with CeleryWorker(broker_url, "a", env={"PYTHONPATH": f"{tmp_path / 'behind'}:{ROOT}"}) as worker:
        app.tasks["tests.slow"].delay(25)
        wait_until(lambda: fleet.said("worker-clock-skew"), 60, "the line", 0.2)
        wait_until(lambda: fleet.said("task-succeeded"), 60, "the end of the task", 0.2)

        (line,) = fleet.said("worker-clock-skew")
        assert (line["level"], line["worker"]) == ("warning", worker.nodename)
        assert line["skew"] == pytest.approx(-BEHIND, abs=60)
        status = read_fleet(fleet.config, SystemClock())
        assert [one.skew for one in status.workers] == [pytest.approx(-BEHIND, abs=60)]
        assert max(one.lag for one in status.instances) < BEHIND / 2
        assert fleet.said("task-stuck") + fleet.said("task-orphaned") == []
