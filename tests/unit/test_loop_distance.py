"""The loop while a connection is being made, and with a store that is far away."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from functools import partial

import msgspec
import pytest

from ha_monitor.broker.source import Mark
from ha_monitor.config.schema import BatchSettings, LogLevel
from ha_monitor.errors import BrokerUnavailable, LeaseLost, StoreUnavailable
from ha_monitor.pipeline import announcements, collector, link
from ha_monitor.pipeline.collector import MAX_CALL_BYTES
from ha_monitor.pipeline.latency import MAX_IN_FLIGHT, NEARBY_LATENCY
from ha_monitor.pipeline.link import SLOW_AFTER
from ha_monitor.pipeline.pipeline import IDLE_WAIT
from ha_monitor.pipeline.turn import MAX_TURN
from tests.support.process import wait_for_value, wait_until
from tests.support.threads import plain_threads
from tests.unit.builders import TIME, event
from tests.unit.loop_bed import LEASE, OWN_CONFIG, Bed, Instance
from tests.unit.test_loop import ALL, life, publish_all

SMALL = msgspec.structs.replace(OWN_CONFIG, batch=BatchSettings(events=3, time=0.0))
"""One task of three events fills a batch."""


@pytest.fixture(params=[True, False], ids=["redelivers", "pub/sub"])
def bed(request: pytest.FixtureRequest) -> Bed:
    return Bed(redelivers=request.param)


@pytest.fixture
def amqp() -> Bed:
    return Bed()


@pytest.fixture(autouse=True)
def short_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    """The loop does not wait for long before it goes round: time is what the test says."""
    monkeypatch.setattr(link, "MAX_WAIT", 0.001)


class Hanging:
    """A moment that does not end before it is told to."""

    def __init__(self, moment: str) -> None:
        self._moment = moment
        self.began, self.may_end = threading.Event(), threading.Event()
        self.error: Exception | None = None

    def __call__(self, moment: str) -> None:
        if moment == self._moment:
            self.began.set()
            assert self.may_end.wait(60)
            if self.error is not None:
                raise self.error


@pytest.fixture
def hanging() -> Iterator[Hanging]:
    one = Hanging("before connect")
    yield one
    one.may_end.set()


def cycles_until(one: Instance, condition: Callable[[], bool], what: str) -> None:
    def went_round() -> bool:
        one.cycle()
        one.clock.now += 0.1
        return condition()

    wait_until(went_round, 60, what, 0.002)


# --- connecting ----------------------------------------------------------------------------


def test_an_instance_keeps_its_lease_however_long_it_connects_to_the_broker(bed: Bed, hanging: Hanging) -> None:
    """Given a name server that does not answer, the lease is renewed again and again, one line says what takes so
    long, and the instance is not ready; once there is an answer, it consumes."""
    bed.broker.trouble = hanging
    one, other = Instance(bed, threads=plain_threads(bed.clock)), Instance(bed, "2")
    publish_all(bed)
    for _ in range(int(6 * LEASE / 0.1)):
        one.cycle()
        other.pipeline._store_link.connect()
        bed.clock.now += 0.1

    assert hanging.began.is_set()
    assert one.stats.leases_lost == 0
    assert one.record.store.holds_lease()
    assert bed.store_trouble.moments["before tick"] >= 5 * 5
    (said,) = one.said("broker-unavailable")
    assert f"still connecting after {SLOW_AFTER:g} s: the host, or the name server for broker.url" in said["reason"]
    assert not one.telemetry.health.ready().good
    hanging.may_end.set()
    cycles_until(one, lambda: one.announced == ALL, "the events")
    assert one.stats.broker_connects == 1


def test_an_instance_goes_round_while_it_connects_to_the_store(hanging: Hanging) -> None:
    """Given a name server that does not answer for the store, the watchdog is notified and what a broker sends that
    keeps nothing is received; it is announced once the store is there."""
    bed = Bed(redelivers=False)
    bed.server.trouble = hanging
    one = Instance(bed, threads=plain_threads(bed.clock))
    cycles_until(one, lambda: one.pipeline._broker.consuming, "the broker")
    publish_all(bed)
    before = one.supervisor.calls.count("progress")
    one.cycle(5)

    assert one.supervisor.calls.count("progress") == before + 5
    assert not bed.broker.ready, "it was not received"
    assert one.announced == []
    hanging.may_end.set()
    cycles_until(one, lambda: one.announced == ALL, "the events")


@pytest.mark.parametrize("service", ["broker", "store"])
def test_a_stop_does_not_wait_for_a_connection(amqp: Bed, hanging: Hanging, service: str) -> None:
    """Given an attempt to connect that does not end, a stop ends the loop at once, and gives the lease up."""
    (amqp.broker if service == "broker" else amqp.server).trouble = hanging
    one = Instance(amqp, threads=plain_threads(amqp.clock))
    one.todo = [lambda: None, one.pipeline.stop]

    one.pipeline.run()

    assert not hanging.may_end.is_set()
    assert one.said("instance-stopped")
    assert amqp.server.instances == {}


def test_a_connection_that_came_too_late_is_not_used(amqp: Bed, hanging: Hanging) -> None:
    """Given a store that is lost while the broker is being connected to, the connection that comes of it is dropped:
    nothing is consumed that cannot be merged."""
    amqp.broker.trouble = hanging
    one = Instance(amqp, threads=plain_threads(amqp.clock))
    cycles_until(one, hanging.began.is_set, "the attempt")
    amqp.store_trouble.away = StoreUnavailable("away")
    cycles_until(one, lambda: not one.record.store.connected, "the outage")
    hanging.may_end.set()
    one.cycle(3)
    assert amqp.broker.consumers == 0

    amqp.store_trouble.away = None
    publish_all(amqp)
    cycles_until(one, lambda: one.announced == ALL, "the events")
    assert amqp.broker.consumers == 1


def test_an_attempt_that_fails_late_is_told_as_it_ends(amqp: Bed, hanging: Hanging) -> None:
    """Given an attempt that fails after a long time, a second line says why, and the next attempt comes."""
    amqp.broker.trouble = hanging
    hanging.error = BrokerUnavailable("rabbit: Temporary failure in name resolution")
    one = Instance(amqp, threads=plain_threads(amqp.clock))
    cycles_until(one, lambda: bool(one.said("broker-unavailable")), "the line about a slow attempt")
    hanging.may_end.set()
    cycles_until(one, lambda: len(one.said("broker-unavailable")) == 2, "the line about its end")

    assert one.said("broker-unavailable")[1]["reason"] == "rabbit: Temporary failure in name resolution"
    assert one.said("broker-unavailable")[1]["attempts"] == 1


# --- a store that is far away --------------------------------------------------------------


class Far:
    """A store that answers when a test says so."""

    def __init__(self, bed: Bed, config: object = SMALL, **settings: object) -> None:
        self.bed = bed
        self.one = Instance(bed, config=config, **settings)  # type: ignore[arg-type]
        self.one.cycle(2)
        self.one.pipeline._in_flight._latency._window.max_in_flight = MAX_IN_FLIGHT  # as after some timely answers
        bed.server.answers = lambda: False

    @property
    def in_flight(self) -> int:
        return len(self.one.pipeline._in_flight)

    def answer(self) -> None:
        self.bed.server.answers = lambda: True

    def answers_after(self, seconds: float) -> None:
        """Answer each batch so many seconds after it was sent."""
        sent = self.one.pipeline._in_flight._sent
        self.bed.server.answers = lambda: self.bed.clock.now - sent[0].at >= seconds

    def publish(self, *tasks: str) -> None:
        for task in tasks:
            self.bed.publish(*life(task))


def expected(*tasks: str) -> list[tuple[str, str]]:
    return [(kind, task) for task in tasks for kind in ("task-received", "task-started", "task-succeeded")]


def test_what_comes_while_a_distant_store_answers_does_not_wait_for_it(bed: Bed) -> None:
    """Given a store that has not answered for a batch, the next ones are collected and sent, up to a limit;
    when it answers, all are announced in order, and only then does the broker forget them."""
    far = Far(bed)
    tasks = [f"task-{number}" for number in range(MAX_IN_FLIGHT + 3)]
    far.publish(*tasks[:3])
    far.one.cycle(8)
    assert far.in_flight == 3
    if bed.broker.redelivers:
        assert bed.broker.in_flight == 9
    far.publish(*tasks[3:])
    far.answer()
    far.one.live(1)

    assert far.one.announced == expected(*tasks)
    assert bed.is_settled
    assert far.one.stats.repeated == 0


def test_only_so_many_batches_are_in_flight(amqp: Bed) -> None:
    """Given a store that never answers before it is waited for, and a long queue, no more than the limit are under
    way at once."""
    far = Far(amqp)
    tasks = [f"task-{number}" for number in range(3 * MAX_IN_FLIGHT)]
    far.publish(*tasks)
    most = 0
    for _ in range(12 * MAX_IN_FLIGHT):
        far.one.cycle()
        most = max(most, far.in_flight)

    assert most == MAX_IN_FLIGHT
    far.answer()
    far.one.live(1)
    assert far.one.announced == expected(*tasks)


def test_what_does_not_fill_a_batch_is_let_fill_while_some_are_in_flight(amqp: Bed) -> None:
    """Given events that come one by one and a store that answers late, the first is sent at once; later ones
    once they fill a batch, or the store has answered: few large calls cost it less than many small ones."""
    far = Far(amqp, msgspec.structs.replace(OWN_CONFIG, batch=BatchSettings(events=3, time=0.0)))
    in_flight = []
    for number in range(8):
        amqp.publish(event("task-custom", uuid="t", at=TIME + number))
        far.one.cycle(2)
        in_flight.append(far.in_flight)

    assert in_flight == [1, 1, 1, 2, 2, 2, 3, 3]
    amqp.publish(event("task-custom", uuid="t", at=TIME + 8))
    far.one.cycle(2)
    assert far.in_flight == 3
    far.answer()
    answered_at = amqp.clock.now
    far.one.cycle(2)
    assert amqp.is_settled
    assert amqp.clock.now - answered_at < IDLE_WAIT, "it does not wait for another message"
    assert far.one.stats.new == 9


def test_what_does_not_fill_a_batch_is_sent_if_no_more_can_come(amqp: Bed) -> None:
    """Given a broker that sends no more before something is acknowledged, a batch does not wait for more."""
    far = Far(amqp, msgspec.structs.replace(OWN_CONFIG, batch=BatchSettings(events=3, time=0.0)), prefetch=3)
    for number in range(6):
        amqp.publish(event("task-custom", uuid="t", at=TIME + number))
        far.one.cycle(2)

    assert far.in_flight == 2
    assert amqp.broker.in_flight == 3
    far.answer()
    far.one.live(1)
    assert amqp.is_settled
    assert far.one.stats.new == 6


def test_a_stop_merges_what_did_not_fill_a_batch(amqp: Bed) -> None:
    """Given a stop while a batch is let fill, it is merged: its events do not wait for another instance."""
    far = Far(amqp, msgspec.structs.replace(OWN_CONFIG, batch=BatchSettings(events=3, time=0.0)))
    for number in range(3):
        amqp.publish(event("task-custom", uuid="t", at=TIME + number))
        far.one.cycle(2)
    far.one.pipeline._shutdown(finish=True)

    assert far.one.stats.new == 3
    assert amqp.is_settled


def test_the_events_of_a_task_keep_their_order_though_a_call_merges_some_only(bed: Bed) -> None:
    """Given several batches in flight and a store that merges two tasks of one, what is behind it is not merged before
    its rest: each task's events are announced in their order, and acknowledged with the last of them."""
    far = Far(bed, msgspec.structs.replace(OWN_CONFIG, batch=BatchSettings(events=6, time=0.0)))
    bed.server.most_tasks = 2
    kinds = ("task-received", "task-started", "task-succeeded")
    rounds = [[event(kind, uuid=task, at=TIME + number) for task in "abc"] for number, kind in enumerate(kinds)]
    for number, bodies in enumerate(rounds):
        bed.publish(*[event("task-progress", uuid=task, at=TIME + number / 10) for task in "xyz"], *bodies)
        far.one.cycle(2)
    assert far.in_flight == 3
    far.answer()
    far.one.live(2)

    announced = [pair for pair in far.one.announced if pair[1] in "abc"]
    for task in "abc":
        assert [kind for kind, one in announced if one == task] == list(kinds)
    assert len(announced) == 9
    assert bed.is_settled
    assert far.one.stats.repeated == 0


