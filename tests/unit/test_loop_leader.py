"""What an instance knows of the fleet, and does for it while it leads."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest

from ha_monitor.backend.results import Result
from ha_monitor.broker.task_query import Held, WorkerAnswers
from ha_monitor.config.notify import Heartbeat, Notify
from ha_monitor.config.schema import Config, Http, StuckSettings, Workers
from ha_monitor.errors import BrokerUnavailable, StoreUnavailable
from ha_monitor.events.model import Event
from ha_monitor.notify import channels
from ha_monitor.pipeline.broker_link import DEPTH_EVERY
from ha_monitor.pipeline.investigator import Investigator
from ha_monitor.pipeline.store_risks import LOOK_EVERY
from ha_monitor.pipeline.turn import MAX_TURN
from ha_monitor.store.memory.queries import MemoryQueries
from ha_monitor.store.results import StoreInfo
from tests.support.process import wait_for_value, wait_until
from tests.support.threads import plain_threads
from tests.unit.builders import TIME, event
from tests.unit.loop_bed import LEASE, OWN_CONFIG, Bed, Instance, live

CONFIG = msgspec.structs.replace(
    OWN_CONFIG,
    workers=Workers(late_after=4.0, lost_after=8.0),
    stuck=StuckSettings(sent_after=60, received_after=60, started_after=60),
)
WORKER = "celery@host"


@pytest.fixture
def bed() -> Bed:
    return Bed()


@pytest.fixture
def one(bed: Bed) -> Instance:
    return Instance(bed, config=CONFIG)


@pytest.fixture
def two(bed: Bed) -> Instance:
    return Instance(bed, "2", config=CONFIG)


def leads(instance: Instance) -> bool:
    return instance.telemetry.is_leader()


# --- at a distance ------------------------------------------------------------------------


def test_a_distant_store_is_asked_by_one_duty_a_tick_and_by_each_in_its_turn(bed: Bed, one: Instance) -> None:
    """Given a store whose answers take long, the leader makes the calls of one duty between two renewals of its lease,
    and both have their turn."""
    duties = ("watch", "losses")
    calls: list[str] = []

    def slow(moment: str) -> None:
        when, _, call = moment.partition(" ")
        if when == "before" and call in ("tick", *duties):
            calls.append(call)
            bed.clock.now += 2 * MAX_TURN * (call in duties)

    bed.server.trouble = slow
    one.live(60)

    between = " ".join(calls).split("tick")
    assert max(len(some.split()) for some in between) == 1
    assert set(duties) <= set(calls)
    assert calls.count("watch") > 15


# --- the store ----------------------------------------------------------------------------


def test_the_leader_tells_once_under_which_settings_the_store_may_lose_data(
    bed: Bed, one: Instance, two: Instance
) -> None:
    """Given a store with a risk, the leader alone writes a line, once, and another when the risk is another."""
    bed.server.info = StoreInfo(["appendonly is off"])
    live(130, one, two)
    bed.server.info = StoreInfo(["appendonly is off", "min-replicas-to-write is 0"])
    live(70, one, two)

    said = [line["reason"] for instance in (one, two) for line in instance.said("store-at-risk")]
    assert said == ["appendonly is off", "min-replicas-to-write is 0"]


def test_the_leader_tells_how_many_keys_the_store_has_dropped(bed: Bed, one: Instance, two: Instance) -> None:
    """Given a store that drops keys, the leader alone writes a line for each minute in which it did, with how many;
    what was dropped before it looked first, or by a Redis that was started again, is not told.
    """
    for dropped in (4, 4, 7, 2, 3):
        bed.server.info = StoreInfo(dropped=dropped)
        live(LOOK_EVERY + 1, one, two)

    assert [line["count"] for instance in (one, two) for line in instance.said("store-dropped-keys")] == [3, 1]
    assert sorted(instance.stats.store_dropped_keys for instance in (one, two)) == [0, 4]


# --- the watermark -------------------------------------------------------------------------


def watermark_age(one: Instance) -> float:
    """Seconds since the instance had merged whatever it was given, as the others know it."""
    return one.clock.time() - one.bed.server.instances[one.record.store.token].merged_until


def test_an_idle_instance_has_merged_all_that_it_was_given(one: Instance) -> None:
    """Given nothing at hand, the watermark follows the time by a tick."""
    one.live(10)

    assert watermark_age(one) <= LEASE / 5 + 0.5


def test_the_watermark_stands_while_a_message_is_held_up(bed: Bed, one: Instance) -> None:
    """Given messages that the store does not let be merged, the watermark does not go on; it does when they are."""
    one.live(5)
    stands = one.clock.time() - watermark_age(one)
    bed.publish(event("task-received"))
    bed.store_trouble.at("before apply", *(StoreUnavailable("away") for _ in range(1000)))
    one.live(20)
    assert bed.server.instances[one.record.store.token].merged_until - stands <= LEASE / 5
    bed.store_trouble._planned.clear()
    one.live(10)

    assert watermark_age(one) <= LEASE / 5 + 0.5


def test_under_load_as_many_messages_as_may_be_in_flight_are_proof(bed: Bed) -> None:
    """Given a queue that is never empty, the watermark goes on with every `broker.prefetch` messages merged."""
    one = Instance(bed, config=CONFIG, prefetch=10)
    one.live(3)
    for number in range(40):
        bed.publish(*(event("task-started", uuid=f"{number}-{n}", at=TIME + number + n / 100) for n in range(12)))
        one.clock.now += 0.25
        one.cycle()

    assert bed.broker.ready
    assert watermark_age(one) < 3


def test_an_instance_without_a_broker_holds_nobody_up_for_long(bed: Bed, one: Instance) -> None:
    """Given a broker that is away, what the instance had is surely with others after some heartbeats."""
    one.live(3)
    bed.broker_trouble.away = BrokerUnavailable("away")
    one.live(20)
    assert watermark_age(one) > 15
    one.live(30)

    assert watermark_age(one) <= LEASE / 5 + 0.5
    assert bed.server.requeued_at > 0


# --- who leads -----------------------------------------------------------------------------


def test_one_instance_leads_and_another_follows_it(bed: Bed, one: Instance, two: Instance) -> None:
    """Given two instances, one leads; when it stops, the other does, and both say so."""
    live(5, one, two)
    assert (leads(one), leads(two)) == (True, False)
    one.pipeline._shutdown(finish=True)
    two.live(3)

    assert leads(two)
    assert [line["event"] for line in two.output.lines if "leadership-acquired" in line["event"]] == [
        "leadership-acquired"
    ]


def test_an_instance_that_does_not_consume_does_not_lead(bed: Bed, one: Instance, two: Instance) -> None:
    """Given a leader that has lost the broker, another instance leads, and the first says that it does not."""
    live(5, one, two)
    bed.broker_trouble.at("before heartbeat", BrokerUnavailable("away"))
    bed.broker_trouble.at("before connect", *(BrokerUnavailable("away") for _ in range(3)))
    while leads(one):
        one.live(0.5)
    live(10, two, one)

    assert (leads(one), leads(two)) == (False, True)
    assert len(one.said("leadership-lost")) == 1


def test_a_leader_that_froze_does_nothing_more(bed: Bed, one: Instance, two: Instance) -> None:
    """Given a leader that freezes past its lease, it leads no more, neither by its own clock nor in the store."""
    live(6, one, two)
    two.live(2 * LEASE)
    assert (leads(one), leads(two)) == (False, True)
    one.live(1)

    assert not leads(one)
    assert one.stats.leases_lost == 1


# --- workers -------------------------------------------------------------------------------


def heartbeat(bed: Bed, number: int) -> None:
    bed.publish(event("worker-heartbeat", at=TIME + number))


def test_the_leader_alone_tells_of_a_lost_worker(bed: Bed, one: Instance, two: Instance) -> None:
    """Given a worker that falls silent and speaks again, one instance writes that it is lost, and that it is back."""
    live(10, one, two)
    heartbeat(bed, 1)
    live(15, one, two)
    heartbeat(bed, 2)
    live(3, one, two)

    told = [kind for kind, _ in one.announced if kind.startswith("worker-") and kind != "worker-heartbeat"]
    assert told == ["worker-lost", "worker-recovered"]
    assert not [kind for kind, _ in two.announced if kind in told]
    assert one.telemetry.fleet is not None
    assert [(worker.name, worker.state) for worker in one.telemetry.fleet.workers] == [(WORKER, "online")]
    assert two.telemetry.fleet is None


def test_who_was_deaf_does_not_take_silence_for_a_loss(bed: Bed, one: Instance) -> None:
    """Given a leader that heard nothing for a minute itself, it waits for as long as a worker may be silent."""
    one.live(10)
    heartbeat(bed, 1)
    one.live(2)
    one.clock.now += 60
    one.live(CONFIG.workers.lost_after - 1)
    assert ("worker-lost", "") not in one.announced
    one.live(5)

    assert ("worker-lost", "") in one.announced


def test_a_queue_that_cannot_deliver_loses_no_worker(bed: Bed, one: Instance) -> None:
    """Given a queue that can be found and delivers nothing, the broker is away, by name, for as long as that lasts, and
    no worker is lost; where nothing comes because nothing is sent, the broker only shows now and then that it can.
    """
    one.live(5)
    heartbeat(bed, 1)
    one.live(2)
    bed.broker_trouble.at("before proof", BrokerUnavailable("delivers nothing"))
    bed.broker_trouble.at("before connect", *(BrokerUnavailable("delivers nothing") for _ in range(8)))
    one.live(20)
    assert one.telemetry.health.ready().details["reasons"] == ["broker: delivers nothing"]
    one.live(100)
    told = [kind for kind, _ in one.announced]
    heard = bed.broker_trouble.moments["before proof"]
    one.live(50)

    assert next(line["reason"] for line in one.said("broker-unavailable")) == "delivers nothing"
    assert "worker-lost" in told, "it falls silent for good then"
    lost_at = next(number for number, line in enumerate(one.output.lines) if line["event"] == "worker-lost")
    back_at = max(number for number, line in enumerate(one.output.lines) if line["event"] == "broker-connected")
    assert lost_at > back_at
    assert 5 <= bed.broker_trouble.moments["before proof"] - heard <= 10


def test_workers_that_fall_silent_at_once_have_one_line(bed: Bed, one: Instance) -> None:
    """Given three workers that are heard no more from one moment on, one line tells of all."""
    one.live(10)
    names = ["a@host", "b@host", "c@host"]
    bed.publish(*(event("worker-heartbeat", at=TIME, hostname=name) for name in names))
    one.live(20)

    (line,) = one.said("workers-lost")
    assert (line["count"], line["workers"]) == (3, names)
    assert one.said("worker-lost") == []


def test_a_worker_whose_heartbeats_wait_behind_a_backlog_is_not_lost(bed: Bed) -> None:
    """Given a living worker whose heartbeats wait in the queue for longer than it may be silent, it is not lost; once
    they are merged and none follows, it is."""
    one = Instance(bed, config=CONFIG, prefetch=10)
    one.live(10)
    heartbeat(bed, 1)
    one.live(1)
    backlog = [event("task-received", uuid=f"{n}", at=TIME + n, hostname="celery@busy") for n in range(400)]
    bed.publish(*backlog)
    heartbeat(bed, 2)
    began = one.clock.now
    while bed.broker.ready:
        one.clock.now += 1
        one.cycle()
        assert one.said("worker-lost") == []
    assert one.clock.now - began > 2 * CONFIG.workers.lost_after
    one.live(CONFIG.workers.lost_after - 1)
    assert one.said("worker-lost") == []
    one.live(3 * DEPTH_EVERY)

    assert [line["worker"] for line in one.said("worker-lost")] == [WORKER]


def test_a_question_that_was_not_answered_says_nothing_of_the_queue(bed: Bed, one: Instance) -> None:
    """Given a queue that is empty, and a question about its length whose answer comes after too many messages, the
    length is as before, and whether the queue can deliver is not asked; later the question is asked again.
    """
    one.live(3 * DEPTH_EVERY)
    asked, proven = (bed.broker_trouble.moments[f"before {call}"] for call in ("depth", "proof"))
    assert (one.pipeline.stats.depth, proven > 0) == (0, True)

    bed.broker_trouble.when("after depth", lambda: setattr(one.source, "is_behind", True))
    bed.broker_trouble.when("before depth", lambda: setattr(one.source, "redelivers", False))  # the length is unknown
    one.live(3 * DEPTH_EVERY)
    assert bed.broker_trouble.moments["before depth"] == asked + 1
    assert (one.pipeline.stats.depth, bed.broker_trouble.moments["before proof"]) == (0, proven)

    one.source.redelivers, one.source.is_behind = True, False
    one.live(3 * DEPTH_EVERY)
    assert bed.broker_trouble.moments["before depth"] > asked + 1
    assert bed.broker_trouble.moments["before proof"] > proven


def test_what_another_instance_holds_is_no_silence(bed: Bed, one: Instance) -> None:
    """Given another instance that stands still, perhaps with a worker's heartbeats, the worker is not lost."""
    other = Instance(bed, "2", config=CONFIG)
    live(10, one, other)
    heartbeat(bed, 1)
    entry = bed.server.instances[other.record.store.token]
    entry.lease_until += 1000
    one.live(60)
    assert ("worker-lost", "") not in one.announced
    entry.lease_until = 0.0
    one.live(60)

    assert ("worker-lost", "") in one.announced


