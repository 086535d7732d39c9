"""Workers that are set up unlike most, under a fleet: none is called what it is not."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ha_monitor.check.findings import Severity
from ha_monitor.check.workers import check_workers
from tests.support.celery_app import make_app
from tests.support.instances import Fleet
from tests.support.process import wait_until
from tests.support.workers import CeleryWorker

LOST_AFTER = 6.0
SETTINGS: dict[str, dict[str, Any]] = {
    "store": {"lease": 5.0},
    "workers": {"late_after": 3.0, "lost_after": LOST_AFTER},
}


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