def test_batches_are_smaller_where_one_call_does_not_merge_a_whole_one(amqp: Bed) -> None:
    """Given a store that merges a part of a batch while others are behind it, later batches have fewer events, and more
    again once it merges them whole."""
    config = msgspec.structs.replace(OWN_CONFIG, batch=BatchSettings(events=300, time=0.01))
    far = Far(amqp, config, prefetch=None)
    amqp.server.most_tasks = 50
    tasks = [f"task-{number}" for number in range(300)]
    far.publish(*tasks)
    far.one.cycle(4)
    collector = far.one.pipeline._collector
    far.answer()
    far.one.cycle()
    fewer = collector.max_events
    assert fewer < 300
    amqp.server.most_tasks = None
    far.one.live(1)
    far.publish(*[f"more-{number}" for number in range(1000)])
    amqp.server.answers = lambda: False
    far.one.live(2)
    far.answer()
    far.one.live(1)

    assert far.one.stats.new == 3900
    assert far.one.stats.repeated == 0
    assert fewer < collector.max_events <= 300


@pytest.mark.parametrize("moment", ["before apply", "after apply", "before tick", "after tick", "before send"])
@pytest.mark.parametrize("error", [StoreUnavailable("away"), LeaseLost("taken over")], ids=["away", "lease lost"])
def test_nothing_is_lost_with_several_batches_in_flight(bed: Bed, moment: str, error: Exception) -> None:
    """Given several batches in flight and a store that breaks, or another instance that took over, everything is
    announced."""
    if moment == "before send" and isinstance(error, LeaseLost):
        pytest.skip("nothing is answered when a batch is sent")
    far, other = Far(bed), Instance(bed, "2")
    far.publish("a", "b")
    far.one.cycle(6)
    assert far.in_flight == 2
    if isinstance(error, LeaseLost):
        bed.clock.now += 2 * LEASE
        other.cycle()
        other.clock.now += LEASE
    far.publish("c")
    bed.store_trouble.at(moment, error)
    far.one.cycle(2)
    far.answer()
    for _ in range(40):
        far.one.live(0.5)
        other.live(0.5)

    both = far.one.announced + other.announced
    assert sorted(set(both)) == sorted(ALL)
    assert bed.is_settled


