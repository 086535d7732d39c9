"""Reads the task records in Redis: `lua/saving.lua` writes them, and `lua/record.lua` documents their content."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from struct import Struct
from typing import Any

import msgspec

from ha_monitor.events.catalogue import TASK_EVENTS, Code, State
from ha_monitor.events.error_group import group_id
from ha_monitor.events.model import ID_SIZE
from ha_monitor.store.queries import KeptTask, StoryEvent
from ha_monitor.store.record import Facts, WrongClocks, record_of, state_of

MAX_VALUES = 6
"""Consecutive values of a record."""
MIN_VALUES = 2
MOMENT_SIZE, UNKNOWN, MAX_IDS = 3, 15, 1000
"""As in `lua/story.lua` and `lua/ids.lua`."""
_HEADS = {0xD9: 2, 0xDA: 3, 0xDB: 5}
"""Bytes before the text, by their first byte; a short text has one."""
_TYPES: dict[int, str] = {row.code: row.type for row in TASK_EVENTS if row.code is not Code.OTHER}
_SECONDS = Struct(f">I{ID_SIZE - 4}x")
"""The time of an event, at the beginning of its id."""
_values_of = msgspec.msgpack.Decoder(list[msgspec.Raw]).decode
_facts_of = msgspec.msgpack.Decoder(Facts).decode
_clocks_of = msgspec.msgpack.Decoder(WrongClocks).decode
_Raw = msgspec.Raw
_whole_of = msgspec.msgpack.Decoder(tuple[Facts, _Raw, _Raw, _Raw, _Raw, _Raw]).decode
_SIX = bytes((0x90 | MAX_VALUES,))
_NOT_COMPUTED = -1.0


def _story_of(facts: Facts, events: Iterable[tuple[int, int]]) -> tuple[StoryEvent, ...]:
    errors = {(at, int(Code.RETRIED)): group_id(facts.name, digest) for at, digest in facts.retry_errors}
    if facts.finish == Code.FAILED and facts.fingerprint is not None:
        errors[facts.finished or 0, int(Code.FAILED)] = group_id(facts.name, facts.fingerprint)
    return tuple(
        StoryEvent(_TYPES.get(code, "custom"), at / 1e6, code == Code.REQUEUED, errors.get((at, code)))
        for at, code in sorted(events)
    )


def _is_complete(facts: Facts, *, whole: bool) -> bool:
    return whole and facts.name is not None and (facts.finish != Code.SUCCEEDED or facts.started_count > 0)


def kept_task(task_id: str, facts: Facts, events: Iterable[tuple[int, int]], *, whole: bool) -> KeptTask:
    """A task as readers get it.

    :param events: time in µs and code of each.
    :param whole: whether these are all events.
    """
    is_complete, is_reconciled = _is_complete(facts, whole=whole), facts.reconciled is not None
    story = _story_of(facts, events)
    return KeptTask(record_of(task_id, facts), story, is_complete, is_reconciled, shrunk=bool(facts.marks))


def brief_task(task_id: str, facts: Facts) -> KeptTask:
    """A task with a brief record. It had at most one event of each kind, besides custom ones."""
    return kept_task(task_id, facts, _with_those_of_times([], facts), whole=True)


class _ReadTask(KeptTask):
    """A task that computes only what is asked for: a search looks at tens of thousands of tasks, and shows twenty."""

    __slots__ = ("_facts", "_heard", "_task_id", "_values")

    def __init__(self, task_id: str, facts: Facts, values: Sequence[Any]) -> None:
        """:param values: the values of the record; the first is not used."""
        self._task_id, self._facts, self._values = task_id, facts, values
        self._heard = _NOT_COMPUTED

    def __getattr__(self, name: str) -> Any:
        """Computes an attribute when it is first asked for."""
        if name == "record":
            self.record = record_of(self._task_id, self._facts)
        elif name in ("story", "complete"):
            events, whole = _events(self._values)
            if self._facts.marks:
                events = _with_those_of_times(events, self._facts)
            self.story, self.complete = _story_of(self._facts, events), _is_complete(self._facts, whole=whole)
        elif name == "reconciled":
            self.reconciled = self._facts.reconciled is not None
        elif name == "shrunk":
            self.shrunk = bool(self._facts.marks)
        else:
            raise AttributeError(name)
        return getattr(self, name)

    @property
    def task_id(self) -> str:
        return self._task_id

    @property
    def state(self) -> State:
        return state_of(self._facts)

    @property
    def name(self) -> str | None:
        return self._facts.name

    @property
    def queue(self) -> str | None:
        return self._facts.queue

    @property
    def worker(self) -> str | None:
        return self._facts.worker

    @property
    def started(self) -> float | None:
        return self._facts.started / 1e6 if self._facts.started else None

    @property
    def first_heard(self) -> float:
        # A list of tasks is sorted by this again and again while it grows.
        if self._heard == _NOT_COMPUTED:
            self._heard = self._first_heard()
        return self._heard

    def _first_heard(self) -> float:
        facts = self._facts
        counts = (facts.received_count, facts.started_count, facts.finished_count)
        known = sum(counts) + (facts.sent is not None)
        is_in_facts = (
            max(counts) <= 1 and facts.reconciled is None and known == _count(self._values) and not facts.marks
        )
        if not is_in_facts:
            return super().first_heard
        # The facts have the time of each event that happened.
        times = (facts.sent, facts.received, facts.started, facts.finished)
        return min((at for at in times if at is not None and at > 0), default=0) / 1e6

    @property
    def last_heard(self) -> float:
        return self._facts.finished / 1e6 if self._facts.finished else super().last_heard


def facts_of(raw: bytes) -> Facts | None:
    """The facts of a record; None if it is foreign."""
    return _facts_in(_values(raw))


def wrong_clocks_of(raw: bytes) -> WrongClocks:
    """The part of a record about wrong clocks; empty if the program cannot have written it."""
    try:
        return _clocks_of(_values(raw)[0])
    except (IndexError, ValueError):
        return WrongClocks()


def _facts_in(values: list[msgspec.Raw]) -> Facts | None:
    try:
        return _facts_of(values[0])
    except (IndexError, ValueError):
        return None


def read_kept(task_id: str, raw: bytes) -> KeptTask | None:
    """A task from its record; None if that is foreign."""
    try:
        whole = _whole_of(_SIX + raw)
    except ValueError:
        pass  # from an earlier version, or foreign
    else:
        return _ReadTask(task_id, whole[0], whole)
    values = _values(raw)
    facts = _facts_in(values)
    return None if facts is None else _ReadTask(task_id, facts, values)


def _count(values: Sequence[Any]) -> int:
    """How many events a record has merged; -1 if it does not say."""
    if len(values) < MAX_VALUES:
        return -1
    packed = memoryview(values[1])
    count, rest = divmod(len(packed) - _HEADS.get(packed[0], 1), ID_SIZE)
    return -1 if rest else count


def _with_those_of_times(events: list[tuple[int, int]], facts: Facts) -> list[tuple[int, int]]:
    """The events of a record that was brief meanwhile, and the last of each kind, as far as its facts show them."""
    times = (facts.sent, facts.received, facts.started, facts.finished)
    codes = (Code.SENT, Code.RECEIVED, Code.STARTED, facts.finish)
    of_times = {(at, int(code)) for at, code in zip(times, codes, strict=True) if at is not None and code is not None}
    return sorted({*events, *of_times})


def _events(values: Sequence[Any]) -> tuple[list[tuple[int, int]], bool]:
    """Time in µs and code of the events in a record, as `lua/story.lua` packs them beside the ids; and whether these
    are all events.
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
    return events, len(events) == count < MAX_IDS


def _bytes_of(packed: msgspec.Raw) -> bytes:
    """The bytes of what cmsgpack packed as a text."""
    raw = bytes(packed)
    return raw[_HEADS.get(raw[0], 1) :]


def _values(raw: bytes) -> list[msgspec.Raw]:
    """The values of a record; empty if it cannot be read. The record does not contain their number."""
    for count in range(MAX_VALUES, MIN_VALUES - 1, -1):
        try:
            return _values_of(bytes((0x90 | count,)) + raw)
        except ValueError:
            continue
    return []
