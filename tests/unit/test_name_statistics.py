"""Statistics by name in the store in memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, cast

import pytest

from ha_monitor.query.statistics import DAY, NAMES_AT_ONCE, Compared, compared
from ha_monitor.store.connection import StoreConnection
from ha_monitor.store.keys import Keys
from ha_monitor.store.name_statistics import KEPT, Durations, NameStatistic
from ha_monitor.store.redis_queries import RedisQueries
from tests.support.statistics_contract import HOUR, StatisticsContract
from tests.unit.test_memory_store import MemoryBed

NOW = 500_000 * HOUR


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
        found = compared(queries, names, now, now + 60, sort=lambda one: one.runs, reverse=reverse, limit=most)
        return names_of(found), queries.asked

    of_now = [*[(NAMES_AT_ONCE, now)] * 5, (2, now)]
    assert ask(3) == (["n0498", "n0499", "n0496"], [*of_now, (3, before)])
    assert ask(2, reverse=True) == (["only-before", "n0000"], [*of_now, (4, before)])
    everything, asked = ask(None)
    assert (len(everything), everything[-1]) == (501, "only-before")
    assert sum(count for count, since in asked if since == before) == 502


class Asked:
    """A Redis that has nothing, and says what it was asked for."""

    def __init__(self, now: float) -> None:
        self._now = now
        self.keys: list[str] = []

    def call(self, *_words: object) -> list[bytes]:
        return [b"%d" % self._now, b"0"]

    def ask_in_turn(self, commands: Sequence[tuple[Any, ...]], _at_once: int) -> Iterator[list[Any]]:
        self.keys += [key for _, key in commands]
        yield [[] for _ in commands]


@pytest.mark.parametrize(
    ("since", "until", "hours"),
    [(HOUR, 0.0, 1), (KEPT, 0.0, 72), (30 * DAY, 0.0, 72), (365 * DAY, DAY, 48), (365 * DAY, 9 * DAY, 0)],
)
def test_no_more_is_asked_for_than_is_kept(since: float, until: float, hours: int) -> None:
    """Given a question about a month, or a year, the store is asked for the hours of which anything is kept, and
    does not work through all the others for each name.

    :param since: so many seconds ago, as `until`.
    """
    redis = Asked(NOW)
    queries = RedisQueries(cast(StoreConnection, redis), Keys("k", "n"))

    (found,) = queries.statistics(["shop"], NOW - since, NOW - until)

    assert found.runs == 0
    assert len(redis.keys) == hours


def test_of_a_time_before_all_that_is_kept_nothing_is_asked() -> None:
    """Given a question about a week long ago, at a time within an hour, the store is asked for nothing: not for what
    happened at the beginning of what is kept either.
    """
    redis = Asked(NOW + 754.5)
    queries = RedisQueries(cast(StoreConnection, redis), Keys("k", "n"))

    (found,) = queries.statistics(["shop"], NOW - 16 * DAY, NOW - 9 * DAY)

    assert found.runs == 0
    assert redis.keys == []