def test_a_tick_goes_behind_what_is_in_flight(bed: Bed, monkeypatch: pytest.MonkeyPatch) -> None:
    """Given a distant store and batches in flight when a tick is due, the store is asked for it without waiting for
    them, and is given more before it is asked for what the leader does: all are announced in order."""
    far = Far(bed)
    far.answers_after(0.3)
    far.publish("task-0", "task-1")
    far.one.live(0.7)  # answered late: it is known to be far
    far.publish(*[f"task-{number}" for number in range(2, 5)])
    far.one.live(0.1)
    assert far.in_flight == 3
    asked: list[tuple[str, int]] = []
    for owner, name in ((far.one.record.store, "tick"), (far.one.record.duties, "watch")):
        monkeypatch.setattr(owner, name, noting(asked, far, name, getattr(owner, name)))
    far.publish("task-5", "task-6")
    for schedule in (far.one.pipeline._ticker.due, far.one.pipeline._leader._watch._due):
        schedule.hasten()
    far.one.cycle()

    assert asked == [("tick", 3), ("watch", 2)]
    far.answer()
    far.one.live(1)
    assert far.one.announced == expected(*[f"task-{number}" for number in range(7)])
    assert bed.is_settled


@pytest.mark.parametrize("duties", [True, False], ids=["with duties", "without"])
def test_no_more_is_decoded_than_is_sent(bed: Bed, monkeypatch: pytest.MonkeyPatch, duties: bool) -> None:
    """Given a distant store that answers batch after batch, and messages of more events than all batches in flight
    hold, at most the rest of one message is decoded and not sent, whatever the leader has to ask meanwhile.
    """
    monkeypatch.setattr(collector, "MAX_CALL_WEIGHT", 3)
    monkeypatch.setattr(collector, "DECODE_AT_ONCE", 1)
    far = Far(bed)
    far.answers_after(0.3)
    far.publish("task-0", "task-1")
    far.one.live(0.7)  # answered late: it is known to be far
    sizes, number = [], 3 * (MAX_IN_FLIGHT + 2)
    for message in range(2 * MAX_IN_FLIGHT):
        bed.publish([event("task-custom", uuid=f"{message}-{n}", at=TIME) for n in range(number)])
    total = 6 + 2 * MAX_IN_FLIGHT * number
    while far.one.stats.new < total:
        bed.server.answers = partial(next, iter([True]), False)
        for schedule in (far.one.pipeline._ticker.due, far.one.pipeline._leader._watch._due):
            if duties:
                schedule.hasten()
        far.one.cycle()
        bed.clock.now += 0.05
        sizes.append(far.one.pipeline._collector.event_count)
    far.answer()
    far.one.live(3)

    assert max(sizes) <= number
    assert len(far.one.announced) == total


