"""The decorator that makes a user's function a handler."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

_F = TypeVar("_F", bound=Callable[..., object])
ATTRIBUTE = "__ha_monitor_types__"


def on(*event_types: str) -> Callable[[_F], _F]:
    """Register a function for events of the given types; `"*"` stands for all types.

    The function is called as `function(event, task)` with an `Event` and, if the event is about a task, its
    `TaskRecord` (else None). It is found if its module is named in `handlers.modules`. Nothing is registered
    anywhere else, so tests can import the module and call its functions.

    A handler may be called more than once for an event (after a crash, or when a handler failed half-way): use
    `event.id` where that matters.

    :raises TypeError: if no type is given, or something that is not a type.
    """
    if not event_types or not all(isinstance(event_type, str) and event_type for event_type in event_types):
        raise TypeError('on() needs event types, such as @on("task-failed") or @on("*")')

    def register(function: _F) -> _F:
        known = getattr(function, ATTRIBUTE, ())
        setattr(function, ATTRIBUTE, (*known, *event_types))
        return function

    return register
