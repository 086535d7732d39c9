"""The loss detector on made-up workers: exact when events are dropped, silent when none is."""

from __future__ import annotations

import random
import time
from typing import Any

import pytest

from ha_monitor.config.schema import WorkerLabels
from ha_monitor.store.duties import Duties
from ha_monitor.store.reader import StoreReader
from ha_monitor.store.results import Counting, Watching
from tests.integration.storing import NODE, Inside, Instance, settings
from tests.integration.test_counting import BUCKETS, counter, samples
from tests.unit.builders import TIME, event

NAME = "celery@host"


class Worker:
    """Sends what a worker sends: a task-started for each run, a heartbeat every two seconds with their number."""

    def __init__(self, name: str = NAME, pid: int = 4711, at: float = TIME, processed: int = 0) -> None:
        self.name, self.pid, self.at, self.processed = name, pid, at, processed
        self.runs = 0

    def online(self) -> dict[str, Any]:
        return self._said("worker-online")

    def offline(self) -> dict[str, Any]:
        self.at += 0.1
        return self._said("worker-offline")

    def spell(
        self, runs: int, *, jitter: float = 0.0, chance: random.Random | None = None, every: float = 2.0
    ) -> list[dict[str, Any]]:
        """Some seconds with so many runs and the heartbeat at their end.

        :param every: how many seconds.
        :param jitter: how long after the run was counted its event gets its time, at most; in seconds.
        """
        begun = sorted(self.at + (chance.random() * 2 if chance else 1.9 * n / runs + 0.01) for n in range(runs))
        self.at += every
        self.processed += runs
        events = []
        for moment in begun:
            self.runs += 1
            late = chance.random() * jitter if chance else 0.0
            events.append(self._started(moment + late))
        return [*events, self._said("worker-heartbeat")]

    def _started(self, at: float) -> dict[str, Any]:
        uuid = f"{self.name}-{self.pid}-{self.runs}"
        return event("task-started", at=at, uuid=uuid, hostname=self.name, pid=self.pid, clock=self.runs)

    def _said(self, what: str) -> dict[str, Any]:
        return event(what, at=self.at, hostname=self.name, pid=self.pid, processed=self.processed, clock=self.runs)


def is_start(body: dict[str, Any]) -> bool:
    return body["type"] == "task-started"


def lose_four(one: Instance, worker: Worker) -> None:
    """Have ten more runs, of which four are not heard of, and what it takes to be sure of that."""
    one.apply(worker.spell(10)[4:])
    for runs in (10, 0, 0):
        one.apply(worker.spell(runs))


def lost(*instances: Instance, report: bool = True) -> dict[str, int]:
    """What the lines say was lost, by worker, once all that was applied has settled.

    :param report: as `workers.count_losses`.
    """
    time.sleep(1.05)  # the grace for what is on its way, by Redis's own clock
    for instance in instances:
        ticked = instance.store.tick(b"{}", [], watermark_age=0.0)
        instance.announce(ticked.items)
    for instance in instances:
        instance.announce(Duties(instance.store).losses(report=report))
    found: dict[str, int] = {}
    for instance in instances:
        for item in instance.emitted:
            one = item.entry.event
            if one.type == "events-lost":
                found[one.worker] = found.get(one.worker, 0) + one.fields["lost"]
    return found


@pytest.fixture
def one(store_url: str) -> Instance:
    instance = counter(store_url)
    instance.store.tick(b"{}", [], watermark_age=0.0)
    return instance


def test_nothing_is_lost_on_a_healthy_system(one: Instance) -> None:
    """Given a worker from its start to its end, with pauses, nothing is reported or counted."""
    worker = Worker()
    one.apply([worker.online()])
    for runs in (0, 5, 0, 0, 30, 1, 0, 7):
        one.apply(worker.spell(runs))
    one.apply([worker.offline()])

    assert lost(one) == {}
    assert samples(one).of("ha_monitor_events_lost_total") == {}


