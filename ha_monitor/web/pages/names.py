"""What is run by name."""

from __future__ import annotations

from ha_monitor.answers.result import document_of
from ha_monitor.web.page import Page
from ha_monitor.web.parameters import Parameters
from ha_monitor.web.view import View


def page(view: View, asked: Parameters) -> Page:
    """The names, worst first."""
    pattern, sort = asked.text("name") or None, asked.text("sort")
    found = view.names(pattern, asked.times, asked.count(), sort=sort, reverse=asked.flag("reverse"))
    return Page("names.html", {"result": found, "document": document_of(found)})
