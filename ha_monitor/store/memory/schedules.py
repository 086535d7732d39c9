"""Schedules: see `schedules.py`."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from ha_monitor.schedules.learned import Habit
from ha_monitor.schedules.model import Judgement, Occurrence, Source
from ha_monitor.store.memory.server import MemoryServer
from ha_monitor.store.schedules import Coverage, KnownSource, ScheduleChanges, without_occurrences

_to_json = msgspec.json.Encoder().encode
_judgement_in = msgspec.json.Decoder(Judgement).decode
_habit_in = msgspec.json.Decoder(Habit).decode
_source_in = msgspec.json.Decoder(KnownSource).decode


class MemorySchedules:
    """See `schedules.KeptSchedules`. Needs no lease."""

    def __init__(self, server: MemoryServer) -> None:
        self._server = server

    def judgements(self) -> list[Judgement]:
        self._server.trouble("before schedules")
        return [without_occurrences(one) for _, one in sorted(self._server.schedules.judgements.items())]

    def occurrences(self, names: Sequence[str]) -> list[tuple[Occurrence, ...]]:
        self._server.trouble("before schedules")
        kept = self._server.schedules.judgements
        return [kept[name].history.occurrences if name in kept else () for name in names]

    def sources(self) -> dict[Source, KnownSource]:
        self._server.trouble("before schedules")
        return dict(self._server.schedules.sources)

    def habits(self) -> list[Habit]:
        self._server.trouble("before schedules")
        return [one for _, one in sorted(self._server.schedules.habits.items())]

    def coverage(self) -> Coverage | None:
        self._server.trouble("before schedules")
        return self._server.schedules.coverage


def write(server: MemoryServer, changes: ScheduleChanges) -> None:
    """Does what `lua/schedules.lua` does."""
    kept = server.schedules
    for name in changes.removed:
        kept.judgements.pop(name, None)
    # As JSON, which cannot carry everything.
    kept.judgements |= {one.definition.name: _judgement_in(_to_json(one)) for one in changes.changed}
    kept.sources |= {name: _source_in(_to_json(one)) for name, one in changes.sources.items()}
    for name in changes.forgotten:
        kept.habits.pop(name, None)
    kept.habits |= {one.task: _habit_in(_to_json(one)) for one in changes.habits}
    kept.coverage = changes.coverage or kept.coverage
