"""One schedule: why it is in its state, and the outcomes of its latest due times."""

from __future__ import annotations

from typing import Any

from ha_monitor.query.schedules import SeenSchedule
from ha_monitor.schedules.model import Occurrence, Run, ScheduleState
from ha_monitor.text.patterns import quoted
from ha_monitor.web.page import NotFound, Page
from ha_monitor.web.pages.schedules import row
from ha_monitor.web.parameters import Parameters
from ha_monitor.web.rows import about, at, short_id
from ha_monitor.web.view import View

MEANINGS = {
    ScheduleState.ON_TIME: "it ran within its grace",
    ScheduleState.LATE: "it ran, but after its grace",
    ScheduleState.MISSED: "its grace is over, and nothing ran",
    ScheduleState.FAILED: "its run failed, was rejected or revoked, or its worker was lost with it",
    ScheduleState.OVERRAN: "its run did not end in time",
    ScheduleState.SKIPPED: "its run expired in its queue",
    ScheduleState.DOUBLED: "it ran more than once for a due time: does a second beat run?",
    ScheduleState.PAUSED: "it is not enabled",
    ScheduleState.WAITING: "nothing was due yet, or it cannot be judged yet",
    ScheduleState.NOT_KNOWN: "the monitor did not look then, or cannot tell when it is due",
}
"""What a state means, used if nothing more specific is known."""


def page(view: View, asked: Parameters) -> Page:
    """The page of a schedule.

    :raises NotFound: if no schedule has that name.
    """
    found = view.schedule(asked.name)
    if not found.items:
        raise NotFound(f"no schedule of the name {asked.name} is known")
    (seen,) = found.items
    values = {
        "schedule": {**row(seen, found.time), **_known(seen, found.time)},
        "due_times": [_due_time(one, found.time) for one in seen.occurrences or ()],
        "about": about(found, "schedules", quoted(asked.name)),
    }
    return Page("schedule.html", values)


def _known(seen: SeenSchedule, now: float) -> dict[str, Any]:
    """What the list of schedules does not show."""
    one, definition = seen.judgement, seen.judgement.definition
    return {
        "why": seen.why or MEANINGS[one.state],
        "since": at(one.since, now),
        "due": seen.due,
        "app": definition.app,
        "grace": definition.grace,
        "ends_within": definition.must_end_within,
        "delay": None if one.last is None else one.last.delay,
        "in_a_row": one.missed,
        "missed_total": one.history.missed_total,
        "producers": list(one.producers),
        "differs": definition.differs if definition.differs != seen.why else "",
    }


def _due_time(one: Occurrence, now: float) -> dict[str, Any]:
    run = one.run
    return {
        "due": at(one.due, now),
        "state": one.state.value,
        "delay": one.delay,
        "ran": None if run is None else _took(run),
        "task_state": None if run is None else run.state,
        "tasks": [_task(each) for each in (run, *one.again) if each is not None],
    }


def _took(run: Run) -> float | None:
    return None if run.started is None or run.ended is None else max(0.0, run.ended - run.started)


def _task(run: Run) -> dict[str, str]:
    return {"id": run.task_id, "short": short_id(run.task_id)}
