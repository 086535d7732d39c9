"""The event as the rest of the program, the store and the user's handlers see it."""

from __future__ import annotations

from typing import Any

from msgspec import Struct, field

ID_SIZE = 12
"""Bytes of an event id: four of time, so that ids sort by age, and eight of hash."""


class Event(Struct, frozen=True, omit_defaults=True, gc=False):
    """One of Celery's events, cleaned: what may leave the process, and nothing else.

    This is also the form in which an event travels through Redis (as a MessagePack map). Instances of two
    versions share those entries during an upgrade: add fields with defaults, never rename one.
    """

    type: str
    """Celery's own name, such as `task-succeeded`."""
    id: str
    """`event_id`: the same on every instance and at every redelivery."""
    worker: str = ""
    """Celery's nodename of the sender (`celery@host`); for `task-sent` that is the producer."""
    time: float | None = None
    """When the sender says it happened, seconds since the epoch; None if it did not say."""
    task_id: str | None = None
    fields: dict[str, Any] = field(default_factory=dict)
    """The event's own fields, such as `runtime` or `exception`; those of custom events are under `data`."""
    fingerprint: str | None = None
    """Of a failure, or of a retry for an exception: what it has in common with others of its error group."""
