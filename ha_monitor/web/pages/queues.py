"""What waits in each queue, for how long, and whether it empties."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ha_monitor.answers.queues import SORTS, WITHIN, OneQueue
from ha_monitor.query.history import HOUR, SPARKLINE_STEP, bounds_of, queues_over
from ha_monitor.query.queues import Outlook
from ha_monitor.web.charts import sparkline
from ha_monitor.web.formatting import rate, rough
from ha_monitor.web.page import Page
from ha_monitor.web.parameters import Parameters
from ha_monitor.web.rows import about, at
from ha_monitor.web.view import View

LATE_AFTER = 300.0
"""Seconds after which the oldest task of a queue is late, as for the incident."""


def page(view: View, asked: Parameters) -> Page:
    """The queues, the one with the oldest waiting task first."""
    pattern, sort, reverse = asked.text("name") or None, asked.text("sort"), asked.flag("reverse")
    within = max(1.0, asked.seconds("within"))
    found = view.queues(pattern, asked.count(), sort=sort, reverse=reverse, within=within)
    words = ["queues", *([pattern] if pattern else []), *(["--sort", sort] if sort != "oldest" else [])]
    if within != WITHIN:
        words += ["--within", asked.text("within")]
    values = {
        "queues": rows(view, found.items, found.time, bounds_of(found.time, HOUR, SPARKLINE_STEP), within),
        "more": found.more,
        "sort": sort,
        "sorts": list(SORTS),
        "pattern": pattern or "",
        "within": asked.text("within"),
        "about": about(found, *words, *(["-r"] if reverse else [])),
    }
    return Page("queues.html", values)


def rows(
    view: View, items: Sequence[OneQueue], now: float, bounds: Sequence[float], within: float = WITHIN
) -> list[dict[str, Any]]:
    """Queues, each with a sparkline of what waited in the last hour.

    :param now: seconds since the epoch.
    :param bounds: the steps of that hour.
    """
    over = queues_over(view.queries, [one.state.name for one in items if one.state.has_producers], bounds)
    found = []
    for one in items:
        waiting = [step.waiting for step in over.get(one.state.name, ())]
        found.append({**row(one, now, within), "spark": sparkline(waiting), "said": said(waiting)})
    return found


def said(waiting: Sequence[float]) -> str:
    """What a sparkline of waiting tasks shows, in words."""
    return f"waiting by five minutes: {', '.join(f'{one:.0f}' for one in waiting)}"


def row(one: OneQueue, now: float, within: float) -> dict[str, Any]:
    """A queue for the template."""
    state = one.state
    oldest = state.wait.oldest
    age = None if oldest is None else max(0.0, now - oldest)
    never = state.outlook is Outlook.NEVER
    needed = state.needed(within)
    return {
        "name": state.name,
        "told": state.has_producers,
        "waiting": state.wait.waiting,
        "since": at(oldest, now),
        "age": age,
        "late": age is not None and age >= LATE_AFTER,
        "in": rate(state.came),
        "out": rate(state.left),
        "never": never,
        "empty_in": "never"
        if never
        else rough(state.empty_in)
        if state.outlook is Outlook.EMPTIES
        else str(state.outlook),
        "run": state.run_time,
        "busy": None if state.busy is None else rate(state.busy),
        "needed": "not known" if needed is None else f"+{needed:,}" if needed else "0",
        "short": bool(needed),
        "later": state.wait.later,
        "consumed": at(state.consumed_at, now),
    }
