"""The entries of an outbox: what was merged and is yet to be announced."""

from __future__ import annotations

from hashlib import blake2b
from typing import NamedTuple

import msgspec
from msgspec import Struct

from ha_monitor.events.model import Event
from ha_monitor.store.record import Facts


class Entry(Struct, frozen=True, array_like=True, gc=False):
    """One entry as it lies in Redis. The scripts build entries of kind 0, Python those of kind 1."""

    kind: int
    """0: the line and all handlers; 1: one handler again."""
    event: Event
    facts: Facts | None
    """What is known about the event's task; None if it is about none."""
    incomplete: bool
    """The piece with the task's name never came."""
    handler: str = ""
    attempt: int = 0
    """How often the handler was called for this event so far."""


class OutboxItem(NamedTuple):
    """An entry with its place in the outbox of this instance."""

    sequence: int
    entry: Entry
    recovered: bool = False
    """It comes from an outbox that was left behind, so it may have been announced before."""


_LATEST_TIME = 253_402_300_000.0
"""Seconds since the epoch: the last that has a date."""
_decode = msgspec.msgpack.Decoder(Entry).decode
_encode = msgspec.msgpack.Encoder().encode


def read_items(first: int, raw: list[bytes], own: int | None = None, recovered_until: int = 0) -> list[OutboxItem]:
    """Entries as a script returned them.

    :param first: sequence number of the first.
    :param own: how many there are before those taken over from another outbox; None for all.
    :param recovered_until: sequence number below which they may come from one, too.
    """
    behind = first + (len(raw) if own is None else own)
    numbered = enumerate(raw, first)
    return [
        OutboxItem(number, read_entry(entry), number >= behind or number < recovered_until)
        for number, entry in numbered
    ]


def read_entry(raw: bytes) -> Entry:
    """An entry as it lies in Redis."""
    try:
        entry = _decode(raw)
        if not (_is_time(entry.event.time) and _is_time(entry.event.fields.get("since"))):
            raise ValueError("a time that is none")
        return entry
    except ValueError as error:
        # Written by a version that this one does not know, or by something else. It must neither stop the loop nor
        # vanish. msgspec's own error is one of this class.
        event = Event(
            "outbox-entry-unreadable", blake2b(raw, digest_size=12).hexdigest(), fields={"reason": str(error)}
        )
        return Entry(0, event, None, False)


def _is_time(value: object) -> bool:
    return value is None or (isinstance(value, (int, float)) and 0 <= value < _LATEST_TIME)


def retry_entry(entry: Entry, handler: str, attempt: int) -> bytes:
    """The entry by which a handler is called again later.

    :param attempt: how often it was called so far.
    """
    return _encode(Entry(1, entry.event, entry.facts, entry.incomplete, handler, attempt))
