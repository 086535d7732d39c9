"""What is stored about schedules: the leader writes it, everybody reads it. Times are in seconds since the epoch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

from msgspec import Struct
from msgspec.structs import replace

from ha_monitor.schedules.learned import Habit
from ha_monitor.schedules.model import Definition, Judgement, Occurrence, Source

MAX_GAPS = 50
"""Periods without a listener that are kept: the latest."""


class KnownSource(Struct, frozen=True, omit_defaults=True):
    """What one source last reported about schedules."""

    definitions: tuple[Definition, ...] = ()
    """As last reported, however long ago."""
    read_at: float = 0.0
    """When that was; 0 if never."""
    problem: str = ""
    """Why it could not be asked since; empty if it could."""
    is_partial: bool = False
    """Whether not all that were asked answered, so that there may be more."""


class Coverage(Struct, frozen=True, omit_defaults=True):
    """The periods for which the fleet has all events that were sent."""

    since: float
    until: float
    gaps: tuple[tuple[float, float], ...] = ()
    """Periods in between, each from and until, in which nobody listened; the oldest first."""


class ScheduleChanges(NamedTuple):
    """What the leader writes."""

    changed: Sequence[Judgement] = ()
    """With their histories."""
    removed: Sequence[str] = ()
    """Names of schedules that no longer exist."""
    sources: Mapping[Source, KnownSource] = {}  # never changed
    """The sources that were asked."""
    coverage: Coverage | None = None
    """None to leave it unchanged."""
    habits: Sequence[Habit] = ()
    """Those that have changed."""
    forgotten: Sequence[str] = ()
    """Names of tasks whose habits are no longer kept."""

    @property
    def is_empty(self) -> bool:
        is_judged = bool(self.changed or self.removed or self.sources or self.coverage is not None)
        return not (is_judged or self.habits or self.forgotten)


class KeptSchedules(Protocol):
    """The schedules as everybody reads them. Each call blocks, and raises `StoreUnavailable`."""

    def judgements(self) -> list[Judgement]:
        """All of them, by name, without the due times in their histories."""

    def occurrences(self, names: Sequence[str]) -> list[tuple[Occurrence, ...]]:
        """The latest due times of schedules and what came of each, oldest first, in the order of the names."""

    def sources(self) -> dict[Source, KnownSource]:
        """The sources that are asked for schedules, and what they reported."""

    def habits(self) -> list[Habit]:
        """When tasks that may run regularly ran, by their names."""

    def coverage(self) -> Coverage | None:
        """None if nothing has been judged yet."""


def without_occurrences(judgement: Judgement) -> Judgement:
    """The judgement without its due times, which are stored separately."""
    return replace(judgement, history=replace(judgement.history, occurrences=()))


def with_occurrences(judgement: Judgement, occurrences: Sequence[Occurrence]) -> Judgement:
    """The judgement with its due times again."""
    return replace(judgement, history=replace(judgement.history, occurrences=tuple(occurrences)))