@pytest.mark.parametrize("count_losses", [True, False])
def test_lost_events_are_announced_if_they_are_to_be_counted(bed: Bed, count_losses: bool) -> None:
    """Given events that were lost, the leader announces them, unless `workers.count_losses` is off."""
    config = msgspec.structs.replace(CONFIG, workers=Workers(count_losses=count_losses))
    one = Instance(bed, config=config)
    one.live(5)
    bed.server.lost_events = [Event("events-lost", "0" * 24, WORKER, TIME, fields={"lost": 3})]
    one.live(5)

    assert [line["lost"] for line in one.said("events-lost")] == [3] * count_losses
    kept = MemoryQueries(bed.server).gaps(TIME - 1, TIME + 1)
    assert [gap.what for gap in kept] == [f"3 starts of {WORKER}"] * count_losses


def test_the_store_may_go_away_in_a_duty(bed: Bed, one: Instance) -> None:
    """Given a store that fails in each duty once, what the duty had found is announced once."""
    one.live(10)
    heartbeat(bed, 1)
    for moment in ("before watch", "after watch", "before losses", "after losses"):
        bed.store_trouble.at(moment, StoreUnavailable(moment))
    one.live(40)

    assert [kind for kind, _ in one.announced].count("worker-lost") == 1
    assert len(one.said("store-unavailable")) == 4
    assert bed.is_settled