def test_a_takeover_is_told_of_though_a_batch_in_flight_fails(amqp: Bed) -> None:
    """Given a distant store and a batch in flight whose reply is lost right after that of a tick that took an outbox
    over, the takeover is told of, once, and its lines are marked as `recovered`."""
    other = Instance(amqp, "2")
    other.cycle(2)
    publish_all(amqp)
    amqp.store_trouble.at("after apply", StoreUnavailable("killed"))
    other.cycle()
    other.source.close()
    far = Far(amqp)
    far.answers_after(0.1)
    token = other.record.store.token
    failed: list[int] = []

    def trouble(moment: str) -> None:
        if moment == "before apply" and token in amqp.server.taken_over and not failed:
            failed.append(far.one.stats.takeovers)
            raise StoreUnavailable("reset")

    amqp.server.trouble = trouble
    for number in range(3 * int(LEASE) * 10):
        far.publish(f"task-{number}")
        far.one.live(0.1)

    assert failed == [1]
    assert far.one.stats.takeovers == len(far.one.said("outbox-taken-over")) == 1
    marked = [(line["event"], line["task_id"]) for line in far.one.output.lines if line.get("recovered")]
    assert set(ALL) <= set(marked)  # what had lain before them in its outbox may be marked, too


def noting(asked: list[tuple[str, int]], far: Far, name: str, call: Callable[..., object]) -> Callable[..., object]:
    """A call that notes how many batches are in flight when it is made."""

    def noted(*args: object, **options: object) -> object:
        asked.append((name, far.in_flight))
        return call(*args, **options)

    return noted


