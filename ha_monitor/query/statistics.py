"""The runs of each name, compared with the same period of the day before."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

from ha_monitor.store.name_statistics import NameStatistic
from ha_monitor.store.queries import StatisticQueries

DAY = 86_400
NAMES_AT_ONCE = 100
"""Names that are read at once."""


class Compared(NamedTuple):
    """The runs of a name in a period, and in the same period of the day before."""

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
    limit: int | None = None,
) -> list[Compared]:
    """The statistics of names that had runs, with those of a day earlier.

    :param since: seconds since the epoch, as `until`.
    :param sort: the key of the asked period to sort by, largest first; equal ones by name.
    :param reverse: sort smallest first.
    :param limit: how many are returned; None for all. The others are not read completely.
    :raises StoreUnavailable: as the port does.
    """
    found: list[Compared] = []

    def read(some: Sequence[str]) -> list[NameStatistic]:
        return queries.statistics(some, since, until)

    ordered = _first(read, sorted(names), partial(sorted, key=sort, reverse=not reverse), limit)
    for first in range(0, len(ordered), NAMES_AT_ONCE):
        some = ordered[first : first + NAMES_AT_ONCE]
        before = queries.statistics([one.name for one in some], since - DAY, until - DAY)
        both = map(Compared, some, before)
        found += [one for one in both if one.now.runs or one.day_before.runs]
        if limit is not None and len(found) >= limit:
            return found[:limit]
    return found


def _first(
    read: Callable[[Sequence[str]], list[NameStatistic]],
    names: Sequence[str],
    order: Callable[[list[NameStatistic]], list[NameStatistic]],
    limit: int | None,
) -> list[NameStatistic]:
    """The statistics in order; surplus names are dropped on the way, so that not all are held at once."""
    found: list[NameStatistic] = []
    for first in range(0, len(names), NAMES_AT_ONCE):
        found = order(found + read(names[first : first + NAMES_AT_ONCE]))
        # Names without runs may be dropped later, in favour of a name after them.
        if limit is not None and len(found) > limit and all(one.runs for one in found[:limit]):
            del found[limit:]
    return found