def test_dropped_events_are_counted_exactly_once(store_url: str, one: Instance) -> None:
    """Given starts that never came, their number is reported, counted, and kept with the time in which they are
    missing; later heartbeats add nothing.
    """
    worker = Worker()
    one.apply([worker.online()])
    one.apply(worker.spell(10))
    one.apply(worker.spell(10)[7:])
    for runs in (10, 0, 0):
        one.apply(worker.spell(runs))

    assert lost(one) == {NAME: 7}
    for _ in range(3):
        one.apply(worker.spell(10))
    assert lost(one) == {NAME: 7}
    assert samples(one).sum("ha_monitor_events_lost_total") == 7
    (item,) = (item for item in one.emitted if item.entry.event.type == "events-lost")
    assert item.entry.event.worker == NAME
    reader = StoreReader(settings(store_url), NODE)
    reader.connect()
    (gap,) = reader.queries.gaps(TIME + 2, TIME + 4)
    assert gap.what == f"7 starts of {NAME}"
    assert TIME - 60 < gap.since <= TIME + 2 < TIME + 4 <= gap.until < TIME + 20
    assert reader.queries.gaps(0.0, TIME - 100) == reader.queries.gaps(TIME + 100, TIME + 200) == []


def test_under_steady_load_the_number_is_soon_about_right_and_then_exact(one: Instance) -> None:
    """Given a worker that never pauses, a loss is reported within two heartbeats but for the runs that had just begun,
    and exactly after fifteen.
    """
    worker = Worker()
    one.apply([worker.online()])
    one.apply(worker.spell(10))
    one.apply(worker.spell(10)[7:])
    for _ in range(3):
        one.apply(worker.spell(10))
    assert lost(one) == {NAME: 5}
    for _ in range(15):
        one.apply(worker.spell(10))

    assert lost(one) == {NAME: 7}


def test_all_of_a_time_dropped_heartbeats_included(one: Instance) -> None:
    """Given that all events of a minute were dropped, as by a purge, the runs of that minute are reported."""
    worker = Worker()
    one.apply([worker.online()])
    one.apply(worker.spell(10))
    for _ in range(30):
        worker.spell(20)
    for runs in (10, 0, 0):
        one.apply(worker.spell(runs))

    assert lost(one) == {NAME: 600}


def test_a_monitor_that_comes_later_does_not_count_what_was_before(one: Instance) -> None:
    """Given a worker that has run thousands of tasks when the monitor first hears of it, only later losses count."""
    worker = Worker(processed=5000)
    for _ in range(16):
        one.apply(worker.spell(10))
    assert lost(one) == {}
    lose_four(one, worker)

    assert lost(one) == {NAME: 4}


@pytest.mark.parametrize("pid", [1, 4712])
def test_a_restart_is_no_loss(one: Instance, pid: int) -> None:
    """Given a worker that is killed and starts again, with the same process id as in a container or another, nothing
    is reported; losses of the new process are.
    """
    first = Worker(pid=1)
    one.apply([first.online()])
    for _ in range(3):
        one.apply(first.spell(10))
    second = Worker(pid=pid, at=first.at + 5)
    second.runs = 1000
    one.apply([second.online()])
    for _ in range(3):
        one.apply(second.spell(10))
    assert lost(one) == {}
    one.apply(second.spell(10)[3:])
    for runs in (10, 0, 0):
        one.apply(second.spell(runs))

    assert lost(one) == {NAME: 3}


def test_a_worker_that_sends_no_task_events_has_lost_none(one: Instance) -> None:
    """Given a worker without -E, and task events switched on later, the runs from before are not reported."""
    worker = Worker()
    one.apply([worker.online()])
    for _ in range(10):
        one.apply([body for body in worker.spell(10) if not is_start(body)])
    for _ in range(5):
        one.apply(worker.spell(10))

    assert lost(one) == {}


def test_what_another_instance_still_has_in_hand_is_not_lost(store_url: str, one: Instance) -> None:
    """Given an instance that has not merged what it was given, nothing is reported until it has, and then nothing."""
    two = counter(store_url, "host/2")
    worker = Worker()
    one.apply([worker.online()])
    held = []
    for _ in range(6):
        spell = worker.spell(10)
        held += spell[:5]
        one.apply(spell[5:])
    time.sleep(1.05)
    one.store.tick(b"{}", [], watermark_age=0.0)
    two.store.tick(b"{}", [], watermark_age=100.0)
    assert Duties(one.store).losses() == []
    two.apply(held)

    assert lost(one, two) == {}