def test_what_was_counted_is_there_for_scrapes(bed: Bed) -> None:
    """Given an instance that serves metrics, it reads its counts once, and then knows them by the replies."""
    one = Instance(bed, config=msgspec.structs.replace(CONFIG, http=Http(listen="127.0.0.1:0")))
    one.live(5)
    bed.publish(event("task-received"))
    one.live(5)
    one.live(20)

    assert bed.store_trouble.moments["before counts"] == 1


# --- tasks that go no further --------------------------------------------------------------


class Answers:
    """What workers and result backend say."""

    def __init__(
        self,
        held: dict[str, Held] | None = None,
        results: dict[str, Result | None] | None = None,
        acks_late: dict[str, bool] | None = None,
    ) -> None:
        self.held, self.results, self.acks_late = held or {}, results, acks_late or {}
        self.answered = frozenset([WORKER])
        self.asked: list[list[str]] = []

    def workers(self, task_ids: Sequence[str], ask_settings: Sequence[str]) -> WorkerAnswers:
        if task_ids:
            self.asked.append(list(task_ids))
        return WorkerAnswers(self.answered, self.held, self.acks_late if ask_settings else {})

    def backend(self, task_ids: Sequence[str]) -> dict[str, Result | None]:
        results = self.results or {}
        return {task_id: results.get(task_id) for task_id in task_ids}


