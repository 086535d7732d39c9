"""How bytes and batches travel to the scripts, and how JSON in Redis is read."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

import msgspec

from ha_monitor.events.decode import Batch

_pack = msgspec.msgpack.Encoder().encode
_SHORT_HEADS = tuple(bytes((0xA0 | size,)) for size in range(32))
"""What stands before a short text, by its length."""
_pieces_of = msgspec.msgpack.Decoder(list[msgspec.Raw]).decode


def as_lua_string(data: bytes) -> msgspec.Raw:
    """Bytes in the only MessagePack type for them that Redis can read: its cmsgpack has no `bin`, but takes a
    `str` that is not UTF-8.
    """
    size = len(data)
    if size < 32:
        return msgspec.Raw(_SHORT_HEADS[size] + data)
    return msgspec.Raw(b"\xdb" + size.to_bytes(4, "big") + data)


def bytes_of(packed: msgspec.Raw) -> bytes:
    """What `as_lua_string` was given."""
    raw = bytes(packed)
    return raw[5:] if raw[0] == 0xDB else raw[1:]


def json_object(raw: bytes | str | None) -> dict[str, Any]:
    """A JSON object in Redis; empty if there is none, or if it cannot be read."""
    try:
        value = json.loads(raw or b"{}")
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


class PackedBatch(NamedTuple):
    """What one call merges, as `lua/apply.lua` is given it."""

    tasks: msgspec.Raw
    workers: msgspec.Raw
    others: msgspec.Raw
    size: int
    """Bytes of it; 0 if there is nothing to merge."""

    @classmethod
    def of(cls, batch: Batch) -> PackedBatch:
        """The facts of a batch."""
        tasks, workers, others = _pack(list(batch.tasks.items())), _pack(batch.workers), _pack(batch.others)
        size = len(tasks) + len(workers) + len(others) if batch.tasks or batch.workers or batch.others else 0
        return cls(msgspec.Raw(tasks), msgspec.Raw(workers), msgspec.Raw(others), size)

    def behind(self, tasks: int) -> PackedBatch | None:
        """What is left when so many tasks are merged; None if nothing is."""
        left = _pieces_of(self.tasks)[tasks:]
        return self._replace(tasks=msgspec.Raw(_pack(left))) if left else None