def test_an_end_in_good_order_settles_the_account(one: Instance, store_url: str) -> None:
    """Given a worker that says goodbye, what was lost just before is reported without another heartbeat."""
    worker = Worker()
    one.apply([worker.online()])
    one.apply(worker.spell(10))
    one.apply(worker.spell(10)[2:])
    one.apply([worker.offline()])
    time.sleep(4)

    assert lost(one) == {NAME: 2}


@pytest.mark.parametrize("seed", range(6))
def test_at_random(store_url: str, one: Instance, seed: int) -> None:
    """Given three workers with threads, whose events get their time a little late, dealt out to two instances in random
    order, repeated, and some dropped, exactly those dropped are reported.
    """
    chance = random.Random(seed)
    two = counter(store_url, "host/2")
    dropped: dict[str, int] = {}
    stream: list[dict[str, Any]] = []
    for number in range(3):
        worker = Worker(f"w{number}@host", pid=100 + number)
        stream.append(worker.online())
        for spell in range(40):
            events = worker.spell(chance.choice((0, 1, 20, 60)), jitter=0.05, chance=chance)
            for body in events:
                if number and spell < 20 and is_start(body) and chance.random() < 0.1:
                    dropped[worker.name] = dropped.get(worker.name, 0) + 1
                else:
                    stream += [body] * chance.choice((1, 1, 1, 2))
        for _ in range(4):
            stream += worker.spell(1)
            stream += worker.spell(0)
    for start in range(0, len(stream), 200):
        piece = stream[start : start + 200]
        chance.shuffle(piece)
        one.apply(piece[::2])
        two.apply(piece[1::2])

    assert lost(one, two) == dropped
    assert samples(one, two).sum("ha_monitor_events_lost_total") == sum(dropped.values())
    assert Inside(store_url).redis.zcard(Inside(store_url).keys.processes) == 3


def lose_some(instance: Instance, name: str, runs: int) -> None:
    """A worker starts, and so many of its runs are never heard of."""
    worker = Worker(name)
    instance.apply([worker.online()])
    instance.apply([body for body in worker.spell(runs) if not is_start(body)])
    for spell in (3, 0, 0):
        instance.apply(worker.spell(spell))


def test_where_workers_are_not_told_apart_losses_are_one_series(store_url: str) -> None:
    """Given `metrics.worker_labels = "none"` and losses of two workers, one count has both."""
    one = counter(store_url, counting=Counting("host/1", BUCKETS, workers="none"))
    one.store.tick(b"{}", [], watermark_age=0.0)
    for name in ("a@host", "b@host"):
        lose_some(one, name, 4)

    assert lost(one) == {"a@host": 4, "b@host": 4}
    assert [count.number for count in one.store.counts.read() if count.kind == "l"] == [8]
    assert list(samples(one, labels=WorkerLabels.NONE).of("ha_monitor_events_lost_total").values()) == [8]


def test_losses_keep_to_the_limit_of_series(store_url: str) -> None:
    """Given losses of more workers than `metrics.max_series` allows, no event is forgotten and the rest is overflow."""
    one = counter(store_url, counting=Counting("host/1", BUCKETS, room=5))
    one.store.tick(b"{}", [], watermark_age=0.0)
    names = [f"w@host{number}" for number in range(8)]
    for name in names:
        lose_some(one, name, 2)

    assert lost(one) == dict.fromkeys(names, 2)
    found = samples(one).sums("ha_monitor_events_lost_total", by="hostname")
    assert sum(found.values()) == 16
    told_apart = len(found) - 1
    assert told_apart <= 5
    assert found["overflow"] == 16 - 2 * told_apart


def test_workers_that_lose_nothing_take_no_room(store_url: str) -> None:
    """Given more workers over time than `metrics.max_series`, as under autoscaling, the tasks have their labels."""
    one = counter(store_url, counting=Counting("host/1", BUCKETS, room=5))
    one.store.tick(b"{}", [], watermark_age=0.0)
    for number in range(8):
        worker = Worker(f"w@host{number}")
        one.apply([worker.online()])
        for runs in (0, 0, 0):
            one.apply(worker.spell(runs))
    assert lost(one) == {}
    one.apply(event("task-received"))

    assert samples(one).sums("celery_task_received_total", by="name") == {"shop.pay": 1}


