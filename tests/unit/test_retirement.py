"""Series of what is gone end, and the sums go on: no total falls, and no rate sees what was counted before as new."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import pytest

from ha_monitor.config.schema import Config, Metrics, WorkerLabels
from ha_monitor.metrics.retirement import GONE_AFTER, RETIRE_EVERY
from ha_monitor.metrics.series import RESERVED, SAMPLES_PER_LABEL_SET, TASKS
from ha_monitor.metrics.task_text import TaskText
from ha_monitor.metrics.telemetry import Telemetry
from ha_monitor.pipeline.counting import CountKeeper
from ha_monitor.pipeline.stats import Stats
from ha_monitor.pipeline.tables import TableReport
from ha_monitor.store.counts import Counts, LabelSet
from ha_monitor.store.results import LabelSets
from tests.support.counted import Clients
from tests.support.scraping import Labels, Samples
from tests.unit.builders import TurnedClock

SEP = "\x1f"


class Shared:
    """What all instances have in common."""

    def __init__(self) -> None:
        self.label_sets: dict[bytes, float] = {}
        self.hashes: dict[str, dict[bytes, int]] = defaultdict(dict)
        self.workers: set[str] = set()
        self.gone: set[str] = set()


class Given:
    """The counts of a store, in memory."""

    def __init__(self, shared: Shared, name: str) -> None:
        self.shared = shared
        self.hash = shared.hashes[name]
        self.outdated = True
        self.changes: list[bytes] = []
        self.room = self.reserve = 0

    def read(self, keep_alive: Callable[[], None]) -> Counts:
        self.outdated = False
        self.changes.clear()
        raw = [piece for field, number in self.hash.items() for piece in (field, b"%d" % number)]
        label_sets = [LabelSet(text, added) for text, added in self.shared.label_sets.items()]
        keep_alive()
        return Counts(raw, label_sets)

    def read_of(self, name: str, _keep_alive: Callable[[], None]) -> Counts:
        return Counts(
            [piece for field, number in self.shared.hashes[name].items() for piece in (field, b"%d" % number)]
        )

    def take_changes(self) -> list[bytes]:
        changes, self.changes = self.changes, []
        return changes

    def make_room(self, room: int, reserve: int) -> None:
        self.room, self.reserve = room, reserve

    def publish(self, label_sets: Sequence[bytes]) -> None:
        for text in label_sets:
            self.shared.label_sets.setdefault(text, len(self.shared.label_sets) + 1.0)

    def restore(self, counts: Mapping[bytes, int], keep_alive: Callable[[], None]) -> None:
        raise AssertionError("nothing is lost")

    def count(self, name: str, worker: str, by: int = 1) -> None:
        """As `counting.lua` counts one event, with room for it or without."""
        text = SEP.join((name, worker, "celery")).encode()
        if text not in self.shared.label_sets:
            if self.room - (self.reserve if worker else 0) >= SAMPLES_PER_LABEL_SET:
                self.room -= SAMPLES_PER_LABEL_SET
                self.publish([text])
            elif worker:
                return self.count(name, "", by)
            else:
                name = worker = "overflow"
        self._add(SEP.join(("2", name, worker, "celery", "")).encode(), by)
        return None

    def move(
        self,
        moves: Sequence[tuple[bytes, bytes]],
        forgotten: Sequence[bytes] = (),
        gone: tuple[str, float] | None = None,
        *,
        keep_alive: Callable[[], None],
    ) -> bool:
        source = self.hash if gone is None else self.shared.hashes[gone[0]]
        for field, target in moves:
            number = source.pop(field)
            if gone is None:
                self.changes += [field, b""]
            self._add(target, number)
        for text in forgotten:
            self.shared.label_sets.pop(text, None)
        if gone is not None:
            self.shared.gone.discard(gone[0])
        keep_alive()
        return True

    def heard(self, within: float) -> list[str]:
        return list(self.shared.workers)

    def gone(self, after: float) -> list[str]:
        return list(self.shared.gone)

    def _add(self, field: bytes, by: int) -> None:
        self.hash[field] = self.hash.get(field, 0) + by
        self.changes += [field, b"%d" % self.hash[field]]


class Store:
    went_back_at = 0.0

    def __init__(self, counts: Given) -> None:
        self.counts = counts


class Silent:
    def warning(self, _event: str, **_fields: Any) -> None:
        pass


class Instance:
    """Counts, and is scraped."""

    def __init__(self, shared: Shared, clock: TurnedClock, name: str = "1", **settings: Any) -> None:
        config = Config(metrics=Metrics(**settings))
        self.shared = shared
        self.clock = clock
        self.telemetry = Telemetry(config, clock, Stats())
        self.series = self.telemetry.series
        self.counts = Given(shared, name)
        report = TableReport(Silent(), clock)  # type: ignore[arg-type]
        store: Any = Store(self.counts)
        self.keeper = CountKeeper(store, self.telemetry, report, clock, upkeep=self)
        self.text = TaskText(self.series, config.metrics, "tests", Clients(1.0))
        self._known: set[bytes] = set()
        self.meanwhile: list[Callable[[], None]] = []
        self.live()

    def keep_alive(self) -> None:
        """What a test says goes on between two calls."""
        if self.meanwhile:
            self.meanwhile.pop()()

    def live(self, seconds: float = 0.0) -> None:
        """Tick, some time later."""
        self.clock.now += seconds
        label_sets = self.shared.label_sets
        added = [LabelSet(text, at) for text, at in label_sets.items() if text not in self._known]
        self._known.update(label_sets)
        self.keeper.look(LabelSets(len(label_sets), added))

    def scrape(self) -> Samples:
        return Samples(b"".join(self.text.pieces(self.clock.now, openmetrics=False)).decode())


def received(*scraped: Samples) -> float:
    return sum(one.sum("celery_task_received_total") for one in scraped)


def increase(before: dict[Labels, float], after: dict[Labels, float]) -> float:
    """As Prometheus sees it: a series that is new has grown by nothing, and one that fell was reset."""
    both = ((before[labels], value) for labels, value in after.items() if labels in before)
    return sum(value - was if value >= was else value for was, value in both)


@pytest.fixture
def clock() -> TurnedClock:
    return TurnedClock()


@pytest.fixture
def shared() -> Shared:
    return Shared()


def test_the_counts_of_a_worker_that_is_gone_go_on_without_it(shared: Shared, clock: TurnedClock) -> None:
    """Given two workers of which one is gone, its series end an hour later, all their counts are in one that names no
    worker, the other's go on; the sum never falls, and there is no increase by what is old.
    """
    one = Instance(shared, clock)
    shared.workers = {"celery@a", "celery@b"}
    for worker in shared.workers:
        one.counts.count("shop.pay", worker, 5)
    one.live(1)
    before = one.scrape()
    one.live(2)
    before = one.scrape()
    shared.workers = {"celery@b"}

    for _ in range(int(GONE_AFTER / RETIRE_EVERY) + 3):
        one.live(RETIRE_EVERY)
        one.live(1)
        after = one.scrape()
        assert received(after) == 10
        assert increase(before.of("celery_task_received_total"), after.of("celery_task_received_total")) == 0
        before = after

    found = dict(after.sums("celery_task_received_total", by="hostname"))
    assert found.pop("b") == 5
    ((hostname, count),) = found.items()
    assert (hostname.startswith("retired-"), count) == (True, 5)


def test_what_is_counted_and_ticked_while_all_is_read_is_exported(shared: Shared, clock: TurnedClock) -> None:
    """Given a new connection, counts that take several calls to read, and a tick and an event between two of these, the
    tick reads nothing more, and the next one exports the event, also under a name that is new.
    """
    one = Instance(shared, clock)
    one.counts.count("shop.pay", "celery@a", 5)
    one.counts.outdated = True

    def go_on() -> None:
        one.counts.count("shop.pay", "celery@a", 2)
        one.counts.count("shop.ship", "celery@a", 1)
        one.live()

    one.meanwhile = [go_on]
    one.live(1)
    assert not one.meanwhile
    one.live(1)

    assert dict(one.scrape().sums("celery_task_received_total", by="name")) == {"shop.pay": 7, "shop.ship": 1}


def test_each_sum_of_what_is_gone_is_a_series_of_its_own(shared: Shared, clock: TurnedClock) -> None:
    """Given workers that go one after the other, each time there is one sum, which no rate takes for new."""
    one = Instance(shared, clock)
    names: set[str] = set()
    before: dict[Labels, float] = {}
    for number in range(4):
        one.counts.count("shop.pay", f"celery@{number}", 3)
        for _ in range(int(GONE_AFTER / RETIRE_EVERY) + 2):
            one.live(RETIRE_EVERY)
            one.live(2)
            found = one.scrape().of("celery_task_received_total")
            retired = {labels: value for labels, value in found.items() if "retired" in dict(labels)["hostname"]}
            assert len(retired) <= 1
            assert increase(before, retired) == 0
            before = retired
            names |= {dict(labels)["hostname"] for labels in retired}

    assert sum(before.values()) == 12
    assert len(names) == 4


def test_a_worker_that_is_up_and_idle_keeps_its_series(shared: Shared, clock: TurnedClock) -> None:
    """Given a worker that is heard of and runs nothing for a day, its series and those of its host's producers stay."""
    one = Instance(shared, clock)
    shared.workers = {"celery@a"}
    one.counts.count("shop.pay", "celery@a")
    one.counts.count("shop.pay", "a")
    for _ in range(150):
        one.live(RETIRE_EVERY)

    assert one.scrape().sums("celery_task_received_total", by="hostname") == {"a": 2}


