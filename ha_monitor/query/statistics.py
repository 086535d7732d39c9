"""What was run of each name, beside the same time of the day before."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from ha_monitor.store.name_statistics import NameStatistic
from ha_monitor.store.queries import StatisticQueries

DAY = 86_400


class Compared(NamedTuple):
    """What was run of a name, and what in the same time of the day before."""

    now: NameStatistic
    day_before: NameStatistic


def compared(queries: StatisticQueries, names: Sequence[str], since: float, until: float) -> list[Compared]:
    """The statistics of names with those of a day earlier.

    :param since: seconds since the epoch, as `until`.
    :raises StoreUnavailable: as the port does.
    """
    both = (queries.statistics(names, since - ago, until - ago) for ago in (0, DAY))
    return [Compared(now, before) for now, before in zip(*both, strict=True)]