def test_what_comes_while_a_distant_store_is_waited_for_is_sent_soon(bed: Bed) -> None:
    """Given a distant store that is known to answer late, what the broker sends while it is waited for is sent
    long before a near store would have answered."""
    far = Far(bed)
    far.publish("task-0")
    far.one.cycle(6)
    far.answer()
    far.one.live(0.1)
    bed.server.answers = lambda: False
    far.publish("task-1")
    far.one.live(0.1)
    assert far.in_flight == 1
    began = bed.clock.now
    far.one.cycle()  # nothing has come: it waits for the store
    far.publish("task-2")
    while far.in_flight == 1:
        far.one.cycle()

    assert bed.clock.now - began < NEARBY_LATENCY / 2
    far.answer()
    far.one.live(1)
    assert far.one.announced == expected("task-0", "task-1", "task-2")
    assert bed.is_settled


def test_a_distant_store_is_told_of_what_is_announced_with_the_next_batch(bed: Bed) -> None:
    """Given a distant store and events that go on coming, no call of its own tells the store what is announced; once
    nothing comes any more, one does."""
    far = Far(bed)
    told = bed.store_trouble.moments
    for number in range(5):
        far.publish(f"task-{number}")
        bed.server.answers = lambda: False
        far.one.cycle(3)
        far.answer()
        far.one.cycle()
    assert far.one.announced[-1] == ("task-succeeded", "task-4")
    assert told["before record_outcome"] == 0
    far.one.live(1)

    assert told["before record_outcome"] == 1


