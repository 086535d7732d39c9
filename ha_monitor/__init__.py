"""A highly available monitor of Celery events. The names exported here are for handlers that users write."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ha_monitor.events.catalogue import State
    from ha_monitor.events.model import Event
    from ha_monitor.handling import on
    from ha_monitor.store.record import TaskRecord

__all__ = ["Event", "State", "TaskRecord", "on"]

_HOMES = {"Event": "events.model", "State": "events.catalogue", "TaskRecord": "store.record", "on": "handling"}
"""Imported on first use: most commands need none of them, and importing them takes a quarter of a command's start."""


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module  # noqa: PLC0415

    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
