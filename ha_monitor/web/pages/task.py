"""What became of one task: its story, and the workflow that it belongs to."""

from __future__ import annotations

from typing import Any

from ha_monitor.answers.task import OneTask
from ha_monitor.events.catalogue import State
from ha_monitor.query.fields import OPEN, queue_time_of, runtime_of
from ha_monitor.query.story import Step, steps_of
from ha_monitor.query.tree import Leg, branches
from ha_monitor.store.queries import KeptTask
from ha_monitor.web.formatting import duration, plural
from ha_monitor.web.page import NotFound, Page
from ha_monitor.web.parameters import Parameters
from ha_monitor.web.rows import about, at, command, short_id, task_row
from ha_monitor.web.timeline import timeline
from ha_monitor.web.view import View

WHAT = {
    "task-sent": "sent",
    "task-received": "received",
    "task-started": "started",
    "task-succeeded": "succeeded",
    "task-failed": "failed",
    "task-retried": "to be retried",
    "task-rejected": "rejected",
    "task-revoked": "revoked",
}
_LOOKS = {"task-failed": "bad", "task-rejected": "bad", "task-retried": "warn", "task-revoked": "warn"}
MAX_STEPS = 300
"""Latest steps of a story that are shown."""
ALONE = "A group or chord that a client sent is not connected in events: each of its tasks is a root of its own."


def page(view: View, asked: Parameters) -> Page:
    """The task, or a choice of those whose ids begin with the text.

    :raises NotFound: if there is none.
    """
    found = view.task(asked.name)
    now = found.time
    if not found.items:
        raise NotFound(
            f"no task has the id {asked.name}, and none of those that are listed begins so: "
            "no event of it was received, or it is no longer kept"
        )
    if len(found.items) > 1:
        rows = [task_row(one.task, now) for one in found.items]
        return Page("task-choice.html", {"tasks": rows, "about": about(found, "task", asked.name)})
    (one,) = found.items
    return Page("task.html", {**_values(one, view, now), "about": about(found, "task", one.task.task_id, "--tree")})


def _values(one: OneTask, view: View, now: float) -> dict[str, Any]:
    task, record = one.task, one.task.record
    steps = steps_of(task)
    group = _group(view, record.error_group)
    root = record.root_id if record.root_id != record.task_id else None
    return {
        "task": task_row(task, now),
        "group": group,
        "waited": queue_time_of(task, now),
        "ran": runtime_of(task, now),
        "is_open": record.state in OPEN,
        "eta": at(record.eta, now) if record.eta else None,
        "again": f"{plural(record.retries, 'retry', 'retries')}, {plural(record.runs, 'run')}"
        if record.retries or record.runs > 1
        else "",
        "root": _other(root, one),
        "parent": _other(record.parent_id, one),
        "arguments": record.args,
        "keywords": record.kwargs,
        "known": _known(task),
        "remarks": one.remarks,
        "steps": [_step(step, task, now) for step in steps[-MAX_STEPS:]],
        "earlier": max(0, len(steps) - MAX_STEPS),
        "traceback": group["traceback"] if group and record.state is State.FAILURE else "",
        "workflow": _workflow(one, now),
        "journal": f"journalctl HA_TASK_ID={record.task_id} -o cat | jq" if _is_plain(record.task_id) else "",
        "commands": [command("task", record.task_id)],
    }


def _other(task_id: str | None, one: OneTask) -> dict[str, Any] | None:
    """Another task of the workflow."""
    if task_id is None:
        return None
    known = one.tree.tasks.get(task_id) if one.tree is not None else None
    return {"id": task_id, "short": short_id(task_id), "name": None if known is None else known.record.name}


def _is_plain(text: str) -> bool:
    return bool(text) and all(one.isascii() and (one.isalnum() or one in "-_.") for one in text)


def _group(view: View, group_id: str | None) -> dict[str, Any] | None:
    """What is known of the group of the task's error."""
    if group_id is None:
        return None
    (group,) = view.queries.error_groups([group_id])
    if group is None:
        return {"id": group_id, "error": "", "count": "", "since": None, "traceback": ""}
    now = view.now()
    count = plural(group.failures, "failure")
    since = at(group.first, now)
    return {"id": group.id, "error": group.error_class, "count": count, "since": since, "traceback": group.traceback}


def _known(task: KeptTask) -> str:
    events = plural(len(task.story), "event") if task.story else "the last event of each kind"
    source = ", its end from the result backend" if task.reconciled else ""
    return f"{events}{source}; {'complete' if task.complete else 'some never came'}"


def _step(step: Step, task: KeptTask, now: float) -> dict[str, Any]:
    what = WHAT.get(step.type, "custom event" if step.type == "custom" else step.type)
    if step.type == "task-sent" and task.record.queue:
        what = f"sent to queue {task.record.queue}"
    after = None if step.after is None else duration(step.after)
    is_end = step.type == "task-failed" and task.record.state is State.FAILURE
    return {
        "at": at(step.time, now, milliseconds=True),
        "after": after,
        "what": what,
        "note": step.note,
        "look": _LOOKS.get(step.type, ""),
        "exception": task.record.exception if is_end else None,
        "error": step.error,
    }


def _workflow(one: OneTask, now: float) -> dict[str, Any] | None:
    """The tree over time; None if the task is the only one in it."""
    tree = one.tree
    if tree is None or len(tree.tasks) < 2:
        return None
    shape = timeline(branches(tree), one.path, one.task.task_id, now)
    waited, ran = sum(leg.waited or 0.0 for leg in one.path), sum(leg.ran or 0.0 for leg in one.path)
    share = f"{waited / (waited + ran):.0%}".replace("%", " %") if waited + ran > 0 else ""
    return {
        "count": plural(len(tree.tasks), "task"),
        "seconds": shape.seconds,
        "rows": shape.rows,
        "more": shape.more,
        "waited": waited,
        "ran": ran,
        "share": share,
        "path": [_leg(leg) for leg in one.path] if len(one.path) > 1 else [],
        "note": ALONE,
    }


def _leg(leg: Leg) -> dict[str, Any]:
    record = leg.task.record
    return {
        "id": record.task_id,
        "name": record.name or "(name unknown)",
        "state": str(record.state),
        "before": leg.before,
        "waited": leg.waited,
        "ran": leg.ran,
    }