def test_a_distant_store_does_not_hold_the_watermark_back(bed: Bed) -> None:
    """Given a stream of events and a store that is so far away that something is always in flight, what came before a
    pause counts as merged once its batch is."""
    far = Far(bed)
    ages = []
    for number in range(60):
        far.publish(f"task-{number}")
        far.one.cycle()
        bed.clock.now += 0.1
        # The oldest is answered, and there is always one behind it.
        bed.server.answers = lambda: far.in_flight > 2
        far.one.cycle()
        bed.server.answers = lambda: False
        ages.append(far.one.pipeline._watermark.age())

    late = ages[20:]
    assert None not in late
    assert max(age for age in late if age is not None) < 2.0


# --- what may happen with several batches in flight ----------------------------------------


class Killed(Exception):
    """The process ends here."""


def test_an_instance_that_is_killed_leaves_nothing_behind(amqp: Bed) -> None:
    """Given an instance that is killed while batches are in flight, of which the store has merged some without anybody
    reading its replies, another one announces each event, and the broker keeps nothing."""
    far = Far(amqp)
    tasks = [f"task-{number}" for number in range(5)]
    far.publish(*tasks)
    far.one.cycle(12)
    assert far.in_flight == 5
    amqp.store_trouble.at("after apply", *[Killed()] * 3)
    for _ in range(3):
        with pytest.raises(Killed):
            far.one.record.store.receive_apply()
    far.one.source.close()  # as the system does
    far.answer()
    other = Instance(amqp, "2")
    other.live(3 * LEASE)

    assert far.one.announced == []
    assert sorted(other.announced) == sorted(expected(*tasks))
    assert amqp.is_settled


def test_what_is_acknowledged_is_announced_and_in_the_order_of_its_delivery(amqp: Bed) -> None:
    """Given several batches in flight that are answered one by one, each is acknowledged once its lines are written,
    and never one before those that were sent before it."""
    far = Far(amqp)
    tasks = [f"task-{number}" for number in range(6)]
    far.publish(*tasks)
    far.one.cycle(14)
    assert far.in_flight == 6
    marks: list[tuple[int, int]] = []
    acknowledge = far.one.source.acknowledge

    def noted(mark: Mark) -> None:
        marks.append((mark.delivery_tag, len(far.one.announced)))
        acknowledge(mark)

    far.one.source.acknowledge = noted  # type: ignore[method-assign]
    answers = iter([True, False] * 20)
    amqp.server.answers = lambda: next(answers, True)
    far.one.cycle(20)

    assert marks == [(number, number) for number in range(3, 19, 3)]


