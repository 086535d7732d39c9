"""What is kept of schedules, as the leader writes it and everybody reads it. Times are in seconds since the epoch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

from msgspec import Struct
from msgspec.structs import replace

from ha_monitor.schedules.learned import Habit
from ha_monitor.schedules.model import Definition, Judgement, Occurrence, Source

MOST_GAPS = 50
"""Times in which nobody listened that are kept, the latest."""


class KnownSource(Struct, frozen=True, omit_defaults=True):
    """What one source said of schedules when it was asked last."""

    definitions: tuple[Definition, ...] = ()
    """As it told them last, however long ago."""
    read_at: float = 0.0
    """When that was; 0 if never."""
    problem: str = ""
    """Why it could not be asked since; empty if it could."""
    is_partial: bool = False
    """Not all that were asked answered: there may be more."""


class Coverage(Struct, frozen=True, omit_defaults=True):
    """The times of which the fleet has all events that were sent."""

    since: float
    until: float
    gaps: tuple[tuple[float, float], ...] = ()
    """Times between, each from and until, in which nobody listened; the oldest first."""


class ScheduleChanges(NamedTuple):
    """What the leader writes."""

    changed: Sequence[Judgement] = ()
    """With their histories."""
    removed: Sequence[str] = ()
    """Names of schedules that there are no longer."""
    sources: Mapping[Source, KnownSource] = {}  # never changed
    """Those that were asked."""
    coverage: Coverage | None = None
    """None to leave it as it is."""
    habits: Sequence[Habit] = ()
    """Those that have changed."""
    forgotten: Sequence[str] = ()
    """Names of tasks of which no habit is kept any longer."""

    @property
    def is_empty(self) -> bool:
        is_judged = bool(self.changed or self.removed or self.sources or self.coverage is not None)
        return not (is_judged or self.habits or self.forgotten)


class KeptSchedules(Protocol):
    """The schedules, as anybody reads them. Each call blocks, and raises `StoreUnavailable`."""

    def judgements(self) -> list[Judgement]:
        """All of them, by name, without the due times of their histories."""

    def occurrences(self, names: Sequence[str]) -> list[tuple[Occurrence, ...]]:
        """The latest due times of schedules and what came of each, the oldest first, in the order of the names."""

    def sources(self) -> dict[Source, KnownSource]:
        """What is asked for schedules, and what it said."""

    def habits(self) -> list[Habit]:
        """When tasks ran that may run regularly, by their names."""

    def coverage(self) -> Coverage | None:
        """None if nothing was judged yet."""


def without_occurrences(judgement: Judgement) -> Judgement:
    """What a list shows of it: the due times are kept apart."""
    return replace(judgement, history=replace(judgement.history, occurrences=()))


def with_occurrences(judgement: Judgement, occurrences: Sequence[Occurrence]) -> Judgement:
    """As it was before they were taken apart."""
    return replace(judgement, history=replace(judgement.history, occurrences=tuple(occurrences)))
