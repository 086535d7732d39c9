"""The tasks that match a filter, which is that of the command line; with states as tabs, and in pages."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from ha_monitor.answers.result import Result
from ha_monitor.errors import UsageError
from ha_monitor.events.catalogue import State
from ha_monitor.query.fields import BAD_ENDS, FIELDS
from ha_monitor.query.language import parse_filter
from ha_monitor.web.endpoints import order_of
from ha_monitor.web.page import Page
from ha_monitor.web.pages.names import flags
from ha_monitor.web.parameters import Parameters, text_of, words_of
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
"""Labels, and the states that they select."""
_STATE = "state="
COUNTED_FOR = 3600.0
"""Seconds for which a tab counts the tasks that ended in its state."""
MAX_COUNTED = 1000


def page(view: View, asked: Parameters) -> Page:
    """The tasks that match, newest first. An error in the filter is shown beside it."""
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
        "tabs": _tabs(words, asked, _counts(view, found.time)),
        "tasks": task_rows(found.items, found.time),
        "next": asked.query(after=found.after) if found.after else "",
        "more": found.more,
        "first": not asked.given.get("after"),
        "by_end": by_end,
        "asks": bool(words or asked.times),
        "about": about(found, "tasks", *words, *flags(asked), *more),
    }
    return Page("tasks.html", values)


def _found(view: View, asked: Parameters) -> Result:
    return view.tasks(asked.words, asked.count(), order_of(asked))


def _counts(view: View, now: float) -> dict[str, str]:
    """How many tasks are open, and how many ended badly within `COUNTED_FOR`, by state."""
    opened = len(view.queries.open(MAX_COUNTED))
    ended = Counter(
        one.state for one in view.queries.ended_badly(now - COUNTED_FOR, now, MAX_COUNTED) if not one.orphaned
    )
    least = "" if ended.total() < MAX_COUNTED else "\N{GREATER-THAN OR EQUAL TO}\N{NO-BREAK SPACE}"
    found = {state.value: f"{least}{number:,} in 1 h" for state, number in ended.items()}
    return {**found, "open": f"{opened:,}" if opened < MAX_COUNTED else f"{MAX_COUNTED:,}+"}


def _tabs(words: list[str], asked: Parameters, counts: Mapping[str, str] | None = None) -> list[dict[str, Any]]:
    """A tab per state; each keeps the rest of the filter.

    :param counts: by state; they count all tasks, so they are shown only if nothing else is asked for.
    """
    chosen = [word.removeprefix(_STATE) for word in words if word.startswith(_STATE)]
    rest = [word for word in words if not word.startswith(_STATE)]
    tabs = []
    for label, state in TABS:
        text = text_of(*([f"{_STATE}{state}"] if state else []), *rest)
        is_chosen = [one.lower() for one in chosen] == ([state.lower()] if state else [])
        changed: dict[str, str | None] = {"filter": text or None}
        if "after" in asked.known:
            changed["after"] = None
        count = (counts or {}).get(state, "") if not rest and not asked.times else ""
        tabs.append({"label": label, "query": asked.query(**changed), "is_chosen": is_chosen, "count": count})
    return tabs
