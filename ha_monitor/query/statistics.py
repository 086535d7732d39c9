"""What was run of each name, beside the same time of the day before."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

from ha_monitor.store.name_statistics import NameStatistic
from ha_monitor.store.queries import StatisticQueries

DAY = 86_400
AT_ONCE = 100
"""Names that are looked at together."""


class Compared(NamedTuple):
    """What was run of a name, and what in the same time of the day before."""

    now: NameStatistic
    day_before: NameStatistic


def compared(
    queries: StatisticQueries,
    names: Sequence[str],
    since: float,
    until: float,
    *,
    sort: Callable[[NameStatistic], Any],
    reverse: bool = False,
    most: int | None = None,
) -> list[Compared]:
    """The statistics of names of which anything was run, with those of a day earlier.

    :param since: seconds since the epoch, as `until`.
    :param sort: what of the asked time they are sorted by, the largest first; equal ones by name.
    :param reverse: sort the smallest first.
    :param most: how many are returned; None for all. Of the others, not all is read.
    :raises StoreUnavailable: as the port does.
    """
    found: list[Compared] = []

    def read(some: Sequence[str]) -> list[NameStatistic]:
        return queries.statistics(some, since, until)

    ordered = _first(read, sorted(names), partial(sorted, key=sort, reverse=not reverse), most)
    for first in range(0, len(ordered), AT_ONCE):
        some = ordered[first : first + AT_ONCE]
        before = queries.statistics([one.name for one in some], since - DAY, until - DAY)
        both = map(Compared, some, before)
        found += [one for one in both if one.now.runs or one.day_before.runs]
        if most is not None and len(found) >= most:
            return found[:most]
    return found


def _first(
    read: Callable[[Sequence[str]], list[NameStatistic]],
    names: Sequence[str],
    order: Callable[[list[NameStatistic]], list[NameStatistic]],
    most: int | None,
) -> list[NameStatistic]:
    """The statistics in order; of more names than are wanted, not all are held at once."""
    found: list[NameStatistic] = []
    for first in range(0, len(names), AT_ONCE):
        found = order(found + read(names[first : first + AT_ONCE]))
        # Those of which nothing was run may be left out later, for a name behind them.
        if most is not None and len(found) > most and all(one.runs for one in found[:most]):
            del found[most:]
    return found
