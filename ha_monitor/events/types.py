"""Celery's event types and what the monitor makes of each.

The codes travel to the store's scripts (see `store/lua/record.lua`), so a number, once given, stays.
"""

from __future__ import annotations

from enum import IntEnum

from ha_monitor.config.schema import LogLevel


class Code(IntEnum):
    """What an event does to the record of its task. Above `FINISHED`, a higher code wins a tie in time."""

    OTHER = 0
    """Custom events, task-cancelled and types of later Celery versions: seen and emitted, change nothing."""
    SENT = 1
    RECEIVED = 2
    STARTED = 3
    RETRIED = 4
    REQUEUED = 5
    """task-rejected with requeue: the broker delivers the task again."""
    FINISHED = 6
    """Not an event: the codes from here on finish a task."""
    REJECTED = 7
    REVOKED = 8
    FAILED = 9
    SUCCEEDED = 10


TASK_CODES: dict[str, Code] = {
    "task-sent": Code.SENT,
    "task-received": Code.RECEIVED,
    "task-started": Code.STARTED,
    "task-retried": Code.RETRIED,
    "task-rejected": Code.REJECTED,
    "task-revoked": Code.REVOKED,
    "task-failed": Code.FAILED,
    "task-succeeded": Code.SUCCEEDED,
    "task-cancelled": Code.OTHER,
}

WORKER_TYPES = frozenset({"worker-heartbeat", "worker-online", "worker-offline"})

OWN_NAMES = frozenset(
    {
        *("broker-connected", "broker-unavailable", "configuration-invalid", "dead-letter", "event-rejected"),
        *("events-dropped", "events-lost", "handler-failed", "http-auth-failed", "http-listen-failed"),
        *("http-request-failed", "instance-crashed", "instance-started", "instance-stopped"),
        *("leadership-acquired", "leadership-lost", "lease-lost", "library-message", "message-set-aside"),
        *("metrics-incomplete", "outbox-entry-unreadable", "outbox-taken-over", "queue-survey-failed"),
        *("reload-failed", "reloaded", "restart-required", "shutdown-incomplete", "store-connected"),
        *("store-damaged", "store-unavailable", "table-full", "task-inspection-failed", "task-orphaned"),
        *("task-stuck", "thread-failed", "worker-lost", "worker-recovered", "workers-lost"),
        *("workers-recovered", "workers-unreachable"),
    }
)
"""All that the program says in its own name: its lines about itself, and the events that it finds out."""
_RENAMED = {name: f"custom:{name}" for name in OWN_NAMES}


def custom_type(event_type: str) -> str:
    """The type under which a custom event is announced: its own, unless that is a name of the program's own. Nobody
    may take the word of an application for that of the monitor.
    """
    return _RENAMED.get(event_type, event_type)


LEVELS: dict[str, LogLevel] = {
    "task-sent": LogLevel.DEBUG,
    "task-received": LogLevel.DEBUG,
    "task-started": LogLevel.DEBUG,
    "worker-heartbeat": LogLevel.DEBUG,
    "task-retried": LogLevel.WARNING,
    "task-rejected": LogLevel.WARNING,
    "task-revoked": LogLevel.WARNING,
    "task-cancelled": LogLevel.WARNING,
    "task-failed": LogLevel.ERROR,
    "outbox-entry-unreadable": LogLevel.ERROR,
    "events-lost": LogLevel.ERROR,
    "worker-lost": LogLevel.WARNING,
    "workers-lost": LogLevel.WARNING,
    "task-stuck": LogLevel.WARNING,
    "task-orphaned": LogLevel.ERROR,
}


def level_of(event_type: str) -> LogLevel:
    """The level of an event's line; success, worker-online/-offline and custom events are `info`."""
    return LEVELS.get(event_type, LogLevel.INFO)
