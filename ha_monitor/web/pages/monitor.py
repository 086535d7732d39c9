"""The instances of the monitor itself: which consume, how late, what was lost, and what the store says."""

from __future__ import annotations

from ha_monitor.query.problems import HOUR
from ha_monitor.status.fleet import Fleet, Instance
from ha_monitor.web.formatting import UNKNOWN, count, duration, share
from ha_monitor.web.page import Page
from ha_monitor.web.parameters import Parameters
from ha_monitor.web.rows import at, command
from ha_monitor.web.view import View

LOST_FOR = 24 * HOUR
"""Seconds for which losses are listed."""
MAX_LOSSES = 50


def page(view: View, _asked: Parameters) -> Page:
    """The monitor."""
    now = view.now()
    fleet = view.fleet()
    gaps = sorted(view.queries.gaps(now - LOST_FOR, now), key=lambda gap: -gap.until)
    values = {
        "instances": [_instance(one, now) for one in fleet.instances],
        "headline": _headline(fleet),
        "depth": fleet.queue.depth,
        "queue": fleet.queue.name,
        "counts": [
            ("waiting announcements", fleet.waiting_announcements, False),
            ("handler retries", fleet.handler_retries, False),
            ("dead letters", fleet.dead_letters, True),
            ("refused events (samples)", fleet.rejected, True),
            ("take-overs", fleet.takeovers, False),
            ("stuck tasks", fleet.stuck_tasks, True),
            ("orphaned tasks", fleet.orphaned_tasks, True),
        ],
        "losses": [
            {"what": gap.what, "since": at(gap.since, now), "until": at(gap.until, now)} for gap in gaps[:MAX_LOSSES]
        ],
        "more_losses": max(0, len(gaps) - MAX_LOSSES),
        "lost": sum(gap.lost for gap in gaps),
        "marks": [{"label": one.label, "at": at(one.at, now)} for one in view.reader.incidents.marks()[:10]],
        "silences": [
            {"what": f"{one.kind}={one.key}" if one.key else one.kind, "until": at(one.until, now), "why": one.why}
            for one in view.reader.incidents.silences()
        ],
        "used": view.is_used(),
        "about": {
            "command": command("status"),
            "time": at(now, now),
            "searched": "what the instances have written of themselves",
            "lacks": [],
            "changes": [],
        },
    }
    return Page("monitor.html", values)


def _headline(fleet: Fleet) -> dict[str, str]:
    consuming = sum(one.state == "consuming" for one in fleet.instances)
    every = len(fleet.instances)
    if not every:
        return {"look": "bad", "text": "No instance of the monitor runs"}
    well = consuming == every
    return {
        "look": "good" if well else "bad" if not consuming else "warn",
        "text": f"{consuming} of {every} instances consume",
    }


def _instance(one: Instance, now: float) -> dict[str, object]:
    return {
        "name": one.instance,
        "host": one.host,
        "pid": one.pid,
        "state": one.state,
        "leads": one.leads,
        "started": at(now - one.age, now),
        "age": duration(one.age),
        "silent": duration(one.silent),
        "share": share(one.share, 1.0) if one.alive else UNKNOWN,
        "events": count(one.events),
        "lines": count(one.lines),
        "lag": duration(one.lag),
        "late": one.lag > 10,
        "outbox": count(one.unannounced),
        "version": one.version,
    }
