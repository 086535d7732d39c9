"""Schedules in Redis: see `schedules.py`. Only the leader writes them (`lua/schedules.lua`)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, TypeVar

import msgspec

from ha_monitor.schedules.learned import Habit
from ha_monitor.schedules.model import Judgement, Occurrence, Source
from ha_monitor.store.keys import Keys
from ha_monitor.store.packing import as_lua_string
from ha_monitor.store.schedules import Coverage, KnownSource, ScheduleChanges, without_occurrences

AT_ONCE = 50
"""Schedules whose due times one call reads or writes: some ten kilobytes each."""
ROWS_AT_ONCE = 200
"""Schedules that one call reads."""

T = TypeVar("T")
_judgement_in = msgspec.json.Decoder(Judgement).decode
_occurrences_in = msgspec.json.Decoder(tuple[Occurrence, ...]).decode
_habit_in = msgspec.json.Decoder(Habit).decode
_source_in = msgspec.json.Decoder(KnownSource).decode
_coverage_in = msgspec.json.Decoder(Coverage).decode
_to_json = msgspec.json.Encoder().encode


class RedisSchedules:
    """See `schedules.KeptSchedules`."""

    def __init__(self, commands: Callable[..., list[Any]], keys: Keys) -> None:
        """:param commands: runs commands in one round trip, over an open connection."""
        self._commands = commands
        self._keys = keys

    def judgements(self) -> list[Judgement]:
        return self._all(self._keys.schedules, _judgement_in)

    def habits(self) -> list[Habit]:
        return self._all(self._keys.schedule_habits, _habit_in)

    def occurrences(self, names: Sequence[str]) -> list[tuple[Occurrence, ...]]:
        rows: list[Any] = []
        for first in range(0, len(names), AT_ONCE):
            rows += self._call("HMGET", self._keys.schedule_runs, *names[first : first + AT_ONCE])
        return [_read(_occurrences_in, row) or () for row in rows]

    def sources(self) -> dict[Source, KnownSource]:
        raw = self._call("HGETALL", self._keys.schedule_sources)
        found: dict[Source, KnownSource] = {}
        for name, row in zip(raw[::2], raw[1::2], strict=True):
            known = _read(_source_in, row)
            if known is not None and name.decode("utf-8", "replace") in set(Source):
                found[Source(name.decode())] = known
        return found

    def coverage(self) -> Coverage | None:
        return _read(_coverage_in, self._call("GET", self._keys.schedule_coverage))

    def _all(self, key: str, decode: Callable[[bytes], T]) -> list[T]:
        """The readable values of a hash, in the order of their fields."""
        names = sorted(self._call("HKEYS", key))
        rows: list[Any] = []
        for first in range(0, len(names), ROWS_AT_ONCE):
            rows += self._call("HMGET", key, *names[first : first + ROWS_AT_ONCE])
        return [one for row in rows if (one := _read(decode, row)) is not None]

    def _call(self, *command: Any) -> Any:
        return self._commands(command)[0]


class SchedulePiece(NamedTuple):
    """What one call writes, as `lua/schedules.lua` reads it."""

    judged: list[Any]
    due_times: list[Any]
    dropped: list[str]
    asked: list[Any]
    habits: list[Any]
    forgotten: list[str]
    coverage: Any


def pieces_of(changes: ScheduleChanges) -> Iterator[SchedulePiece]:
    """The calls that write changes, each small enough to block Redis only for a moment."""
    removed, changed = list(changes.removed), list(changes.changed)
    coverage = None if changes.coverage is None else as_lua_string(_to_json(changes.coverage))
    sources = [text for name, one in changes.sources.items() for text in (name.value, as_lua_string(_to_json(one)))]
    habits = [_text(part) for one in changes.habits for part in (one.task, one)]
    forgotten = list(changes.forgotten)
    for first in range(0, max(1, len(changed)), AT_ONCE):
        some = changed[first : first + AT_ONCE]
        yield SchedulePiece(
            [_text(part) for one in some for part in (_name(one), without_occurrences(one))],
            [_text(part) for one in some for part in (_name(one), one.history.occurrences)],
            removed,
            sources,
            habits,
            forgotten,
            coverage,
        )
        removed, sources, habits, forgotten, coverage = [], [], [], [], None


def _name(judgement: Judgement) -> str:
    return judgement.definition.name


def _text(part: Any) -> Any:
    return part if isinstance(part, str) else as_lua_string(_to_json(part))


def _read(decode: Callable[[bytes], T], row: bytes | None) -> T | None:
    """None for what a later version wrote, and for a foreign value."""
    if row is None:
        return None
    try:
        return decode(row)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None
