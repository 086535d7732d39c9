"""One error group: since when, where, its traceback, and its tasks."""

from __future__ import annotations

from ha_monitor.web.page import NotFound, Page
from ha_monitor.web.pages.errors import row
from ha_monitor.web.parameters import Parameters
from ha_monitor.web.rows import about, at, command, task_row
from ha_monitor.web.view import View


def page(view: View, asked: Parameters) -> Page:
    """The group, or a choice of those whose ids begin with the text.

    :raises NotFound: if there is none.
    """
    found = view.error(asked.name)
    now = found.time
    if not found.items:
        raise NotFound(f"no group of errors has the id {asked.name}")
    if len(found.items) > 1:
        groups = [row(one, now) for one in found.items]
        return Page("error-choice.html", {"errors": groups, "about": about(found, "errors", asked.name)})
    (one,) = found.items
    times = {failed.task_id: failed.time for failed in one.group.tasks}
    kept = {task.task_id: task for task in one.tasks}
    tasks = [{**task_row(task, now), "failed": at(times[task_id], now)} for task_id, task in kept.items()]
    values = {
        "error": row(one, now),
        "traceback": one.group.traceback,
        "hours": list(one.group.by_hour),
        "tasks": tasks,
        "gone": len(times) - len(tasks),
        "commands": [command("errors", one.group.id, flag) for flag in ("--resolve", "--ignore=2h")],
        "about": about(found, "errors", one.group.id),
    }
    return Page("error-group.html", values)
