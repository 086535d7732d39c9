"""Look-ups by type in the catalogue of events, and which events are emitted: as a line, to a handler, or not at all."""

from __future__ import annotations

from collections.abc import Iterable

from ha_monitor.config.schema import LogLevel
from ha_monitor.events.catalogue import (
    OWN_EVENTS,
    TASK_EVENTS,
    WORKER_EVENTS,
    Awaits,
    Code,
    End,
    TaskEvent,
    WorkerEvent,
)

_USUAL: dict[str, TaskEvent] = {}
for _row in TASK_EVENTS:
    _USUAL.setdefault(_row.type, _row)  # the first row of a type is the usual one
_CELERY: list[TaskEvent | WorkerEvent] = [*_USUAL.values(), *WORKER_EVENTS]

TASK_CODES: dict[str, Code] = {row.type: row.code for row in _USUAL.values()}
WORKER_TYPES = frozenset(row.type for row in WORKER_EVENTS)
OWN_NAMES = frozenset(row.name for row in OWN_EVENTS)
"""The names of all lines and events of the program itself: lines about itself, and events that it detects."""
CELERY_FIELDS: dict[str, tuple[str, ...]] = {row.type: row.fields for row in _CELERY}
"""For each type that Celery sends, its own fields."""
LEVELS: dict[str, LogLevel] = {
    **{row.type: row.level for row in _CELERY},
    **{row.name: row.level for row in OWN_EVENTS if row.fields is not None},
}
ENDS: dict[int, End] = {row.code: row.end for row in TASK_EVENTS if row.end is not None}
"""By code."""
AWAITS: dict[int, Awaits] = {row.code: row.awaits for row in TASK_EVENTS}
"""By code."""
END_TYPES = frozenset(row.type for row in TASK_EVENTS if row.end is not None)
RUNTIME_TYPES = frozenset(row.type for row in TASK_EVENTS if row.end is not None and row.end.has_runtime)
RESULT_TYPES: dict[str, str] = {
    row.end.result: row.type for row in TASK_EVENTS if row.end is not None and row.end.result is not None
}
"""Celery's state in the result backend → the type of the event that announces it."""
_ORDER = list(LogLevel)
_RENAMED = {name: f"custom:{name}" for name in OWN_NAMES}


def custom_type(event_type: str) -> str:
    """The type under which a custom event is announced: its own, unless the program itself uses that name. Nobody may
    mistake an application's event for one of the monitor's.
    """
    return _RENAMED.get(event_type, event_type)


_LEVEL_NAMES = {event_type: level.value for event_type, level in LEVELS.items()}


def level_of(event_type: str) -> LogLevel:
    """The level of an event's line; `info` for custom events."""
    return LEVELS.get(event_type, LogLevel.INFO)


def level_name(event_type: str) -> str:
    """The name of that level, as in the line. This look-up is much faster than the enum member's `value`."""
    return _LEVEL_NAMES.get(event_type, LogLevel.INFO.value)


class EmissionPolicy:
    """Decides by event type. An event that is not emitted is merged, but never put into an outbox.

    It stores one decision for each known type, and a single one for all others: anybody may invent types.
    """

    def __init__(self, level: LogLevel, handled_types: Iterable[str]) -> None:
        """
        :param level: minimum log level.
        :param handled_types: types that have a handler; `*` stands for all.
        """
        self._least = _ORDER.index(level)
        handled = frozenset(handled_types)
        self._writes = {kind: self._is_written(kind) for kind in LEVELS}
        self._writes_others = self._is_written("")
        self._emits = {kind: kind in handled or "*" in handled or self.writes(kind) for kind in {*LEVELS, *handled}}
        self._emits_others = "*" in handled or self.writes("")

    def writes(self, event_type: str) -> bool:
        """Whether events of this type are written as lines. Called for every announcement."""
        return self._writes.get(event_type, self._writes_others)

    def _is_written(self, event_type: str) -> bool:
        return _ORDER.index(level_of(event_type)) >= self._least

    def emits(self, event_type: str) -> bool:
        """Whether events of this type are emitted at all. Called for every event."""
        return self._emits.get(event_type, self._emits_others)
