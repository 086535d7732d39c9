"""The identity of an event."""

from __future__ import annotations

from hashlib import blake2b
from typing import Any

ID_SIZE = 12
"""Bytes of an event id: four of time, so that ids sort by age, and eight of hash."""


def event_id(event: dict[str, Any], timestamp: float | None) -> bytes:
    """The identity of an event, from its raw body.

    Celery gives events no id. Sender, process, logical clock, type, task and time together are unique: the
    clock is counted up by the sender for each event (celery/events/dispatcher.py), and the other parts keep
    apart what restarts, threads and blind events (whose clock is null) would make equal. The body must be raw:
    Celery's own receiver overwrites `clock` and shifts `timestamp`.

    :param timestamp: the event's time in seconds since the epoch, if it has a usable one.
    """
    get = event.get
    text = f"{get('hostname')}\n{get('pid')}\n{get('clock')}\n{get('type')}\n{get('uuid')}\n{get('timestamp')}"
    digest = blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int(timestamp or 0).to_bytes(4, "big") + digest
