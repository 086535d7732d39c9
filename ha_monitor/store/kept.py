"""What Redis keeps of a task, read: `lua/saving.lua` writes it, and `lua/record.lua` says what is in it."""

from __future__ import annotations

from collections.abc import Iterable
from struct import Struct

import msgspec

from ha_monitor.events.catalogue import TASK_EVENTS, Code
from ha_monitor.events.fingerprint import group_id
from ha_monitor.events.identity import ID_SIZE
from ha_monitor.store.queries import KeptTask, StoryEvent
from ha_monitor.store.record import Facts, record_of

MOST_VALUES = 6
"""Values of a record, one after the other."""
LEAST_VALUES = 2
MOMENT_SIZE, UNKNOWN, MOST_IDS = 3, 15, 1000
"""As in `lua/story.lua` and `lua/ids.lua`."""
_HEADS = {0xD9: 2, 0xDA: 3, 0xDB: 5}
"""Bytes before the text, by the first of them; of a short one it is one."""
_TYPES: dict[int, str] = {row.code: row.type for row in TASK_EVENTS if row.code is not Code.OTHER}
_SECONDS = Struct(f">I{ID_SIZE - 4}x")
"""When an event was, at the beginning of its id."""
_values_of = msgspec.msgpack.Decoder(list[msgspec.Raw]).decode
_facts_of = msgspec.msgpack.Decoder(Facts).decode


def kept_task(task_id: str, facts: Facts, events: Iterable[tuple[int, int]], *, whole: bool) -> KeptTask:
    """A task as those who read get it.

    :param events: time in µs and code of each.
    :param whole: whether these are all.
    """
    errors = {(at, int(Code.RETRIED)): group_id(facts.name, digest) for at, digest in facts.retry_errors}
    if facts.finish == Code.FAILED and facts.fingerprint is not None:
        errors[facts.finished or 0, int(Code.FAILED)] = group_id(facts.name, facts.fingerprint)
    story = tuple(
        StoryEvent(_TYPES.get(code, "custom"), at / 1e6, code == Code.REQUEUED, errors.get((at, code)))
        for at, code in sorted(events)
    )
    is_complete = whole and facts.name is not None and (facts.finish != Code.SUCCEEDED or facts.started_count > 0)
    return KeptTask(record_of(task_id, facts), story, is_complete, facts.reconciled is not None)


def facts_of(raw: bytes) -> Facts | None:
    """The facts of a record; None if it is none of the program's making."""
    return _facts_in(_values(raw))


def _facts_in(values: list[msgspec.Raw]) -> Facts | None:
    try:
        return _facts_of(values[0])
    except (IndexError, ValueError):
        return None


def read_kept(task_id: str, raw: bytes) -> KeptTask | None:
    """A task as its record says; None if that is none of the program's making."""
    values = _values(raw)
    facts = _facts_in(values)
    if facts is None:
        return None
    events, whole = _events(values)
    return kept_task(task_id, facts, events, whole=whole)


def _events(values: list[msgspec.Raw]) -> tuple[list[tuple[int, int]], bool]:
    """Time in µs and code of the events of a record, as `lua/story.lua` packs them beside the ids; and whether these
    are all that there were.
    """
    try:
        ids, story = (_bytes_of(values[place]) for place in (1, 5))
    except IndexError:
        return [], False
    count, rest = divmod(len(ids), ID_SIZE)
    if rest or len(story) != count * MOMENT_SIZE:
        return [], False
    events = []
    moments = iter(story)  # byte by byte: half of the time of a search over many tasks was spent here
    for (second,), high, middle, low in zip(_SECONDS.iter_unpack(ids), moments, moments, moments, strict=False):
        if (code := low & 15) != UNKNOWN:
            events.append((second * 1_000_000 + (high << 12 | middle << 4 | low >> 4), code))
    return events, len(events) == count < MOST_IDS


def _bytes_of(packed: msgspec.Raw) -> bytes:
    """What cmsgpack made a text of."""
    raw = bytes(packed)
    return raw[_HEADS.get(raw[0], 1) :]


def _values(raw: bytes) -> list[msgspec.Raw]:
    """The values of a record; none if it cannot be read. How many there are it does not say."""
    for count in range(MOST_VALUES, LEAST_VALUES - 1, -1):
        try:
            return _values_of(bytes((0x90 | count,)) + raw)
        except ValueError:
            continue
    return []
