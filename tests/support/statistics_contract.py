"""What statistics by name have in every implementation of the store."""

from __future__ import annotations

import random
from collections import Counter
from itertools import pairwise
from typing import Any

import pytest

from ha_monitor.events.histogram import bucket_of
from ha_monitor.query.statistics import DAY, compared
from ha_monitor.store.name_statistics import NameStatistic
from tests.support.error_contract import failure, named, retry
from tests.support.store_contract import Bed, merge, started
from tests.unit.builders import decode, event

MINUTE, HOUR = 60.0, 3600.0


def start(task_id: str, *, at: float, **changes: Any) -> dict[str, Any]:
    return event("task-started", uuid=task_id, at=at, **changes)


def success(task_id: str, *, at: float, runtime: float = 0.25) -> dict[str, Any]:
    return event("task-succeeded", uuid=task_id, at=at, runtime=runtime)


def run(task_id: str, name: str, *, at: float, wait: float = 0.5, runtime: float = 0.25) -> list[dict[str, Any]]:
    """The events of a task that succeeds at a time."""
    began = at - runtime
    return [
        named(task_id, name, at=began - wait),
        start(task_id, at=began),
        success(task_id, at=at, runtime=runtime),
    ]


def of(bed: Bed, name: str, since: float, until: float) -> NameStatistic:
    (found,) = bed.queries().statistics([name], since, until)
    return found


class StatisticsContract:
    """Inherit it beside a fixture `bed`."""

    def test_runs_are_counted_by_name_and_minute(self, bed: Bed) -> None:
        """Given runs of two names that end in several ways, in two minutes, each name has in each minute what ended
        then, how long it took, and how long tasks had waited; and what it had a day before."""
        one = started(bed)
        minute = bed.now() // 60 * 60 - 120
        events = [*run("a", "shop", at=minute + 30, wait=2.0, runtime=1.0), *run("b", "mail", at=minute + 30)]
        events += [named("c", "shop", at=minute + 1), start("c", at=minute + 2), retry("c", at=minute + 3)]
        events += [failure("c", at=minute + 61)]
        events += run("y", "shop", at=minute + 30 - DAY, runtime=4.0)
        merge(one, decode(*events))

        shop = of(bed, "shop", minute, minute + 60)
        assert (shop.succeeded, shop.failed, shop.retried, shop.runs) == (1, 0, 1, 2)
        assert shop.runtime.quantile(0.5) == pytest.approx(1.0, rel=0.2)
        assert (shop.runtime.total, shop.waiting.total) == (1, 2)
        assert shop.waiting.quantile(0.95) == pytest.approx(2.0, rel=0.2)
        later = of(bed, "shop", minute + 60, minute + 120)
        assert (later.succeeded, later.failed, later.retried, later.waiting.total) == (0, 1, 0, 0)
        assert of(bed, "mail", minute, minute + 120).runs == 1
        assert bed.queries().names() == ["mail", "shop"]
        (both,) = compared(bed.queries(), ["shop"], minute, minute + 60, sort=lambda one: one.runs)
        assert (both.now.runs, both.day_before.runs) == (2, 1)
        assert both.day_before.runtime.quantile(0.5) == pytest.approx(4.0, rel=0.2)
        assert of(bed, "none", minute, minute + 60).runtime.quantile(0.5) is None
        # The same by time, at one go.
        bounds = [minute - DAY, minute - DAY + 60, minute, minute + 60, minute + 180]
        by_time = bed.queries().statistics_by(["mail", "shop", "none"], bounds)
        assert by_time == [
            [of(bed, name, since, until) for since, until in pairwise(bounds)] for name in ("mail", "shop", "none")
        ]
        assert [[one.runs for one in found] for found in by_time] == [[0, 0, 1, 0], [1, 0, 2, 1], [0, 0, 0, 0]]

    def test_any_order_and_repetition_gives_the_same_statistics(self, bed: Bed) -> None:
        """Given runs over five hours, in any order, in any batches, at two instances and all of them twice, the numbers
        are those of the events themselves: also where names come last, and where a later event changes a wait."""
        chance = random.Random(3)
        end = bed.now() // 60 * 60 - 60
        since = end - 5 * HOUR
        events: list[dict[str, Any]] = []
        runtimes: Counter[int] = Counter()
        waits: Counter[int] = Counter()
        for number in range(60):
            wait, runtime = chance.choice([0.0004, 0.1, 3.0]), chance.choice([0.0, 0.02, 700.0])
            at = since + 1000 + chance.random() * (5 * HOUR - 1000)
            events += run(f"t{number}", "shop", at=at, wait=wait, runtime=runtime)
            runtimes[bucket_of(runtime)] += 1
            sent = wait + 1 if number % 2 else wait
            if number % 2:
                events.append(event("task-sent", uuid=f"t{number}", name="shop", at=at - runtime - sent))
            waits[bucket_of(sent)] += 1
        for number in range(9):
            events += [named(f"f{number}", "shop", at=end - 100), failure(f"f{number}", at=end - 90 - number)]
        for repeated in range(2):
            bed.delete_all()
            one, two = started(bed), started(bed)
            todo = events * (1 + repeated)
            if repeated:
                chance.shuffle(todo)
            size = (100, 5)[repeated]
            for begin in range(0, len(todo), size):
                merge((one, two)[begin % 2], decode(*todo[begin : begin + size]))

            found = of(bed, "shop", since, end)
            assert (found.succeeded, found.failed, found.retried) == (60, 9, 0)
            assert found.runtime.counts == runtimes
            assert sum(found.waiting.counts.values()) == sum(waits.values())
            assert near(found.waiting.counts, waits)

    def test_what_has_no_name_is_in_no_statistic(self, bed: Bed) -> None:
        """Given a success whose task's name comes later, it counts from then on; before, there is no name."""
        one = started(bed)
        at = bed.now() - 60
        merge(one, decode(start("a", at=at), success("a", at=at + 1)))
        assert bed.queries().names() == []

        merge(one, decode(named("a", "shop", at=at - 1)))
        found = of(bed, "shop", at - 60, at + 120)
        assert (found.runs, found.runtime.total, found.waiting.total) == (1, 1, 1)

    def test_a_run_whose_clock_is_wrong_counts_as_now(self, bed: Bed) -> None:
        """Given an end that is still to come by the record's clock, it counts as now; one from before what is kept does
        not count."""
        one = started(bed)
        now = bed.now()
        merge(one, decode(named("a", at=now), success("a", at=now + 9 * HOUR)))
        merge(one, decode(named("b", at=now), success("b", at=now - 30 * DAY)))

        assert of(bed, "shop.charge", now - 120, now + 120).succeeded == 1
        assert of(bed, "shop.charge", now - 31 * DAY, now + DAY).succeeded == 1


def near(found: dict[int, int] | Any, expected: dict[int, int]) -> bool:
    """Whether two histograms are the same, but for waits at a bound: times of events are floating-point numbers."""
    buckets = sorted(set(found) | set(expected))
    left = 0
    for bucket in buckets:
        left += found.get(bucket, 0) - expected.get(bucket, 0)
        if abs(left) > 0 and bucket + 1 not in buckets:
            return False
    return left == 0