def test_the_leader_exports_the_counts_of_an_instance_that_never_comes_back(shared: Shared, clock: TurnedClock) -> None:
    """Given two instances of which one is gone for good, the leader adds its counts to those that name no worker, its
    histograms as well; the other one's sum is as before, and no series of the leader's own grew.
    """
    one, two = Instance(shared, clock, "1"), Instance(shared, clock, "2")
    shared.workers = {"celery@a"}
    for instance in (one, two):
        instance.counts.count("shop.pay", "celery@a", 5)
        instance.counts._add(b"r\x1fshop.pay\x1f\x1fcelery\x1f0.1", 4)
        instance.live(1)
        instance.scrape()
    two.live(5)
    before = two.scrape()
    total = received(one.scrape(), two.scrape())
    shared.gone = {"1"}
    two.telemetry.leads(clock.now + 1e6, followed=False)

    two.live(RETIRE_EVERY)
    two.live(1)
    after = two.scrape()

    assert received(after) == total == 10
    assert after.sum("celery_task_runtime_count") == 8
    for name in ("celery_task_received_total", "celery_task_runtime_count"):
        assert increase(before.of(name), after.of(name)) == 0
    assert shared.hashes["1"] == {}


def test_who_does_not_lead_takes_nothing(shared: Shared, clock: TurnedClock) -> None:
    """Given an instance that is gone, one that does not lead leaves its counts where they are."""
    Instance(shared, clock, "1").counts.count("shop.pay", "celery@a", 5)
    shared.gone = {"1"}
    two = Instance(shared, clock, "2")
    two.live(RETIRE_EVERY)

    assert sum(shared.hashes["1"].values()) == 5


