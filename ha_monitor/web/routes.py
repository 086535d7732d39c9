"""The pages by path. Their parameters are those of the endpoint in `endpoints.py`, if there is one."""

from __future__ import annotations

from collections.abc import Mapping

from ha_monitor.web.endpoints import FILTER
from ha_monitor.web.page import PageFunction
from ha_monitor.web.pages import (
    error,
    errors,
    monitor,
    name,
    names,
    overview,
    problems,
    queue,
    queues,
    schedule,
    schedules,
    tail,
    task,
    tasks,
    worker,
    workers,
)
from ha_monitor.web.parameters import Parameter

PAGES: Mapping[str, PageFunction] = {
    "": overview.page,
    "problems": problems.page,
    "tasks": tasks.page,
    "errors": errors.page,
    "queues": queues.page,
    "workers": workers.page,
    "names": names.page,
    "schedules": schedules.page,
    "tail": tail.page,
    "monitor": monitor.page,
}
"""`/<noun>`; the overview has the empty one."""
NAMED: Mapping[str, PageFunction] = {
    "tasks": task.page,
    "errors": error.page,
    "queues": queue.page,
    "workers": worker.page,
    "names": name.page,
    "schedules": schedule.page,
}
"""`/<noun>/<name>`: the name is in the parameters."""
OF_PAGES: Mapping[str, tuple[Parameter, ...]] = {"tail": (FILTER,)}
"""The parameters of pages that have no endpoint in `endpoints.py`."""
