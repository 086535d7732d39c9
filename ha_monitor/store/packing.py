"""How bytes and batches are packed for the scripts, and how JSON in Redis is read."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

if TYPE_CHECKING:
    from ha_monitor.events.decode import Batch
    from ha_monitor.events.facts import Fact

_pack = msgspec.msgpack.Encoder().encode
_SHORT_HEADS = tuple(bytes((0xA0 | size,)) for size in range(32))
"""The MessagePack header of a short text, by its length."""
_pieces_of = msgspec.msgpack.Decoder(list[msgspec.Raw]).decode
_number_in = msgspec.msgpack.Decoder(int).decode
FACT_SIZE = 8
"""Values in the longest fact."""
_MISSING = tuple((False,) * (FACT_SIZE - size) for size in range(FACT_SIZE + 1))
"""Padding of shorter facts, by their length: Lua's lists are much slower with holes in them."""


def as_lua_string(data: bytes) -> msgspec.Raw:
    """Bytes in the only MessagePack type that Redis can read them in: its cmsgpack has no `bin`, but accepts a `str`
    that is not UTF-8.
    """
    size = len(data)
    if size < 32:
        return msgspec.Raw(_SHORT_HEADS[size] + data)
    return msgspec.Raw(b"\xdb" + size.to_bytes(4, "big") + data)


def bytes_of(packed: msgspec.Raw) -> bytes:
    """The bytes that were passed to `as_lua_string`."""
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
    """What one call merges, as `lua/apply.lua` reads it."""

    tasks: msgspec.Raw
    workers: msgspec.Raw
    others: msgspec.Raw
    size: int
    """Size in bytes; 0 if there is nothing to merge."""

    @classmethod
    def of(cls, batch: Batch) -> PackedBatch:
        """A batch, packed."""
        tasks = _flat_tasks(batch.tasks)
        workers, others = _pack(batch.workers), _pack(batch.others)
        size = len(tasks) + len(workers) + len(others) if batch.tasks or batch.workers or batch.others else 0
        return cls(msgspec.Raw(tasks), msgspec.Raw(workers), msgspec.Raw(others), size)

    def rest_after(self, tasks: int) -> PackedBatch | None:
        """The rest after so many tasks are merged; None if there is none."""
        pieces = _pieces_of(self.tasks)
        left, place = _number_in(pieces[0]) - tasks, 1
        if left <= 0:
            return None
        for _ in range(tasks):
            place += 2 + FACT_SIZE * _number_in(pieces[place + 1])
        return self._replace(tasks=msgspec.Raw(_pack([left, *pieces[place:]])))


def _flat_tasks(tasks: Mapping[str, list[Fact]]) -> bytes:
    """Tasks as one list, [number of tasks, task id, number of facts, …, task id, …], each fact as FACT_SIZE values: the
    script takes facts out of it in less time than Redis needs to make a list of each.
    """
    flat: list[Any] = [len(tasks)]
    for task_id, facts in tasks.items():
        flat += (task_id, len(facts))
        for fact in facts:
            flat += fact
            flat += _MISSING[len(fact)]
    return _pack(flat)
