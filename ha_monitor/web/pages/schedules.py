"""What celery beat should run, when, and whether it did."""

from __future__ import annotations

from typing import Any

from ha_monitor.query.schedules import WORST, SeenSchedule
from ha_monitor.schedules.model import ScheduleState
from ha_monitor.web.page import Page
from ha_monitor.web.parameters import Parameters
from ha_monitor.web.rows import about, at
from ha_monitor.web.view import View


def page(view: View, asked: Parameters) -> Page:
    """The schedules, those that did not run first."""
    pattern, reverse = asked.text("name") or None, asked.flag("reverse")
    found = view.schedules(pattern, asked.count(), reverse=reverse)
    rows = [row(one, found.time) for one in found.items]
    states = [one["state"] for one in rows]
    values = {
        "schedules": rows,
        "more": found.more,
        "pattern": pattern or "",
        "counts": [(state.value, states.count(state.value)) for state in WORST if state.value in states],
        "about": about(found, "schedules", *([pattern] if pattern else []), *(["-r"] if reverse else [])),
    }
    return Page("schedules.html", values)


def row(seen: SeenSchedule, now: float) -> dict[str, Any]:
    """A schedule for the template.

    :param now: seconds since the epoch.
    """
    one = seen.judgement
    last = None if one.last is None or one.last.run is None else one.last.run.at
    return {
        "name": one.definition.name,
        "task": one.definition.task,
        "every": one.definition.timetable,
        "last": at(last, now),
        "next": at(seen.next_due, now),
        "state": one.state.value,
        "missed": one.missed if one.missed > 1 and one.state is ScheduleState.MISSED else 0,
        "source": seen.source,
    }