def looking_instance(bed: Bed, answers: Answers, config: Config = CONFIG) -> Instance:
    investigator = Investigator(
        answers.workers, None if answers.results is None else answers.backend, bed.clock, plain_threads(bed.clock)
    )
    one = Instance(bed, config=config, investigator=investigator)
    one.live(3)
    bed.publish(event("task-received", at=one.clock.time()), event("task-started", at=one.clock.time(), pid=1))
    one.live(2)
    return one


def live_with_answers(one: Instance, answers: Answers, seconds: float) -> None:
    """Go on, and wait for the thread that asks before time passes."""
    stuck: Any = one.pipeline._leader._stuck
    until = one.clock.now + seconds
    while one.clock.now < until:
        one.live(0.5)
        wait_until(lambda: not stuck._investigator.is_running, 10, "the answer", 0.001)


def test_a_task_that_a_worker_has_for_too_long_is_stuck(bed: Bed) -> None:
    """Given a run beyond its limit that a worker says it has, one line tells of it, and no second."""
    answers = Answers(held={"8d3b9c4e-1f0a-4b7e-9a51-2f6d0c1e7a90": Held(WORKER, True)})
    one = looking_instance(bed, answers)
    live_with_answers(one, answers, 50)
    assert answers.asked == []
    live_with_answers(one, answers, 200)

    (line,) = one.said("task-stuck")
    assert (line["phase"], line["confirmed_by"], line["answered"]) == ("started", ["worker"], 1)
    assert len(answers.asked) > 1
    assert bed.is_settled


def test_a_task_that_no_worker_has_is_orphaned(bed: Bed) -> None:
    """Given a run that its worker says it does not have, and of which there is no result, one line tells of it."""
    answers = Answers(results={}, acks_late={"shop.pay": False})
    one = looking_instance(bed, answers)
    live_with_answers(one, answers, 120)

    (line,) = one.said("task-orphaned")
    assert line["confirmed_by"] == ["workers", "result-backend"]


