"""Which tasks are so: the filter of the command line, states as tabs, and so many a page."""

from __future__ import annotations

import shlex
from http import HTTPStatus
from typing import Any

from ha_monitor.answers.result import Result
from ha_monitor.errors import UsageError
from ha_monitor.events.catalogue import State
from ha_monitor.query.fields import BAD_ENDS, FIELDS
from ha_monitor.query.language import parse_filter
from ha_monitor.web.nouns import order_of
from ha_monitor.web.page import Page
from ha_monitor.web.pages.names import flags
from ha_monitor.web.parameters import Parameters, words_of
from ha_monitor.web.rows import about, task_rows
from ha_monitor.web.view import View

TABS = (
    ("all", ""),
    ("open", "open"),
    ("running", State.STARTED.value),
    ("failed", State.FAILURE.value),
    ("retried", State.RETRY.value),
    ("rejected", State.REJECTED.value),
    ("revoked", State.REVOKED.value),
    ("succeeded", State.SUCCESS.value),
)
"""Labels, and the states that they stand for."""
_STATE = "state="


def page(view: View, asked: Parameters) -> Page:
    """The tasks that match, newest first. What is wrong with a filter stands beside it."""
    text = asked.given.get("filter", "")
    words = words_of(text)
    order = order_of(asked)
    values: dict[str, Any] = {
        "filter": text,
        "tabs": _tabs(words, asked),
        "fields": list(FIELDS),
        "sort": order.field,
        "wrong": "",
        "tasks": [],
        "next": "",
        "by_end": False,
        "about": None,
    }
    try:
        found = _found(view, asked)
    except UsageError as error:
        return Page("tasks.html", {**values, "wrong": str(error)}, HTTPStatus.BAD_REQUEST)
    by_end = parse_filter(asked.words, found.time).states <= BAD_ENDS
    more = [*(["--sort", order.field] if order.field else []), *(["-r"] if order.reverse else [])]
    values |= {
        "tasks": task_rows(found.items, found.time),
        "next": asked.query(after=found.after) if found.after else "",
        "more": found.more,
        "first": not asked.given.get("after"),
        "by_end": by_end,
        "about": about(found, "tasks", *words, *flags(asked), *more),
    }
    return Page("tasks.html", values)


def _found(view: View, asked: Parameters) -> Result:
    return view.tasks(asked.words, asked.count(), order_of(asked))


def _tabs(words: list[str], asked: Parameters) -> list[dict[str, Any]]:
    """A tab for each state, which keeps the rest of the filter."""
    chosen = [word.removeprefix(_STATE) for word in words if word.startswith(_STATE)]
    rest = [word for word in words if not word.startswith(_STATE)]
    tabs = []
    for label, state in TABS:
        text = shlex.join([*([f"{_STATE}{state}"] if state else []), *rest])
        is_chosen = [one.lower() for one in chosen] == ([state.lower()] if state else [])
        changed: dict[str, str | None] = {"filter": text or None}
        if "after" in asked.known:
            changed["after"] = None
        tabs.append({"label": label, "query": asked.query(**changed), "is_chosen": is_chosen})
    return tabs
