"""Tasks of a real worker whose process is stopped, killed or exits: each fails once, by its exception's class."""

from __future__ import annotations

from pathlib import Path

from tests.support.celery_app import make_app
from tests.support.instances import Fleet
from tests.support.machine import patient
from tests.support.process import wait_until
from tests.support.workers import CeleryWorker


def test_each_process_that_ends_is_one_failure_of_its_class(tmp_path: Path, broker_url: str, store_url: str) -> None:
    """Given two instances, and tasks that run over their hard time limit, are killed, and exit, and one that fails
    behind them, each has one line, with the class of its exception."""
    with Fleet(tmp_path, broker_url, store_url, size=2).start() as fleet, CeleryWorker(broker_url) as worker:
        tasks = make_app(broker_url).tasks
        stopped = [tasks["tests.slow"].apply_async((60,), time_limit=1).id for _ in range(3)]
        ended = [tasks["tests.die"].delay(by_signal).id for by_signal in (True, False)]
        wait_until(lambda: len(fleet.said("task-failed")) >= 5, 60, "the failures", 0.2)
        last = tasks["tests.fail"].delay().id
        # What the worker sends behind them shows that there is no second one on its way.
        wait_until(
            lambda: last in {line["task_id"] for line in fleet.said("task-failed")}, patient(60), "the last", 0.2
        )
        worker.stop()
        wait_until(lambda: fleet.said("worker-offline"), 60, "the end of the worker", 0.2)

        classes = {line["task_id"]: line["exception"].partition("(")[0] for line in fleet.said("task-failed")}
        assert classes == {
            **dict.fromkeys(stopped, "TimeLimitExceeded"),
            **dict.fromkeys(ended, "WorkerLostError"),
            last: "KeyError",
        }
        assert len(fleet.said("task-failed")) == 6