@pytest.mark.parametrize("acks_late", [{}, {"shop.pay": True}], ids=["unknown", "late"])
def test_a_task_whose_message_may_be_back_in_its_queue_is_stuck(bed: Bed, acks_late: dict[str, bool]) -> None:
    """Given a run that its worker says it does not have, and that is acknowledged at its end, as far as anybody said,
    it is stuck and no orphan."""
    answers = Answers(results={}, acks_late=acks_late)
    one = looking_instance(bed, answers)
    live_with_answers(one, answers, 120)

    (line,) = one.said("task-stuck")
    assert (line["phase"], line["confirmed_by"]) == ("started", ["workers", "result-backend"])
    assert one.said("task-orphaned") == []


def test_how_tasks_are_acknowledged_is_learned_before_a_worker_is_lost(bed: Bed) -> None:
    """Given a fleet whose only worker has said how it acknowledges and is then killed, its task is orphaned, though
    nobody is left to say it."""
    answers = Answers(acks_late={"shop.pay": False})
    one = looking_instance(bed, answers)
    bed.publish(event("worker-heartbeat", at=one.clock.time()))
    live_with_answers(one, answers, 10)
    answers.acks_late = {}
    answers.answered = frozenset()
    live_with_answers(one, answers, 120)

    (line,) = one.said("task-orphaned")
    assert (line["confirmed_by"], line["answered"]) == (["worker-lost"], 0)


def test_a_task_whose_result_is_there_is_reconciled(bed: Bed) -> None:
    """Given a run whose result the backend has, the event that is missing is announced in its form."""
    result = Result("task-succeeded", None, WORKER, {"result": "'done'"})
    answers = Answers(results={"8d3b9c4e-1f0a-4b7e-9a51-2f6d0c1e7a90": result})
    one = looking_instance(bed, answers)
    live_with_answers(one, answers, 120)

    (line,) = one.said("task-succeeded")
    assert (line["source"], line["task_name"]) == ("reconciled", "shop.pay")
    assert one.said("task-stuck") + one.said("task-orphaned") == []


def test_a_confirmation_waits_for_instances_that_have_not_merged_what_they_had(bed: Bed) -> None:
    """Given another instance that stands still with a message in flight, no confirmation is announced, until its
    messages are surely with others."""
    answers = Answers(held={"8d3b9c4e-1f0a-4b7e-9a51-2f6d0c1e7a90": Held(WORKER, True)})
    one = looking_instance(bed, answers)
    token = one.record.store.token
    other = Instance(bed, "2", config=CONFIG)
    other.live(0.5)
    entry = bed.server.instances[other.record.store.token]
    entry.lease_until += 1000
    live_with_answers(one, answers, 120)
    assert one.said("task-stuck") == []
    assert one.record.store.token == token
    entry.lease_until = 0.0
    live_with_answers(one, answers, 120)

    assert len(one.said("task-stuck")) == 1


# --- the channels -------------------------------------------------------------------------


def test_only_the_leader_says_that_all_is_well(bed: Bed, monkeypatch: pytest.MonkeyPatch) -> None:
    """Given two instances with a heartbeat, the one that leads sends it, and the other one once it follows; a channel
    that hangs meanwhile costs neither its lease."""
    config = msgspec.structs.replace(CONFIG, notify=Notify(channels={"beat": Heartbeat(url="http://h/", every=10.0)}))
    hangs, sent = threading.Event(), Counter[str]()

    class Hanging:
        def __init__(self, name: str) -> None:
            self.name = name

        def deliver(self, message: object, deadline: object, /) -> str:
            sent[self.name] += 1
            hangs.wait()
            return ""

        def probe(self, deadline: object, /) -> str:
            return ""

    names = iter("12")
    monkeypatch.setattr(channels, "make_channel", lambda *_: Hanging(next(names)))
    one, two = Instance(bed, config=config), Instance(bed, "2", config=config)
    live(3, one, two)
    assert leads(one)
    wait_for_value(lambda: sent, {"1": 1}, 30, "the heartbeat", 0.01)
    live(60, one, two)
    assert (leads(one), one.said("lease-lost")) == (True, [])
    live(3 * LEASE, two)
    assert leads(two)
    wait_for_value(lambda: sent, {"1": 1, "2": 1}, 30, "the heartbeat of the other one", 0.01)
    hangs.set()


def test_without_channels_nothing_is_asked_about_messages(bed: Bed, one: Instance) -> None:
    """Given no channel, the store is not asked about messages: who needs none pays nothing."""
    live(10, one)

    assert leads(one)
    assert bed.store_trouble.moments["before deliveries"] == 0
