"""What a person sees first: what is wrong, six numbers, the queues that are late, the names that fail."""

from __future__ import annotations

from itertools import islice
from typing import Any

from ha_monitor.answers.queues import Running
from ha_monitor.answers.result import Result
from ha_monitor.query.groups import groups_in
from ha_monitor.query.history import DAY, HOUR, SPARKLINE_STEP, bounds_of
from ha_monitor.status.fleet import Fleet
from ha_monitor.store.error_groups import GroupState
from ha_monitor.store.queries import Gap
from ha_monitor.web.formatting import UNKNOWN, count, duration, plural, share
from ha_monitor.web.incidents import headline, sentences
from ha_monitor.web.page import Page
from ha_monitor.web.pages import names, queues
from ha_monitor.web.parameters import Parameters
from ha_monitor.web.rows import about, at
from ha_monitor.web.view import View

QUEUES, NAMES = 8, 8
"""Queues and names that are listed."""
LATELY = 900.0
MAX_GROUPS = 100
"""Error groups that are counted, latest first."""
LATE_AFTER = 300.0
"""Seconds after which the oldest task of a queue is late, as for the incident."""


def page(view: View, _asked: Parameters) -> Page:
    """The overview."""
    wrong = view.problems()
    now = wrong.result.time
    bounds = bounds_of(now, HOUR, SPARKLINE_STEP)
    of_queues = view.queues()
    of_names = view.names(limit=NAMES)
    fleet = view.fleet()
    values = {
        "headline": headline(wrong.known, now),
        "is_judged": wrong.is_judged,
        "problems": sentences(wrong.result.items, wrong.known, now),
        "numbers": [
            _waiting(of_queues, now),
            _running(view.running()),
            _failed(view, fleet, now),
            _workers(fleet),
            _new_errors(view, now),
            _monitor(fleet, wrong.result.gaps),
        ],
        "queues": queues.rows(view, of_queues.items[:QUEUES], now, bounds),
        "more_queues": max(0, len(of_queues.items) - QUEUES),
        "names": names.rows(view, of_names.items, bounds),
        "more_names": of_names.more,
        "unused": not fleet.instances and not view.is_used(),
        "about": about(wrong.result, "problems"),
    }
    return Page("overview.html", values)


def _number(label: str, noun: str, text: str, more: str = "", look: str = "", **query: str) -> dict[str, Any]:
    return {"label": label, "noun": noun, "text": text, "more": more, "look": look, "query": query, "since": None}


def _waiting(of_queues: Result, now: float) -> dict[str, Any]:
    reported = [one.state for one in of_queues.items if one.state.has_producers]
    if of_queues.items and not reported:
        return _number("waiting", "queues", UNKNOWN, "not known: producers send no task-sent")
    oldest = min((one.wait.oldest for one in reported if one.wait.oldest is not None), default=None)
    waited = None if oldest is None else max(0.0, now - oldest)
    more = "" if waited is None else "oldest"
    look = "bad" if waited is not None and waited >= LATE_AFTER else ""
    number = _number("waiting", "queues", count(sum(one.wait.waiting for one in reported)), more, look)
    return {**number, "since": at(oldest, now), "age": waited}


def _running(found: Running | None) -> dict[str, Any]:
    if found is None:
        return _number("running", "workers", UNKNOWN, "not known for all workers")
    return _number(
        "running", "tasks", count(found.tasks), f"on {plural(found.workers, 'worker')}", filter="state=STARTED"
    )


def _failed(view: View, fleet: Fleet, now: float) -> dict[str, Any]:
    found = view.queries.worker_runs([one.name for one in fleet.workers], now - LATELY, now)
    ended, failed = sum(one.ended for one in found), sum(one.failed for one in found)
    more = f"{failed:,} of {ended:,}" if ended else "no runs ended"
    look = "" if not failed else "bad" if failed * 100 >= ended else "warn"
    asked = {"filter": "state=FAILURE", "since": "-15m"}
    return _number("failed, 15 min", "tasks", share(failed, ended), more, look, **asked)


def _workers(fleet: Fleet) -> dict[str, Any]:
    states = [one.state for one in fleet.workers]
    lost = states.count("lost")
    there = states.count("online") + states.count("late")
    more = f"of {there + lost:,}" if lost else "none lost" if there else "none was heard of"
    late = states.count("late")
    if late:
        more += f", {late:,} late"
    return _number(
        "workers", "workers", count(there), more, "bad" if lost else "warn" if late else "good" if there else ""
    )


def _new_errors(view: View, now: float) -> dict[str, Any]:
    groups = list(islice(groups_in(view.queries, now - DAY, None), MAX_GROUPS))
    new = sum(one.state in (GroupState.NEW, GroupState.REGRESSED) for one in groups)
    least = "≥ " if len(groups) == MAX_GROUPS else ""
    more = f"{least}{plural(len(groups), 'kind')} in 24 h"
    return _number("new errors", "errors", count(new), more, "bad" if new else "")


def _monitor(fleet: Fleet, gaps: list[Gap] | Any) -> dict[str, Any]:
    alive = [one for one in fleet.instances if one.alive]
    consuming = [one for one in alive if one.state == "consuming"]
    lost = sum(one.lost for one in gaps)
    lag = max((one.lag for one in consuming), default=None)
    more = f"of {len(fleet.instances):,} consume"
    if lag is not None:
        more += f", lag {duration(lag)}"
    more += f", {lost:,} lost" if lost else ", nothing lost"
    well = bool(consuming) and len(consuming) == len(fleet.instances)
    return _number(
        "monitor", "monitor", count(len(consuming)), more, "good" if well and not gaps else "warn" if well else "bad"
    )
