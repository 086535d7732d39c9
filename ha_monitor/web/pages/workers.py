"""Which workers exist, and what they do."""

from __future__ import annotations

from typing import Any

from ha_monitor.query.workers import SeenWorker
from ha_monitor.status.workers import worker_of
from ha_monitor.web.formatting import UNKNOWN, duration, rate
from ha_monitor.web.page import Page
from ha_monitor.web.parameters import Parameters
from ha_monitor.web.rows import about, at
from ha_monitor.web.view import View

_STATES = ("lost", "late", "online", "offline")
_MAX_DIGITS = 20


def page(view: View, asked: Parameters) -> Page:
    """The workers, lost ones first."""
    pattern, reverse = asked.text("name") or None, asked.flag("reverse")
    found = view.workers(pattern, asked.count(), reverse=reverse)
    rows = [row(one, found.time) for one in found.items]
    states = [one["state"] for one in rows]
    values = {
        "workers": rows,
        "more": found.more,
        "pattern": pattern or "",
        "counts": [(state, states.count(state)) for state in _STATES if state in states],
        "about": about(found, "workers", *([pattern] if pattern else []), *(["-r"] if reverse else [])),
    }
    return Page("workers.html", values)


def row(one: SeenWorker, now: float) -> dict[str, Any]:
    """A worker for the template. Nothing in its heartbeats is trusted.

    :param now: seconds since the epoch.
    """
    worker = worker_of(one.entry)
    skew = worker.skew
    return {
        "name": worker.name,
        "state": worker.state,
        "no_events": worker.task_events is False,
        # The store reports how long it has been silent; to the millisecond, this time would differ at each request.
        "seen": at(round(now - worker.silent), now),
        "silent": worker.silent,
        "active": _number(worker.active),
        "rate": rate(one.rate),
        "failed": one.failed,
        "processed": _number(worker.processed),
        "started": at(one.entry.online, now),
        "software": worker.software,
        "clock": f"{duration(abs(skew))} {'ahead' if skew > 0 else 'behind'}" if skew else "",
        "load": " ".join(_number(part) for part in worker.loadavg[:3]) if isinstance(worker.loadavg, list) else UNKNOWN,
    }


def _number(value: object) -> str:
    if isinstance(value, bool) or not isinstance(value, int | float) or len(str(value)) > _MAX_DIGITS:
        return UNKNOWN
    return f"{value:,}" if isinstance(value, int) else f"{value:g}"
