"""The event as the rest of the program, the store and the user's handlers see it."""

from __future__ import annotations

from typing import Any

from msgspec import Struct, field

ID_SIZE = 12
"""Bytes of an event id: four of time, so that ids sort by age, and eight of hash."""


class Event(Struct, frozen=True, omit_defaults=True, gc=False):
    """One of Celery's events after cleaning: it holds only what may leave the process.

    In Redis, an event is stored in this form, too (as a MessagePack map). During an upgrade, instances of two
    versions share those entries: add fields with defaults, never rename one.
    """

    type: str
    """Celery's own name, such as `task-succeeded`."""
    id: str
    """`event_id`: the same on every instance and after every redelivery."""
    worker: str = ""
    """Celery's nodename of the sender (`celery@host`); for `task-sent` the sender is the producer."""
    time: float | None = None
    """When the event happened, by the sender's clock, in seconds since the epoch; None if the sender gave no time."""
    task_id: str | None = None
    fields: dict[str, Any] = field(default_factory=dict)
    """The fields of its type, such as `runtime` or `exception`; the fields of a custom event are under `data`."""
    fingerprint: str | None = None
    """The fingerprint of its error group; only for a failure, or a retry for an exception."""
