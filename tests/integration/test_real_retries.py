"""A task that two real workers retry very often, and whose clocks differ: each of its events has one line."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

from tests.acceptance.faults.test_faults_clocks import with_clock
from tests.support.celery_app import make_app
from tests.support.instances import Fleet
from tests.support.measured import Measured
from tests.support.process import wait_until
from tests.support.workers import CeleryWorker

RETRIES = 900
"""With them the task has more than 2,700 events, of which its record remembers the latest 1,000."""
BEHIND = -3600


def test_each_retry_of_two_workers_whose_clocks_differ_has_a_line(
    tmp_path: Path, broker_url: str, store_url: str, measured: Measured
) -> None:
    """Given three instances, and two workers of one queue whose clocks differ by an hour, a task that they retry 900
    times has a line for each attempt, with its exception, and one for its success; none twice, and none is missing.
    """
    with (
        Fleet(tmp_path, broker_url, store_url, size=3).start() as fleet,
        CeleryWorker(broker_url, "right", pool="solo") as right,
        CeleryWorker(broker_url, "behind", pool="solo", env=with_clock(tmp_path / "clock", BEHIND)) as behind,
    ):
        task_id = make_app(broker_url).tasks["tests.flaky"].delay(RETRIES).id
        wait_until(lambda: fleet.said("task-succeeded"), 120, "the success", 0.5)
        # Another instance may still be about to announce a retry that it was given.
        wait_until(lambda: len(fleet.said("task-retried")) >= RETRIES, 30, "all retries", 0.2)
        for one in fleet.instances:
            assert one.stop() == 0

        retried, (succeeded,) = fleet.said("task-retried"), fleet.said("task-succeeded")
        shares = Counter(line["worker"] for line in retried)
        measured("retries of two workers whose clocks differ by an hour", " and ".join(map(str, shares.values())))
        attempts = [re.search(r"not yet \((\d+)\)", line["exception"]) for line in retried]
        assert sorted(int(found[1]) for found in attempts if found) == list(range(RETRIES))
        assert len(attempts) == RETRIES
        assert {line["task_id"] for line in (*retried, succeeded)} == {task_id}
        assert {line["task_name"] for line in (*retried, succeeded)} == {"tests.flaky"}
        assert len({line["event_id"] for line in (*retried, succeeded)}) == RETRIES + 1
        assert succeeded["retries"] == RETRIES
        assert shares.keys() == {right.nodename, behind.nodename}
        assert min(shares.values()) > RETRIES / 5, "one worker did nearly all: this would prove nothing"
        assert [line["event"] for kind in ("events-lost", "task-orphaned") for line in fleet.said(kind)] == []
