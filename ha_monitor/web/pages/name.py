"""The runs of one task name: charts, the day before, its errors and its latest tasks."""

from __future__ import annotations

from typing import Any

from ha_monitor.query.history import HOUR, SPANS, bounds_of, names_over
from ha_monitor.query.language import parse_filter
from ha_monitor.query.statistics import Compared
from ha_monitor.store.name_statistics import NameStatistic
from ha_monitor.text.patterns import quoted
from ha_monitor.web.charts import Chart, Row, chart
from ha_monitor.web.formatting import count, duration, share
from ha_monitor.web.page import NotFound, Page
from ha_monitor.web.pages.names import flags
from ha_monitor.web.parameters import Parameters, text_of
from ha_monitor.web.rows import about, at, task_rows
from ha_monitor.web.view import View

TASKS = 20
"""Failures that are listed; latest tasks likewise."""


def page(view: View, asked: Parameters) -> Page:
    """The page of a name.

    :raises NotFound: if no event of a task with that name was received.
    """
    name = asked.name
    found = view.name(name, asked.times)
    now = found.time
    if not found.items and name not in view.queries.names():
        raise NotFound(f"no task of the name {name} was heard of")
    times = parse_filter(asked.times, now)
    until = now if times.until is None else min(now, times.until)
    seconds = HOUR if times.since is None else max(60.0, until - times.since)
    span = next((one for one in SPANS.values() if seconds <= one.seconds * 1.001), SPANS["3d"])
    bounds = bounds_of(until, min(seconds, span.seconds), span.step)
    steps = names_over(view.queries, [name], bounds)[name]
    only = f"name={quoted(name)}"
    failures = view.tasks([only, "state=FAILURE,REJECTED,REVOKED", "since=-1d"], TASKS)
    latest = view.tasks([only], TASKS)
    values = {
        "name": name,
        "numbers": _numbers(found.items[0]) if found.items else None,
        "chart": _chart(steps, bounds),
        "steps": _table(steps, bounds, now),
        "span": span.name if asked.times else "1h",
        "spans": [{"name": one.name, "since": f"-{one.name}"} for one in SPANS.values()],
        "failures": task_rows(failures.items, now),
        "latest": task_rows(latest.items, now),
        "only": text_of(only),
        "about": about(found, "names", quoted(name), *flags(asked)),
    }
    return Page("name.html", values)


def _numbers(one: Compared) -> list[dict[str, str]]:
    return [_times("now", one.now), _times("a day before", one.day_before)]


def _times(label: str, one: NameStatistic) -> dict[str, str]:
    return {
        "label": label,
        "runs": count(one.runs),
        "failed": count(one.failed),
        "share": share(one.failed, one.runs),
        "retried": count(one.retried),
        "p50": duration(one.runtime.quantile(0.5)),
        "p95": duration(one.runtime.quantile(0.95)),
        "waited50": duration(one.waiting.quantile(0.5)),
        "waited95": duration(one.waiting.quantile(0.95)),
    }


def _chart(steps: list[NameStatistic], bounds: list[float]) -> Chart:
    return chart(
        [
            Row(
                "runs, and of these failed (red)",
                bars=[one.runs for one in steps],
                bad_bars=[one.failed for one in steps],
            ),
            Row(
                "run time, p50, and p95 (dashed)",
                [
                    ("p50", [one.runtime.quantile(0.5) for one in steps]),
                    ("p95", [one.runtime.quantile(0.95) for one in steps]),
                ],
                form=duration,
            ),
            Row(
                "waiting, p50, and p95 (dashed)",
                [
                    ("p50", [one.waiting.quantile(0.5) for one in steps]),
                    ("p95", [one.waiting.quantile(0.95) for one in steps]),
                ],
                form=duration,
            ),
        ],
        bounds,
    )


def _table(steps: list[NameStatistic], bounds: list[float], now: float) -> list[dict[str, Any]]:
    """The same numbers as a table, newest first, without steps in which nothing ran."""
    found = [{"at": at(since, now), **_times("", one)} for since, one in zip(bounds, steps, strict=False) if one.runs]
    return found[::-1]
