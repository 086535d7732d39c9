"""Reads brief records: what is left of the records of tasks that succeeded some time ago. `lua/briefs.lua` writes them,
and documents their content.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from struct import Struct
from typing import NamedTuple
from uuid import UUID

import msgspec

from ha_monitor.events.catalogue import Code
from ha_monitor.store.connection import StoreConnection
from ha_monitor.store.keys import Keys
from ha_monitor.store.record import Facts

SCANNED_AT_ONCE = 100
"""Hashes of brief records, some ten records in each, that one call finds."""
_UUID = re.compile("[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_UUID_SIZE = 16
_FOUR = Struct(">IIII")
_HEAD = Struct(">IBHHH7s")
_BIAS = 2**39
_SENT, _RECEIVED, _STARTED, _RUN_TIME, _ETA, _DEFINED_BY_SENT, _IS_OTHER = (1 << bit for bit in range(7))
_generations_in = msgspec.msgpack.Decoder(list[tuple[int, int, int, int]]).decode


class Brief(NamedTuple):
    """A brief record, with numbers in place of texts."""

    generation: int
    numbers: tuple[int, int, int]
    """The numbers of name, queue and worker; 0 for none."""
    facts: Facts
    """All other facts."""


class Briefs:
    """Reads the brief records in a store. Each method raises `StoreUnavailable`."""

    def __init__(self, connection: StoreConnection, keys: Keys) -> None:
        self._connection = connection
        self._keys = keys

    def facts(self, ids: Sequence[str]) -> dict[str, Facts]:
        """The facts of tasks that have a brief record."""
        if not ids or not (generations := self._generations()):
            return {}
        for task_id in ids:
            place = _place_of(task_id)
            for number, size in generations:
                self._connection.send("HGET", self._keys.brief(f"{number}:{place % size}"), _field_of(task_id))
        raw = [(one, number, self._connection.receive()) for one in ids for number, _ in generations]
        found: dict[str, Brief] = {}
        for task_id, number, text in raw:
            brief = None if text is None or task_id in found else read_brief(text, number)
            if brief is not None:
                found[task_id] = brief
        return self._with_texts(found)

    def all_ids(self) -> Iterator[list[str]]:
        """The ids of all tasks that have or had a brief record, in small steps; some twice."""
        if not self._generations():
            return
        mark = self._keys.brief("")
        cursor = 0
        while True:
            cursor, found = self._connection.call("SCAN", cursor, "MATCH", f"{mark}*", "COUNT", SCANNED_AT_ONCE)
            for key in found:
                yield [*map(_id_of, self._connection.call("HKEYS", key))]
            cursor = int(cursor)
            if cursor == 0:
                return

    def _generations(self) -> list[tuple[int, int]]:
        """Number and size of each generation, newest first."""
        raw = self._connection.call("GET", self._keys.briefs)
        try:
            known = [] if raw is None else _generations_in(raw)
        except ValueError:
            return []
        return [(number, size) for number, size, _, _ in known if size > 0]

    def _with_texts(self, found: dict[str, Brief]) -> dict[str, Facts]:
        wanted: dict[int, dict[int, str | None]] = {}
        for brief in found.values():
            wanted.setdefault(brief.generation, {}).update(dict.fromkeys(brief.numbers))
        for generation, numbers in wanted.items():
            fields = [f"<{number}" for number in numbers]
            texts = self._connection.call("HMGET", self._keys.brief_texts(generation), *fields)
            known = (None if text is None else text.decode("utf-8", "replace") for text in texts)
            wanted[generation] = dict(zip(numbers, known, strict=True))
        done = {}
        for task_id, (generation, (name, queue, worker), facts) in found.items():
            texts = wanted[generation]
            done[task_id] = msgspec.structs.replace(facts, name=texts[name], queue=texts[queue], worker=texts[worker])
        return done


def _field_of(task_id: str) -> bytes:
    """The field of a task in its hash."""
    if _UUID.fullmatch(task_id):
        return UUID(task_id).bytes
    return task_id.encode("utf-8", "surrogatepass")


def _id_of(field: bytes) -> str:
    return str(UUID(bytes=field)) if len(field) == _UUID_SIZE else field.decode("utf-8", "replace")


def _place_of(task_id: str) -> int:
    if _UUID.fullmatch(task_id):
        return int(sum(_FOUR.unpack(UUID(task_id).bytes))) % 2**32
    # OpenSSL is slow to import, and usually there are whole records.
    from hashlib import sha1  # noqa: PLC0415

    digest = sha1(task_id.encode("utf-8", "surrogatepass"), usedforsecurity=False).digest()
    return int.from_bytes(digest[:4], "big")


def read_brief(raw: bytes, generation: int) -> Brief | None:
    """A brief record; None if it is foreign. An expired one is returned until it is swept, an eighth of
    `store.success_ttl` later.
    """
    if len(raw) < _HEAD.size:
        return None
    _, flags, name, queue, worker, ended_raw = _HEAD.unpack_from(raw)
    ended, at = int.from_bytes(ended_raw, "big"), _HEAD.size
    size = 5 * sum(bool(flags & flag) for flag in (_SENT, _RECEIVED, _STARTED, _ETA)) + 8 * bool(flags & _RUN_TIME)
    if len(raw) < at + size:
        return None

    def time_at(flag: int) -> int | None:
        nonlocal at
        if not flags & flag:
            return None
        at += 5
        return ended + _BIAS - int.from_bytes(raw[at - 5 : at], "big")

    sent, received, started = time_at(_SENT), time_at(_RECEIVED), time_at(_STARTED)
    runtime = None
    if flags & _RUN_TIME:
        (runtime,) = Struct(">d").unpack_from(raw, at)
        at += 8
    eta = time_at(_ETA)
    marks = [int.from_bytes(raw[place : place + 4], "big") for place in range(at, len(raw) - 3, 4)]
    facts = Facts(
        finish=int(Code.SUCCEEDED),
        finished=ended,
        finished_count=1,
        sent=sent,
        received=received,
        received_count=int(received is not None),
        started=started,
        started_count=int(started is not None),
        runtime=runtime,
        eta=eta,
        is_other_id=bool(flags & _IS_OTHER),
        queue_wait=_wait(sent or received, started, eta),
        marks=marks,
    )
    return Brief(generation, (name, queue, worker), facts)


def _wait(available: int | None, started: int | None, eta: int | None) -> int | None:
    if not available or not started:
        return None
    return max(0, started - max(available, eta or 0))
