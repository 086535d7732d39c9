"""The lines of what becomes of the broadcasts to the workers."""

from __future__ import annotations

from typing import Any

import structlog
from structlog.testing import capture_logs

from ha_monitor.events.catalogue import OWN_EVENTS
from ha_monitor.service import BroadcastLines


def test_each_outcome_has_its_line() -> None:
    """Given workers that cannot be reached or do not answer, and an alarm of the broker that is over, each has a line
    by its documented name, level and reason."""
    with capture_logs() as lines:
        told = BroadcastLines(structlog.get_logger())
        told.failed("no channel")
        told.unheard("nobody at exchange celery")
        told.alarm("memory")
        told.alarm_over(2.5)

    expected: list[dict[str, Any]] = [
        {"event": "workers-unreachable", "log_level": "warning", "reason": "no channel"},
        {"event": "no-worker-answered", "log_level": "warning", "reason": "nobody at exchange celery"},
        {"event": "broker-alarm", "log_level": "warning", "reason": "memory"},
        {"event": "broker-alarm-over", "log_level": "info", "lasted": 2.5},
    ]
    assert lines == expected
    levels = {event.name: event.level.value for event in OWN_EVENTS}
    assert all(levels[line["event"]] == line["log_level"] for line in lines)
