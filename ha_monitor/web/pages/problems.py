"""What is wrong, and what was wrong until recently."""

from __future__ import annotations

from ha_monitor.web.incidents import headline, sentences
from ha_monitor.web.page import Page
from ha_monitor.web.parameters import Parameters
from ha_monitor.web.rows import about
from ha_monitor.web.view import View


def page(view: View, asked: Parameters) -> Page:
    """The incidents, worst first."""
    with_over = asked.flag("all")
    wrong = view.problems(asked.count(), over=with_over, reverse=asked.flag("reverse"))
    result = wrong.result
    values = {
        "headline": headline(wrong.known, result.time),
        "problems": sentences(result.items, wrong.known, result.time),
        "is_judged": wrong.is_judged,
        "with_over": with_over,
        "about": about(result, "problems", *(["--all"] if with_over else [])),
    }
    return Page("problems.html", values)
