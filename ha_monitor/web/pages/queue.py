"""One queue: whether it empties, what it needs, how it was, and the tasks that have waited longest."""

from __future__ import annotations

from math import inf
from typing import Any

from ha_monitor.query.history import SPANS, QueuePoint, bounds_of, queues_over
from ha_monitor.text.patterns import quoted
from ha_monitor.web.charts import Chart, Row, chart
from ha_monitor.web.formatting import count, duration, rate
from ha_monitor.web.page import NotFound, Page
from ha_monitor.web.pages.queues import row
from ha_monitor.web.parameters import Parameters, text_of
from ha_monitor.web.rows import about, at, task_rows
from ha_monitor.web.view import View

SPAN = SPANS["3h"]
"""As long as the flow of a queue is kept."""


def page(view: View, asked: Parameters) -> Page:
    """The page of a queue.

    :raises NotFound: if no queue has that name.
    """
    within = max(1.0, asked.seconds("within"))
    found = view.queue(asked.name, within)
    if not found.items:
        raise NotFound(f"no queue of the name {asked.name} is known")
    (one,) = found.items[:1]
    now = found.time
    bounds = bounds_of(now, SPAN.seconds, SPAN.step)
    points = queues_over(view.queries, [asked.name], bounds).get(asked.name, []) if one.state.has_producers else []
    needed = one.state.needed(inf)
    values = {
        "queue": row(one, now, within),
        "keeps_up": "not known" if needed is None else f"+{needed:,}" if needed else "0",
        "within": duration(within),
        "running": view.running(),
        "chart": _chart(points, bounds) if points else None,
        "steps": _table(points, now),
        "oldest": task_rows(one.oldest or (), now),
        "only": text_of(f"queue={quoted(asked.name)}"),
        "about": about(found, "queues", quoted(asked.name)),
    }
    return Page("queue.html", values)


def _per_minute(number: int) -> float:
    return number * 60 / SPAN.step


def _mean(point: QueuePoint) -> float | None:
    return point.flow.run_time / point.flow.ended if point.flow.ended else None


def _chart(points: list[QueuePoint], bounds: list[float]) -> Chart:
    return chart(
        [
            Row("waiting", [("waiting", [one.waiting for one in points])]),
            Row(
                "tasks a minute, out, and in (dashed)",
                [
                    ("out", [_per_minute(one.flow.left) for one in points]),
                    ("in", [_per_minute(one.flow.came) for one in points]),
                ],
                form=_number,
            ),
            Row("run time, mean", [("mean", [_mean(one) for one in points])], form=duration),
        ],
        bounds,
    )


def _number(value: float | None) -> str:
    return count(value) if value is None or value == int(value) else rate(value)


def _table(points: list[QueuePoint], now: float) -> list[dict[str, Any]]:
    return [
        {
            "at": at(one.since, now),
            "waiting": count(one.waiting),
            "came": count(one.flow.came),
            "left": count(one.flow.left),
            "run": duration(_mean(one)),
        }
        for one in reversed(points)
        if one.waiting or one.flow.came or one.flow.left
    ]