@pytest.mark.parametrize("step", [3.0, 100.0, 365 * 86400.0])
def test_a_clock_that_is_put_back_is_no_loss(one: Instance, step: float) -> None:
    """Given a worker under load whose host's clock is put back by seconds, minutes or a year, nothing is reported, and
    what is lost once it is known again is.
    """
    worker = Worker()
    one.apply([worker.online()])
    for _ in range(4):
        one.apply(worker.spell(10))
    assert lost(one) == {}
    for _ in range(2):
        one.apply(worker.spell(10))
    worker.at -= step
    for _ in range(12):
        for _ in range(8):
            one.apply(worker.spell(10))
        assert lost(one) == {}
    lose_four(one, worker)

    assert lost(one) == {NAME: 4}


def test_losses_are_found_after_redis_clock_was_put_back(one: Instance, inside: Inside) -> None:
    """Given a worker under load, and a step of Redis's clock by an hour, nothing is reported, and what is lost once the
    account of the process is known again is, without waiting for that hour."""
    worker = Worker()
    one.apply([worker.online()])
    for _ in range(4):
        one.apply(worker.spell(10))
    inside.put_clock_back(3600)
    assert lost(one) == {}
    for _ in range(18):
        one.apply(worker.spell(10))
    assert lost(one) == {}
    lose_four(one, worker)

    assert lost(one) == {NAME: 4}


def test_where_losses_are_not_counted_nothing_is_said_or_piles_up(one: Instance, inside: Inside) -> None:
    """Given `workers.count_losses = false` and a worker some of whose tasks send no events, nothing is reported, and no
    heartbeats pile up.
    """
    worker = Worker()
    one.apply([worker.online()])
    for _ in range(20):
        one.apply(worker.spell(10)[2:])

    assert lost(one, report=False) == {}
    assert samples(one).sum("ha_monitor_events_lost_total") == 0
    (beats,) = inside.redis.scan_iter("*:b:*")
    assert inside.redis.strlen(beats) == 32


def without_starts(events: list[dict[str, Any]], kept: int = 0) -> list[dict[str, Any]]:
    """The first runs' events, and the heartbeat."""
    return [*events[:kept], events[-1]]


@pytest.mark.parametrize("steady", [2, 20])
@pytest.mark.parametrize("heartbeats", [3, 20])
@pytest.mark.parametrize("pauses", [0, 2])
@pytest.mark.parametrize("kept", [0, 5, 10])
def test_task_events_switched_off_at_run_time_are_no_loss(
    one: Instance, steady: int, heartbeats: int, pauses: int, kept: int
) -> None:
    """Given a worker whose task events are switched off and on again, each between two heartbeats, nothing is lost; and
    what is lost later is found again.
    """
    worker = Worker()
    one.apply([worker.online()])
    for _ in range(steady):
        one.apply(worker.spell(10))
    one.apply(without_starts(worker.spell(10), kept))
    for _ in range(pauses):
        one.apply(worker.spell(0))
    for _ in range(heartbeats):
        one.apply(without_starts(worker.spell(10)))
    assert lost(one) == {}
    one.apply(worker.spell(10)[kept:])
    for _ in range(16):
        one.apply(worker.spell(10))
    for _ in range(2):
        one.apply(worker.spell(0))
    assert lost(one) == {}

    lose_four(one, worker)

    assert lost(one) == {NAME: 4}


def test_what_is_lost_before_a_pause_is_reported_after_it(one: Instance) -> None:
    """Given events that are lost just before the worker pauses for a moment, they are reported, once, when it goes on:
    until then it may have been told to send none.
    """
    worker = Worker()
    one.apply([worker.online()])
    one.apply(worker.spell(10))
    for events in (worker.spell(10)[4:], worker.spell(0), worker.spell(0)):
        one.apply(events)
    assert lost(one) == {}

    for runs in (3, 0, 0):
        one.apply(worker.spell(runs))

    assert lost(one) == {NAME: 4}


IDLE = [0] * 17
"""Runs in the heartbeats of a worker that has been idle for long enough, with one that follows."""


@pytest.mark.parametrize("kept", [0, 6])
def test_what_is_lost_before_a_worker_idles_is_reported_once(one: Instance, kept: int) -> None:
    """Given a process known to send task events, of whose last runs all or some events are lost, and that runs nothing
    more, its heartbeats prove the loss; nothing is added when it goes on.
    """
    worker = Worker()
    one.apply([worker.online()])
    one.apply(worker.spell(10))
    one.apply(without_starts(worker.spell(10), kept))
    for runs in IDLE:
        one.apply(worker.spell(runs))
    assert lost(one) == {NAME: 10 - kept}

    for runs in (3, 10, 0, 0, *IDLE):
        one.apply(worker.spell(runs))

    assert lost(one) == {NAME: 10 - kept}


