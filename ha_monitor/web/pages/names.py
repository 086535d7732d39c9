"""The runs by task name: how many, how many failed, how fast, and how it was a day before."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ha_monitor.answers.names import SORTS
from ha_monitor.query.history import HOUR, SPARKLINE_STEP, bounds_of, names_over
from ha_monitor.query.statistics import Compared
from ha_monitor.store.name_statistics import NameStatistic
from ha_monitor.web.charts import sparkline
from ha_monitor.web.formatting import share
from ha_monitor.web.page import Page
from ha_monitor.web.parameters import Parameters
from ha_monitor.web.rows import about
from ha_monitor.web.view import View

SLOWER = 2.0
"""Factor by which the 95th percentile must exceed that of the day before for a name to be marked as slow."""
MIN_RUNS = 20
"""Minimum number of runs for a comparison."""


def page(view: View, asked: Parameters) -> Page:
    """The names, worst first."""
    pattern, sort, reverse = asked.text("name") or None, asked.text("sort"), asked.flag("reverse")
    found = view.names(pattern, asked.times, asked.count(), sort=sort, reverse=reverse)
    words = ["names", *([pattern] if pattern else []), *flags(asked), *(["--sort", sort] if sort != "failed" else [])]
    values = {
        "names": rows(view, found.items, bounds_of(found.time, HOUR, SPARKLINE_STEP)),
        "more": found.more,
        "sort": sort,
        "sorts": list(SORTS),
        "pattern": pattern or "",
        "about": about(found, *words, *(["-r"] if reverse else [])),
    }
    return Page("names.html", values)


def flags(asked: Parameters) -> list[str]:
    """The period that was asked for, as flags of a command."""
    return [word for name in ("since", "until") if name in asked.given for word in (f"--{name}", asked.given[name])]


def rows(view: View, items: Sequence[Compared], bounds: Sequence[float]) -> list[dict[str, Any]]:
    """Names, each with a sparkline of its last hour.

    :param bounds: the steps of the sparkline.
    """
    over = names_over(view.queries, [one.now.name for one in items], bounds)
    return [_row(one, over[one.now.name]) for one in items]


def _row(one: Compared, steps: Sequence[NameStatistic]) -> dict[str, Any]:
    p95, before = one.now.runtime.quantile(0.95), one.day_before.runtime.quantile(0.95)
    enough = min(one.now.runtime.total, one.day_before.runtime.total) >= MIN_RUNS
    slower = bool(enough and p95 and before and p95 >= SLOWER * before)
    return {
        "name": one.now.name,
        "runs": one.now.runs,
        "failed": one.now.failed,
        "share": share(one.now.failed, one.now.runs),
        "retried": one.now.retried,
        "p50": one.now.runtime.quantile(0.5),
        "p95": p95,
        "waited": one.now.waiting.quantile(0.95),
        "slower": slower,
        "before": before,
        "runs_before": one.day_before.runs,
        "spark": sparkline([step.runs for step in steps]),
        "said": f"runs by five minutes: {', '.join(str(step.runs) for step in steps)}",
    }