@pytest.mark.parametrize("place", [0, 3, 7])
@pytest.mark.parametrize("moment", ["before apply", "after apply"])
def test_a_call_that_fails_among_several_is_repeated_with_all_behind_it(bed: Bed, moment: str, place: int) -> None:
    """Given eight batches in flight of which the store answers for some, and then breaks, or does not know whether
    enough replicas have what it wrote: what is not confirmed is merged again, and each event is announced once."""
    far = Far(bed)
    tasks = [f"task-{number}" for number in range(MAX_IN_FLIGHT)]
    far.publish(*tasks)
    for _ in range(3 * MAX_IN_FLIGHT):
        if far.in_flight < MAX_IN_FLIGHT:
            far.one.cycle()
    assert far.in_flight == MAX_IN_FLIGHT
    error = StoreUnavailable("Redis: 0 of 1 replicas have the last write (store.min_replicas)")
    calls = iter(range(1000))

    def trouble(one: str) -> None:
        if one == moment and next(calls) == place:
            raise error

    bed.server.trouble = trouble
    far.answer()
    far.one.live(5)

    assert far.one.said("store-unavailable")
    assert sorted(far.one.announced) == sorted(expected(*tasks))
    assert bed.is_settled


def test_a_stop_finishes_all_that_is_in_flight(bed: Bed) -> None:
    """Given a stop while several batches are in flight, all are announced and acknowledged before the instance ends."""
    far = Far(bed)
    tasks = [f"task-{number}" for number in range(5)]
    far.publish(*tasks)
    far.one.cycle(12)
    assert far.in_flight > 3
    far.one.todo = [far.one.pipeline.stop]
    far.one.pipeline.run()

    assert far.one.announced == expected(*tasks)
    assert bed.is_settled
    assert bed.server.instances == {}


def is_far(bed: Bed, seconds: float, *, calls: str = "") -> None:
    """Have each call of the store take so long, or those of one kind."""

    def takes(moment: str) -> None:
        bed.clock.now += seconds * moment.startswith(f"before {calls}")
        bed.store_trouble(moment)

    bed.server.trouble = takes


@pytest.mark.parametrize("fails", [False, True], ids=["succeeds", "fails"])
@pytest.mark.parametrize("at_work", [True, False], ids=["at work", "returned"])
def test_a_handler_is_called_once_though_the_broker_goes_meanwhile(bed: Bed, at_work: bool, fails: bool) -> None:
    """Given a leader far away from the store, which finds the broker's connection broken while a handler works or as it
    has just returned, the handler is called once; if it has failed, that is known and it is called again later.
    """
    called: list[float] = []

    def works(_event: object, _task: object) -> None:
        called.append(bed.clock.now)
        if len(called) > 1:
            return
        bed.broker_trouble.at("before receive", BrokerUnavailable("reset"))
        bed.clock.now += LEASE / 3  # a tick is due
        if at_work:
            wait_for_value(
                lambda: bed.broker_trouble.failed["before receive"], 1, 30, "the end of the connection", 0.01
            )
        if fails:
            raise ValueError("no")

    one = Instance(bed, handlers=[works])
    is_far(bed, 2 * NEARBY_LATENCY)
    one.live(3)
    assert one.said("leadership-acquired")
    bed.publish(*life("a"))
    one.live(30)

    assert [line["reason"] for line in one.said("broker-unavailable")] == ["reset"]
    assert [later - called[0] > one.config.handlers.backoff / 2 for later in called[1:]] == [True] * fails
    assert one.stats.handler_failures == fails
    assert one.announced == ALL[:3]
    assert bed.is_settled


def test_a_connection_that_breaks_under_the_leaders_duties_is_lost_once(bed: Bed) -> None:
    """Given a leader whose store took long for a tick, and which finds the broker's connection broken on the way to
    its duties, it connects again at once: the rest of that turn does not take the connection for lost another time.
    """
    one = Instance(bed)
    is_far(bed, MAX_TURN, calls="tick")
    one.live(3)
    assert one.said("leadership-acquired")
    connected_at: list[float] = []
    send_more = one.pipeline._merging.send_more

    def breaks() -> None:
        if not connected_at:
            connected_at.append(bed.clock.now)
            bed.broker_trouble.at("before receive", BrokerUnavailable("reset"))
            bed.broker_trouble.when("before connect", lambda: connected_at.append(bed.clock.now))
        send_more()

    one.pipeline._merging.send_more = breaks  # type: ignore[method-assign]
    one.live(5)

    assert [line["reason"] for line in one.said("broker-unavailable")] == ["reset"]
    assert [line["attempts"] for line in one.said("broker-connected")[1:]] == [1]
    assert connected_at[1] - connected_at[0] < IDLE_WAIT


