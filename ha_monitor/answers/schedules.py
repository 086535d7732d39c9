"""What celery beat should run, when, and whether it did."""

from __future__ import annotations

from collections.abc import Callable

from ha_monitor.answers.result import Result
from ha_monitor.query.language import Pattern, split_values
from ha_monitor.query.learned import learned_in
from ha_monitor.query.problems import judged_at
from ha_monitor.query.schedules import schedule_item, schedules_in, with_due_times
from ha_monitor.schedules.learned import Learned
from ha_monitor.store.reader import StoreReader


def schedules(reader: StoreReader, pattern: str | None = None, limit: int = 0, *, reverse: bool = False) -> Result:
    """The schedules (`SeenSchedule`) that match a pattern, worst first; if only one does, with its due times.

    :param pattern: several, separated by commas, in which `*` stands for any text, or a literal name; None for all.
    :param limit: how many; 0 for all.
    :raises StoreUnavailable: as the reader does.
    """
    found = _matching(reader, _by(pattern))
    items = found.items[::-1] if reverse else found.items
    shown = items[:limit] if limit else items
    result = found._replace(items=shown, more=len(items) > len(shown))
    return _with_due_times(reader, result) if pattern is not None and len(shown) == 1 else result


def learned(reader: StoreReader, pattern: str | None = None) -> list[Learned]:
    """Tasks that run regularly and have no known schedule.

    :param pattern: for their names, as in `schedules`.
    :raises StoreUnavailable: as the reader does.
    """
    return learned_in(reader.queries, reader.schedules, _by(pattern))


def _by(pattern: str | None) -> Callable[[str], bool]:
    wanted = [Pattern(parts) for parts in split_values("*" if pattern is None else pattern)]
    return lambda name: name == pattern or any(one.matches(name) for one in wanted)


def schedule(reader: StoreReader, name: str) -> Result:
    """The schedule with this literal name, with its due times; no item if there is none.

    :raises StoreUnavailable: as the reader does.
    """
    return _with_due_times(reader, _matching(reader, lambda one: one == name))


def _matching(reader: StoreReader, matches: Callable[[str], bool]) -> Result:
    now = reader.queries.now()
    is_judged = judged_at(reader.instances()) is not None
    found = schedules_in(reader.schedules, matches, now, is_judged=is_judged)
    return Result(now, found.seen, lambda one, _now: schedule_item(one), found.searched, found.gaps)


def _with_due_times(reader: StoreReader, found: Result) -> Result:
    """Add the due times of each schedule, of which there is one at most."""
    return found._replace(items=[with_due_times(reader.schedules, one) for one in found.items])
