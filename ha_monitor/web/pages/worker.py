"""One worker: what it runs now, what failed on it, and what became of its tasks if it is lost."""

from __future__ import annotations

from typing import Any

from ha_monitor.query.workers import SeenWorker
from ha_monitor.text.patterns import quoted
from ha_monitor.web.page import NotFound, Page
from ha_monitor.web.pages.workers import row
from ha_monitor.web.parameters import Parameters, text_of
from ha_monitor.web.rows import about, short_id, task_rows
from ha_monitor.web.view import View

TASKS = 20
"""Tasks of each kind that are listed."""
LEFT = 10
"""Tasks of a lost worker that are linked, per fate."""


def page(view: View, asked: Parameters) -> Page:
    """The page of a worker.

    :raises NotFound: if no worker has that name.
    """
    found = view.worker(asked.name)
    if not found.items:
        raise NotFound(f"no worker of the name {asked.name} was heard of")
    (one,) = found.items[:1]
    now = found.time
    only = f"worker={quoted(asked.name)}"
    has = view.tasks([only, "state=RECEIVED,STARTED"], TASKS)
    failed = view.tasks([only, "state=FAILURE,REJECTED,REVOKED", "since=-1h"], TASKS)
    values = {
        "worker": row(one, now),
        "left": _left(one),
        "has": task_rows(sorted(has.items, key=lambda task: task.first_heard), now),
        "more_has": has.more,
        "failed": task_rows(failed.items, now),
        "more_failed": failed.more,
        "only": text_of(only),
        "about": about(found, "workers", quoted(asked.name)),
    }
    return Page("worker.html", values)


def _left(one: SeenWorker) -> list[dict[str, Any]] | None:
    """What became of its tasks; None if it is not lost."""
    if one.left is None:
        return None
    return [
        {
            "fate": str(fate),
            "count": len(ids),
            "bad": str(fate) in ("orphaned", "record expired"),
            "tasks": [{"id": task_id, "short": short_id(task_id)} for task_id in ids[:LEFT]],
        }
        for fate, ids in one.left.items()
        if ids
    ]
