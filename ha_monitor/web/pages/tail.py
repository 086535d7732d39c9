"""What the whole fleet announces, as it happens. The page is empty until its script fills it (`static/tail.js`)."""

from __future__ import annotations

from http import HTTPStatus

from ha_monitor.answers.result import Result
from ha_monitor.errors import UsageError
from ha_monitor.query.language import parse_filter
from ha_monitor.web.page import Page
from ha_monitor.web.parameters import Parameters, words_of
from ha_monitor.web.rows import about
from ha_monitor.web.view import View

SEARCHED = "what the fleet announces from now on"


def page(view: View, asked: Parameters) -> Page:
    """The tail, with any error in its filter."""
    now = view.now()
    words = words_of(asked.given.get("filter", ""))
    wrong = ""
    try:
        parse_filter(words, now)
    except UsageError as error:
        wrong = str(error)
    result = Result(now, (), lambda item, _: item, SEARCHED)
    values = {"filter": asked.given.get("filter", ""), "wrong": wrong, "about": about(result, "tail", *words)}
    return Page("tail.html", values, HTTPStatus.BAD_REQUEST if wrong else HTTPStatus.OK)