def test_a_stop_waits_for_a_handler_and_receives_nothing_more(bed: Bed, monkeypatch: pytest.MonkeyPatch) -> None:
    """Given a leader far away from the store that stops, and a handler that works then for longer than a lease, the
    handler is called once, nothing is left to others, and what comes meanwhile stays with the broker.
    """
    monkeypatch.setattr(announcements, "LEASE_CHECK_EVERY", 0.001)
    called: list[float] = []

    def until_a_tick() -> None:
        ticks = bed.store_trouble.moments["before tick"]
        bed.clock.now += LEASE / 3
        wait_until(lambda: bed.store_trouble.moments["before tick"] > ticks, 30, "a tick", 0.001)

    def works(_event: object, _task: object) -> None:
        called.append(bed.clock.now)
        bed.publish(*life("b"))
        for _ in range(4):
            until_a_tick()

    far = Far(bed, handlers=[works])
    one = far.one
    far.publish("a")
    one.cycle(8)
    is_far(bed, 2 * NEARBY_LATENCY)
    one.todo = [one.pipeline.stop]
    one.pipeline.run()

    assert len(called) == 1
    assert one.said("leadership-acquired")
    assert [line["left_to_others"] for line in one.said("instance-stopped")] == [0]
    assert one.said("shutdown-incomplete") + one.said("broker-unavailable") == []
    assert one.announced == ALL[:3]
    assert len(bed.broker.ready) == 3


def test_a_reload_loses_nothing_that_is_in_flight(bed: Bed) -> None:
    """Given new settings while several batches are in flight, those are announced with the new ones, once."""
    far = Far(bed)
    far.publish("a", "b", "c")
    far.one.cycle(8)
    assert far.in_flight == 3
    far.one.reread = lambda: far.one.reloadable(level=LogLevel.INFO)
    far.one.todo = [far.one.pipeline.reload, lambda: None, far.one.pipeline.stop]
    far.one.pipeline.run()

    assert far.one.announced == [("task-succeeded", task) for task in "abc"]
    assert far.one.supervisor.calls.count("reloading") == 1
    assert bed.is_settled


def test_what_is_in_flight_is_bounded_in_bytes(bed: Bed) -> None:
    """Given messages so large that each fills a batch, no more than eight times a batch's bytes are in flight."""
    far = Far(bed, OWN_CONFIG)
    text = "x" * 400_000
    for number in range(40):
        bed.publish([event("task-custom", uuid=f"t{number}", at=TIME + number, note=text, clock=at) for at in range(3)])
    most = 0
    for _ in range(60):
        far.one.cycle()
        most = max(most, sum(sent.collected.batch.byte_count for sent in far.one.pipeline._in_flight._sent))

    message = 3 * 400_200
    assert MAX_CALL_BYTES < most <= MAX_IN_FLIGHT * (MAX_CALL_BYTES + message)


def test_the_lease_is_renewed_while_something_is_always_in_flight(amqp: Bed) -> None:
    """Given a stream of events and a store so far away that something is always in flight, the lease is renewed as
    often as ever."""
    far = Far(amqp)
    far.answers_after(0.3)
    in_flight = []
    ticks = amqp.store_trouble.moments["before tick"]
    began = amqp.clock.now
    number = 0
    while amqp.clock.now < began + 2 * LEASE:
        far.publish(f"task-{number}")
        number += 1
        far.one.cycle()
        in_flight.append(far.in_flight)
        assert far.one.record.store.holds_lease()

    assert 0 not in in_flight[-len(in_flight) // 2 :]
    every = OWN_CONFIG.store.tick_every
    assert amqp.store_trouble.moments["before tick"] - ticks >= 2 * LEASE / every * 0.8
    assert far.one.stats.leases_lost == 0
