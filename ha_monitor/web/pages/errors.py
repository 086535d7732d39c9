"""What fails, in groups of one task name, one class of error and one place."""

from __future__ import annotations

from typing import Any

from ha_monitor.query.groups import SORTS, KnownGroup
from ha_monitor.store.error_groups import GroupState
from ha_monitor.web.charts import sparkline
from ha_monitor.web.page import Page
from ha_monitor.web.pages.names import flags
from ha_monitor.web.parameters import Parameters
from ha_monitor.web.rows import about, at
from ha_monitor.web.view import View


def page(view: View, asked: Parameters) -> Page:
    """The groups, latest error first."""
    sort, reverse = asked.text("sort"), asked.flag("reverse")
    found = view.errors(asked.times, asked.count(), sort=sort, reverse=reverse)
    rows = [row(one, found.time) for one in found.items]
    words = ["errors", *flags(asked), *(["--sort", sort] if sort != "last" else []), *(["-r"] if reverse else [])]
    values = {
        "errors": rows,
        "more": found.more,
        "sort": sort,
        "sorts": list(SORTS),
        "counts": [(str(state), number) for state in GroupState if (number := _of(rows, state))],
        "about": about(found, *words),
    }
    return Page("errors.html", values)


def _of(rows: list[dict[str, Any]], state: GroupState) -> int:
    return sum(one["state"] == state for one in rows)


def row(one: KnownGroup, now: float) -> dict[str, Any]:
    """An error group for the template.

    :param now: seconds since the epoch.
    """
    group = one.group
    return {
        "id": group.id,
        "state": str(group.state),
        "name": group.name,
        "error": group.error_class,
        "place": group.place,
        "message": group.message,
        "failures": group.failures,
        "retries": group.retries,
        "hour": group.by_hour[-1],
        "day": sum(group.by_hour),
        "first": at(group.first, now),
        "last": at(group.last, now),
        "resolved": at(group.resolved_at, now) if group.resolved_at else None,
        "ignored": at(group.ignored_until, now) if group.ignored_until else None,
        "mark": None if one.mark is None else {"label": one.mark.label, "at": at(one.mark.at, now)},
        "workers": one.workers,
        "spark": sparkline(group.by_hour),
        "said": f"failures by hour: {', '.join(map(str, group.by_hour))}",
    }