def test_what_others_forget_is_forgotten(shared: Shared, clock: TurnedClock) -> None:
    """Given label sets of a worker that other instances have found gone, they are no longer exported with 0."""
    one, two = Instance(shared, clock, "1"), Instance(shared, clock, "2")
    one.counts.count("shop.pay", "celery@a")
    two.live(1)
    assert two.series.samples
    for _ in range(int(GONE_AFTER / RETIRE_EVERY) + 2):
        one.live(RETIRE_EVERY)

    two.live(1)

    assert shared.label_sets == {}
    assert {group.kind for group in two.series.all()} <= {"r", "w"}


def test_counts_under_other_worker_labels_are_moved_to_where_they_are_exported(
    shared: Shared, clock: TurnedClock
) -> None:
    """Given counts from before `metrics.worker_labels` was changed, they end up where new ones are counted."""
    first = Instance(shared, clock)
    for number in range(3):
        first.counts.count("shop.pay", f"celery@{number}")
    again = Instance(shared, clock, worker_labels=WorkerLabels.NONE)
    again.live(RETIRE_EVERY)
    again.live(1)

    assert again.scrape().sum("celery_task_received_total") == 3
    assert shared.hashes["1"] == {b"2\x1fshop.pay\x1f\x1fcelery\x1f": 3}


