"""Statistics by name in the store in memory."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from ha_monitor.query.statistics import AT_ONCE, DAY, Compared, compared
from ha_monitor.store.name_statistics import Durations, NameStatistic
from tests.support.statistics_contract import StatisticsContract
from tests.unit.test_memory_store import MemoryBed


@pytest.fixture
def bed() -> MemoryBed:
    return MemoryBed()


class TestNameStatistics(StatisticsContract):
    """The contract."""


class Recorded:
    """Answers of which it is known what was asked."""

    def __init__(self, runs: dict[tuple[str, float], int]) -> None:
        self._runs = runs
        self.asked: list[tuple[int, float]] = []
        """How many names, and since when."""

    def statistics(self, names: Sequence[str], since: float, until: float) -> list[NameStatistic]:
        self.asked.append((len(names), since))
        nothing = Durations({})
        return [NameStatistic(name, self._runs.get((name, since), 0), 0, 0, nothing, nothing) for name in names]


def names_of(found: list[Compared]) -> list[str]:
    return [one.now.name for one in found]


def test_the_day_before_is_read_of_names_that_are_shown() -> None:
    """Given many names of which some are asked for, the day before is read of few; names that ran then alone are last,
    equal ones by name, and all are there if all are asked for.
    """
    now, before = float(DAY), 0.0
    runs = {(f"n{number:04}", now): 1 + number // 2 for number in range(500)} | {("only-before", before): 3}
    names = [*(name for name, _ in runs), "never"]

    def ask(most: int | None, *, reverse: bool = False) -> tuple[list[str], list[tuple[int, float]]]:
        queries = Recorded(runs)
        found = compared(queries, names, now, now + 60, sort=lambda one: one.runs, reverse=reverse, most=most)
        return names_of(found), queries.asked

    of_now = [*[(AT_ONCE, now)] * 5, (2, now)]
    assert ask(3) == (["n0498", "n0499", "n0496"], [*of_now, (3, before)])
    assert ask(2, reverse=True) == (["only-before", "n0000"], [*of_now, (4, before)])
    everything, asked = ask(None)
    assert (len(everything), everything[-1]) == (501, "only-before")
    assert sum(count for count, since in asked if since == before) == 502