def test_a_purge_before_a_worker_idles_is_reported_with_its_next_heartbeats(one: Instance) -> None:
    """Given that all events of a minute were dropped, heartbeats included, and nothing is run afterwards, the runs of
    that minute are reported without a long wait: who switches task events off does not stop heartbeats.
    """
    worker = Worker()
    one.apply([worker.online()])
    one.apply(worker.spell(10))
    for _ in range(30):
        worker.spell(20)
    for runs in (0, 0, 0):
        one.apply(worker.spell(runs))

    assert lost(one) == {NAME: 600}


def test_what_is_lost_before_a_worker_ends_is_reported(one: Instance) -> None:
    """Given a process known to send task events, of whose last runs none has its event, its goodbye proves the loss."""
    worker = Worker()
    one.apply([worker.online()])
    one.apply(worker.spell(10))
    one.apply(without_starts(worker.spell(7)))
    one.apply([worker.offline()])
    time.sleep(4)

    assert lost(one) == {NAME: 7}


@pytest.mark.parametrize("every", [2.0, 10.0])
def test_a_worker_without_task_events_that_idles_has_lost_none(one: Instance, every: float) -> None:
    """Given workers, with usual and with rare heartbeats, that never sent task events, or that stopped for the runs of
    some heartbeats, nothing is lost when they idle.
    """
    never, stopped = Worker("never@host", pid=1), Worker("stopped@host", pid=2)
    for worker in (never, stopped):
        one.apply([worker.online()])
    for runs in (10, 0, 10, 0, 10, 0, 10, *IDLE):
        one.apply(without_starts(never.spell(runs, every=every)))
    for runs in (10, 10):
        one.apply(stopped.spell(runs, every=every))
    for runs in (10, 0, 10, 10, 10, *IDLE):
        one.apply(without_starts(stopped.spell(runs, every=every)))

    assert lost(one) == {}


def told_of_silence(instance: Instance) -> list[dict[str, Any]]:
    events = [item.entry.event for item in instance.emitted]
    return [one.fields for one in events if one.type == "task-events-missing"]


def test_workers_that_send_no_task_events_are_told_of_once(one: Instance) -> None:
    """Given workers without -E, one line tells of all after their first runs, and no other one follows; nor is there
    one for a worker that sends events, or runs nothing.
    """
    silent = [Worker(f"{name}@host", pid=number) for number, name in enumerate("abc", 1)]
    others = [Worker("sends@host", pid=10), Worker("idle@host", pid=11)]
    for worker in (*silent, *others):
        one.apply([worker.online()])
    for runs in (1, 0, 0, 7, 0):
        for worker in silent:
            one.apply(without_starts(worker.spell(runs)))
        one.apply(others[0].spell(runs))
        one.apply(others[1].spell(0))
        lost(one)

    (line,) = told_of_silence(one)
    assert (line["count"], sorted(line["workers"])) == (3, ["a@host", "b@host", "c@host"])
    assert "start them with -E" in line["reason"]
    watched = Duties(one.store).watch(Watching(1e6, 2e6), [], may_declare_lost=True, watermark=(0.0, 0.0))
    assert watched is not None
    assert {worker.name for worker in watched.workers if worker.is_silent} == {"a@host", "b@host", "c@host"}


def test_a_worker_that_is_told_to_send_nothing_is_told_of(one: Instance) -> None:
    """Given a worker whose task events are switched off, the line comes after three heartbeats with runs, since a lost
    event or two look the same; not where losses are not counted.
    """
    worker = Worker()
    one.apply([worker.online()])
    one.apply(worker.spell(10))
    for _ in range(3):
        one.apply(without_starts(worker.spell(1)))
    lost(one)
    assert told_of_silence(one) == []

    one.apply(without_starts(worker.spell(1)))
    one.apply(worker.spell(0))
    lost(one, report=False)
    assert told_of_silence(one) == []
    one.apply(worker.spell(0))
    lost(one)

    assert [line["workers"] for line in told_of_silence(one)] == [[NAME]]
