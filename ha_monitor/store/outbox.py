"""The entries of an outbox: what was merged and must still be announced."""

from __future__ import annotations

from hashlib import blake2b
from typing import NamedTuple

import msgspec
from msgspec import Struct

from ha_monitor.events.model import Event
from ha_monitor.store.record import Facts


class Entry(Struct, frozen=True, array_like=True, gc=False):
    """One entry as it is stored in Redis. The scripts make entries of kind 0, Python those of kind 1."""

    kind: int
    """0: the line and all handlers; 1: one handler to be retried."""
    event: Event
    facts: Facts | None
    """What is known about the event's task; None if it belongs to none."""
    incomplete: bool
    """The event with the task's name never came, or too many announcements of the task were waiting for events."""
    handler: str = ""
    attempt: int = 0
    """How often the handler has been called for this event."""
    waited_since: float = 0.0
    """When it was merged, in ms since the epoch by the store's clock, if it has waited for facts since then; else 0."""


class OutboxItem(NamedTuple):
    """An entry with its place in the outbox of this instance."""

    sequence: int
    entry: Entry
    recovered: bool = False
    """It comes from the outbox of another instance, so it may have been announced before."""


_LATEST_TIME = 253_402_300_000.0
"""Seconds since the epoch of the last time that has a date."""
_decode = msgspec.msgpack.Decoder(Entry).decode
_encode = msgspec.msgpack.Encoder().encode


def read_items(first: int, raw: list[bytes], own: int | None = None, recovered_until: int = 0) -> list[OutboxItem]:
    """Read entries as a script returned them.

    :param first: sequence number of the first.
    :param own: how many entries precede those taken over from another outbox; None for all.
    :param recovered_until: sequence number below which entries may come from another outbox, too.
    """
    behind = first + (len(raw) if own is None else own)
    numbered = enumerate(raw, first)
    return [
        OutboxItem(number, read_entry(entry), number >= behind or number < recovered_until)
        for number, entry in numbered
    ]


def read_entry(raw: bytes) -> Entry:
    """Read an entry as it is stored in Redis."""
    try:
        entry = _decode(raw)
        if not (_is_time(entry.event.time) and _is_time(entry.event.fields.get("since"))):
            raise ValueError("an invalid time")
        return entry
    except ValueError as error:
        # Written by an unknown version or by another program. It must neither stop the loop nor vanish. msgspec's own
        # error is a ValueError.
        event = Event(
            "outbox-entry-unreadable", blake2b(raw, digest_size=12).hexdigest(), fields={"reason": str(error)}
        )
        return Entry(0, event, None, False)


def _is_time(value: object) -> bool:
    return value is None or (isinstance(value, (int, float)) and 0 <= value < _LATEST_TIME)


def retry_entry(entry: Entry, handler: str, attempt: int) -> bytes:
    """The entry that has a handler called again later.

    :param attempt: how often it has been called.
    """
    return _encode(Entry(1, entry.event, entry.facts, entry.incomplete, handler, attempt))