def churn(instance: Instance, deploys: int, *, every: float) -> Iterator[int]:
    """Each deploy has 25 new containers, all of which run all of 20 tasks; yields its number."""
    shared = instance.shared
    for deploy in range(deploys):
        shared.workers = {f"celery@pod-{deploy}-{number}" for number in range(25)}
        for worker in sorted(shared.workers):
            for task in range(20):
                instance.counts.count(f"task.{task}", worker)
        for _ in range(int(every // RETIRE_EVERY)):
            instance.live(RETIRE_EVERY)
        instance.live(2)
        yield deploy


def sums(instance: Instance, label: int) -> dict[str, int]:
    """What was counted by one of the labels: 0 for the name, 1 for the worker. Its text is another test's matter."""
    found: dict[str, int] = defaultdict(int)
    for group in instance.series.all():
        if group.kind == TASKS:
            found[group.labels[label]] += sum(group.numbers.values())
    return found


@pytest.mark.thorough
def test_many_deploys_leave_no_more_than_some(shared: Shared, clock: TurnedClock) -> None:
    """Given 50 deploys of 25 containers that run 20 tasks, one each half hour, all workers that live have series of
    their own, nothing is overflow, the sum is right after each, and the series are those of the last hours.
    """
    instance = Instance(shared, clock)
    live = 25 * 20
    sizes = []
    for deploy in churn(instance, 50, every=1800.0):
        by_worker = sums(instance, 1)
        assert sum(by_worker.values()) == (deploy + 1) * live
        assert sum(by_worker.get(worker, 0) for worker in shared.workers) == live
        assert not by_worker.keys() & {"", "overflow"}
        sizes.append(instance.series.samples)

    assert max(sizes) <= 5 * live * SAMPLES_PER_LABEL_SET
    assert max(sizes[10:]) == max(sizes[:10])


def test_where_deploys_come_too_fast_names_stay(shared: Shared, clock: TurnedClock) -> None:
    """Given more deploys than there is room for, the tasks of new workers are counted without them, under their names;
    and when the old ones are gone for an hour, new workers have series again.
    """
    instance = Instance(shared, clock, max_series=20_000)
    for deploy in churn(instance, 6, every=0.0):
        by_name = sums(instance, 0)
        assert (by_name.keys(), set(by_name.values())) == ({f"task.{n}" for n in range(20)}, {(deploy + 1) * 25})
        assert instance.series.samples <= 20_000
    assert instance.series.without["worker"] > 0
    assert instance.series.without["name"] == 0
    assert instance.series.samples > (1 - RESERVED - 0.05) * 20_000

    for _ in range(int(GONE_AFTER / RETIRE_EVERY) + 2):
        instance.live(RETIRE_EVERY)
    before = instance.series.without["worker"]
    for _ in churn(instance, 1, every=0.0):
        assert sum(sums(instance, 1).values()) == 7 * 500
    assert instance.series.without["worker"] == before
