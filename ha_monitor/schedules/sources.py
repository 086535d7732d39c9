"""One definition per schedule, whichever sources define it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from msgspec.structs import replace

from ha_monitor.schedules.model import MAX_SCHEDULES, Definition, Source
from ha_monitor.text.visible import visible

_BEST_FIRST = {source: place for place, source in enumerate(Source)}
NOT_DEFINED = "neither cron nor every is set, and no worker defines it"


def merged(*sources: Iterable[Definition]) -> list[Definition]:
    """The definitions, ordered by name: at most `MAX_SCHEDULES`, from the best sources first.

    The best readable source determines when a schedule is due. The configuration of this program adds `grace` and
    `must_end_within` to the definition of the same name, or of the same task at the same times.
    """
    by_name: dict[tuple[str, str], list[Definition]] = {}
    for one in sorted((one for definitions in sources for one in definitions), key=_rank):
        by_name.setdefault(_key(one, by_name), []).append(one)
    found = [_one(group) for group in by_name.values()]
    return sorted(_unique(found)[:MAX_SCHEDULES], key=lambda one: one.name)


def _rank(one: Definition) -> tuple[int, str, str]:
    return _BEST_FIRST[one.source], one.app, one.name


def _key(one: Definition, known: dict[tuple[str, str], list[Definition]]) -> tuple[str, str]:
    if one.source is Source.TOML:
        # This program's configuration does not know which application has the schedule.
        same = [key for key in known if key[1] == one.name]
        same += [
            key
            for key, (first, *_) in known.items()
            if one.timetable and (first.task, first.timetable, first.zone) == (one.task, one.timetable, one.zone)
        ]
        return same[0] if same else (one.app, one.name)
    return one.app, one.name


def _one(group: Sequence[Definition]) -> Definition:
    best = next((one for one in group if not one.problem and one.timetable), group[0])
    own = next((one for one in group if one.source is Source.TOML), None)
    found = best
    if own is not None and own is not best:
        found = replace(best, grace=own.grace, must_end_within=own.must_end_within)
    if not found.timetable and not found.problem:
        found = replace(found, problem=NOT_DEFINED)
    others = [one for one in group if one is not best and one.timetable and not one.problem]
    other = next((one for one in others if (one.task, one.timetable) != (best.task, best.timetable)), None)
    if other is not None and not found.differs:
        says = f"{other.source} says '{visible(other.timetable)}' of task '{visible(other.task)}'"
        found = replace(found, differs=says)
    return found if found.is_enabled and group[0].is_enabled else replace(found, is_enabled=False)


def _unique(found: Sequence[Definition]) -> list[Definition]:
    """A name identifies a schedule: where two applications have the same name, the application is put before it."""
    names = [one.name for one in found]
    return [
        replace(one, name=f"{one.app}/{one.name}") if names.count(one.name) > 1 and one.app else one for one in found
    ]
