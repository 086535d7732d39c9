"""Tasks of a real worker whose ids are no texts, or very long: each is announced under one text."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from uuid import UUID

from ha_monitor.events.task_id import text_of_id
from tests.support.celery_app import make_app
from tests.support.instances import Fleet
from tests.support.process import wait_for_value
from tests.support.workers import CeleryWorker

AS_TEXT = "8d3b9c4e-1f0a-4b7e-9a51-2f6d0c1e7a90"
LONG = "order-" * 100


def test_tasks_with_other_ids_are_announced(tmp_path: Path, redis_broker_url: str, store_url: str) -> None:
    """Given tasks on a Redis broker whose ids are a UUID, a number and a long text, and a worker that works on them,
    each has its line with its name, and each is its own root."""
    ids: list[Any] = [UUID(AS_TEXT), 42, LONG]
    with Fleet(tmp_path, redis_broker_url, store_url, size=1).start() as fleet:
        app = make_app(redis_broker_url, send_sent_event=True)
        for task_id in ids:
            app.tasks["tests.add"].apply_async((1, 2), task_id=task_id)
        # Only the sender tells the queue, and sends its event behind the task: a quick worker would be first.
        fleet.wait_until_merged(len(ids))
        with CeleryWorker(redis_broker_url, pool="solo"):
            wait_for_value(lambda: len(fleet.said("task-succeeded")), len(ids), 60, "the ends", 0.2)

        found = {line["task_id"]: line for line in fleet.said("task-succeeded")}
        assert set(found) == {AS_TEXT, "42", text_of_id(LONG)}
        assert {line["task_name"] for line in found.values()} == {"tests.add"}
        assert all(line["root_id"] == task_id for task_id, line in found.items())
        assert all(line["queue"] == "celery" for line in found.values())
        assert fleet.said("event-rejected") == []
