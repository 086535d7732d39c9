"""Incidents as the leader's loop writes them, with store and broker in memory and a simulated clock."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import pytest

from ha_monitor.broker.survey import Survey, TaskQueue
from ha_monitor.broker.task_query import WorkerAnswers
from ha_monitor.clock import Clock
from ha_monitor.config.notify import Exec, Notify, PagerDuty
from ha_monitor.config.schema import Config, LogLevel, Workers
from ha_monitor.errors import BrokerUnavailable, StoreUnavailable
from ha_monitor.events.model import Event
from ha_monitor.incidents.catalogue import FLAP_WINDOW
from ha_monitor.incidents.gather import MAX_LAG
from ha_monitor.notify import channels
from ha_monitor.notify.channel import TryAgain
from ha_monitor.notify.message import Message
from ha_monitor.outputs.handler_calls import HandlerCalls
from ha_monitor.outputs.handlers import Handler, Handlers, load_handlers
from ha_monitor.outputs.line import EventLines, iso_time
from ha_monitor.pipeline import announcements, leader
from ha_monitor.pipeline.channel_sender import MAX_BACKOFF
from ha_monitor.pipeline.incident_detector import IncidentDetector
from ha_monitor.pipeline.investigator import Investigator
from ha_monitor.pipeline.notifications import STOP_TIMEOUT, Recipient
from ha_monitor.pipeline.reloadable import Reloadable
from ha_monitor.store.incidents import Phase
from ha_monitor.store.memory.incidents import MemoryReader
from ha_monitor.store.record import TaskRecord
from ha_monitor.threads import CallThread
from tests.support.process import wait_for_value, wait_until
from tests.support.threads import ConnectingAtOnce
from tests.unit.builders import UUID, event
from tests.unit.loop_bed import OWN_CONFIG, Bed, Instance, live, policy_of, redactor
from tests.unit.test_notifications import NOW, Receiver

T = TypeVar("T")
CONFIG = msgspec.structs.replace(OWN_CONFIG, workers=Workers(late_after=4.0, lost_after=8.0))
TELLING = msgspec.structs.replace(CONFIG, notify=Notify(channels={"chat": Exec(command=["true"])}))


class AtOnce(CallThread):
    """Makes a call when it is submitted."""

    def __init__(self) -> None: ...

    def submit(self, call: Callable[[], T]) -> Future[T]:
        done: Future[T] = Future()
        try:
            done.set_result(call())
        except Exception as error:
            done.set_exception(error)
        return done


class LookingAtOnce(ConnectingAtOnce):
    """What a test sees does not depend on how long a look takes, or a message."""

    def __init__(self, clock: Clock, *, delivers_at_once: bool = True) -> None:
        super().__init__(clock)
        self._at_once = {"incidents", "investigator"} | ({"notify"} if delivers_at_once else set())

    def calls(self, name: str) -> CallThread:
        return AtOnce() if name in self._at_once else super().calls(name)


class Receiving:
    """A channel that keeps what it is given."""

    def __init__(self, got: list[Message]) -> None:
        self._got = got

    def deliver(self, message: Message, _deadline: object) -> str:
        self._got.append(message)
        return ""

    def probe(self, _deadline: object) -> str:
        return ""


@pytest.fixture
def bed() -> Bed:
    return Bed()


def instance(bed: Bed, name: str = "1", config: Config = CONFIG, *, delivers_at_once: bool = True) -> Instance:
    """One that looks for incidents."""
    threads = LookingAtOnce(bed.clock, delivers_at_once=delivers_at_once)
    return Instance(
        bed, name, config=config, detector=IncidentDetector(MemoryReader(bed.server), threads), threads=threads
    )


@pytest.fixture
def one(bed: Bed) -> Instance:
    return instance(bed)


@pytest.fixture
def two(bed: Bed) -> Instance:
    return instance(bed, "2")


def beat(bed: Bed, *names: str) -> None:
    bed.publish(*(event("worker-heartbeat", at=bed.clock.time(), hostname=name) for name in names))


def lines(*instances: Instance) -> list[tuple[str, str, bool]]:
    """What was announced of incidents: (event, key, recovered)."""
    return [
        (line["event"], line["key"], line.get("recovered", False))
        for one in instances
        for line in one.output.lines
        if line["event"].startswith("incident-")
    ]


def phases(bed: Bed) -> dict[tuple[str, str], Phase]:
    return {(one.kind, one.key): one.phase for one in bed.server.incidents.values()}


def lose_a_worker(bed: Bed, *instances: Instance) -> None:
    """Hear of it for a while, and then no more, until that is told."""
    for _ in range(10):
        beat(bed, "celery@a")
        live(2, *instances)
    live(30, *instances)


def test_a_lost_worker_is_one_incident_with_a_line_at_its_beginning_and_at_its_end(
    bed: Bed, one: Instance, two: Instance
) -> None:
    """Given two instances, the incident is opened and resolved once, however long it lasts, and who asks sees it."""
    lose_a_worker(bed, one, two)
    live(60, one, two)
    assert lines(one, two) == [("incident-opened", "celery@a", False)]
    assert phases(bed) == {("worker-lost", "celery@a"): Phase.FIRING}
    assert sum(bool(instance.telemetry.incidents) for instance in (one, two)) == 1

    for _ in range(8):
        beat(bed, "celery@a")
        live(2, one, two)

    assert lines(one, two) == [("incident-opened", "celery@a", False), ("incident-resolved", "celery@a", False)]
    assert phases(bed) == {("worker-lost", "celery@a"): Phase.RESOLVED}


def test_the_line_has_what_a_person_needs(bed: Bed, one: Instance) -> None:
    """Given an incident, its line says what, since when, how bad, and the command to go on with."""
    lose_a_worker(bed, one)

    (line,) = one.said("incident-opened")
    wanted: dict[str, Any] = {
        "kind": "worker-lost",
        "severity": "page",
        "size": 1,
        "summary": "celery@a is lost; it had no known task",
        "command": "ha-monitor workers celery@a",
        "level": "warning",
    }
    assert {name: line[name] for name in wanted} == wanted
    assert line["incident"] in bed.server.incidents
    assert line["since"] < line["event_time"]


@pytest.mark.parametrize("every", [0.5, 1.0, 2.0, 5.0])
def test_a_silent_worker_is_lost_however_often_others_are_heard(bed: Bed, one: Instance, every: float) -> None:
    """Given a worker that falls silent beside one that does not, it is lost as soon however often that one is heard:
    what the broker delivers at once does not wait in the queue.
    """
    for _ in range(int(20 / every)):
        beat(bed, "celery@a", "celery@b")
        one.live(every)
    for _ in range(int(30 / every)):
        beat(bed, "celery@b")
        one.live(every)

    assert lines(one) == [("incident-opened", "celery@a", False)]


@pytest.mark.parametrize("redelivers", [True, False], ids=["RabbitMQ", "Redis"])
@pytest.mark.parametrize("behind", [40, 90])
def test_a_lost_worker_is_told_though_the_clocks_of_its_hosts_are_behind(redelivers: bool, behind: float) -> None:
    """Given a fleet whose clocks are behind that of the monitor, by more than events may be merged late, a worker that
    falls silent is one incident, and another one when it is back; nobody is told that the monitor lags.
    """
    bed = Bed(redelivers=redelivers)
    one = instance(bed)
    for alone in (False, True, False):
        for _ in range(25):
            names = ["celery@b"] if alone else ["celery@a", "celery@b"]
            at = bed.clock.time() - behind
            bed.publish(*(event("worker-heartbeat", at=at, hostname=name) for name in names))
            one.live(2)

    assert lines(one) == [("incident-opened", "celery@a", False), ("incident-resolved", "celery@a", False)]


@pytest.mark.parametrize("redelivers", [True, False], ids=["RabbitMQ", "Redis"])
def test_the_lag_of_an_instance_with_slow_handlers_is_by_no_wrong_clock(
    redelivers: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given an instance that is always some seconds late, since each call of a handler takes longer than the time
    between two looks at the queue, its lag is about that long, however wrong the clocks of the senders are.
    """
    monkeypatch.setattr(announcements, "LEASE_CHECK_EVERY", 0.001)
    bed = Bed(redelivers=redelivers)

    def until_a_look() -> None:
        looks = bed.broker_trouble.moments["before heartbeat"]
        bed.clock.now += 2
        wait_until(lambda: bed.broker_trouble.moments["before heartbeat"] > looks, 30, "a look", 0.001)

    def slow(_event: Any, _task: Any) -> None:
        bed.publish(*ended(bed.clock.time() + 3))
        for _ in range(4):
            until_a_look()

    def ended(at: float) -> list[dict[str, Any]]:
        sent = at - 7200
        return [event(f"task-{what}", uuid=f"{at}", at=sent) for what in ("received", "started", "succeeded")]

    one = Instance(bed, config=CONFIG, handlers=[slow])
    one.live(3)
    bed.publish(*ended(bed.clock.time()))
    lags = []
    for _ in range(12):
        merged = one.stats.batches
        while one.stats.batches == merged:
            one.cycle()
        lags.append(one.stats.lag)

    assert max(lags[4:]) < MAX_LAG


def test_since_when_a_worker_is_lost_does_not_change(bed: Bed, one: Instance) -> None:
    """Given a lost worker, each look has the same beginning: when it was heard of last."""
    since = set()
    for _ in range(10):
        beat(bed, "celery@a")
        one.live(2)
    last = bed.server.workers["celery@a"][0]
    for _ in range(120):
        one.live(0.7)
        since |= {worker.heard for worker in one.telemetry.fleet.workers} if one.telemetry.fleet else set()

    (incident,) = bed.server.incidents.values()
    assert (since, incident.since) == ({last}, last)


def test_a_leader_that_dies_before_the_line_leaves_it_to_the_next(bed: Bed, one: Instance, two: Instance) -> None:
    """Given a leader that is gone right after it wrote the incident, the other writes the line, once, and says that it
    may be the second.
    """
    for _ in range(10):
        beat(bed, "celery@a")
        live(2, one, two)
    leader, other = (one, two) if one.telemetry.is_leader() else (two, one)

    def opens(moment: str) -> None:
        if moment == "after incidents" and any(one.opened for one in bed.server.incidents.values()):
            raise KeyboardInterrupt

    bed.server.trouble = opens
    with pytest.raises(KeyboardInterrupt):
        live(60, leader, other)
    leader.source.close()  # as the system does
    bed.server.trouble = lambda _moment: None
    assert lines(leader, other) == []
    live(60, other)

    assert lines(leader, other) == [("incident-opened", "celery@a", True)]
    assert len(bed.server.incidents) == 2  # that of the worker, and that of the dead instance
    assert phases(bed)["worker-lost", "celery@a"] is Phase.FIRING


def test_a_reply_that_is_lost_makes_no_second_line(bed: Bed, one: Instance) -> None:
    """Given a store that wrote the incident and whose reply did not come, the line is written once."""
    bed.store_trouble.at("after incidents", StoreUnavailable("gone"), StoreUnavailable("gone"))
    lose_a_worker(bed, one)
    live(60, one)

    assert bed.store_trouble.failed["after incidents"] == 2
    assert [line[:2] for line in lines(one)] == [("incident-opened", "celery@a")]


def test_nothing_is_born_of_a_monitor_that_was_started_anew(bed: Bed, one: Instance) -> None:
    """Given workers that were heard of long ago, a monitor that starts tells of no incident before it has listened."""
    for _ in range(5):
        beat(bed, "celery@a")
        one.live(2)
    bed.clock.now += 3600
    again = instance(bed, "1")
    again.live(6)
    for _ in range(20):
        beat(bed, "celery@a")
        again.live(2)

    assert lines(one, again) == []


def test_nothing_is_born_or_ends_while_the_broker_is_away(bed: Bed, one: Instance) -> None:
    """Given an incident and a broker that is gone for a quarter of an hour, the incident stays as it is."""
    lose_a_worker(bed, one)
    bed.broker_trouble.away = BrokerUnavailable("away")
    one.live(60)
    bed.broker_trouble.away = None
    one.live(5)

    assert lines(one) == [("incident-opened", "celery@a", False)]
    assert phases(bed)["worker-lost", "celery@a"] is Phase.FIRING


def test_nothing_is_born_or_ends_while_the_store_is_away(bed: Bed, one: Instance, two: Instance) -> None:
    """Given an incident and a store that is gone for a minute, it stays as it is, and nothing is born of that."""
    lose_a_worker(bed, one, two)
    bed.store_trouble.away = StoreUnavailable("away")
    live(60, one, two)
    bed.store_trouble.away = None
    live(40, one, two)

    assert lines(one, two) == [("incident-opened", "celery@a", False)]
    assert phases(bed) == {("worker-lost", "celery@a"): Phase.FIRING}


def test_a_rolling_restart_of_all_workers_is_no_incident(bed: Bed, one: Instance) -> None:
    """Given workers that say goodbye, one after the other, and come back after a minute, nothing is born."""
    names = [f"celery@{letter}" for letter in "abcd"]
    away: dict[str, float] = {}
    for step in range(60):
        if step in (10, 15, 20, 25):
            name = names[(step - 10) // 5]
            away[name] = bed.clock.now + 60
            bed.publish(event("worker-offline", at=bed.clock.time(), hostname=name))
        for name in [name for name, until in away.items() if until <= bed.clock.now]:
            del away[name]
            bed.publish(event("worker-online", at=bed.clock.time(), hostname=name))
        beat(bed, *(name for name in names if name not in away))
        one.live(2)

    assert (lines(one), bed.server.incidents) == ([], {})


def test_a_clock_that_is_put_back_bears_no_incident(bed: Bed, one: Instance) -> None:
    """Given a store's clock put back by an hour, nothing is born of that. A lost worker's silence counts from then on,
    so that its line says that it is back, and again that it is lost: it is one incident all the same.
    """
    lose_a_worker(bed, one)
    (before,) = bed.server.incidents
    bed.clock.put_back = 3600
    one.live(30)

    assert list(bed.server.incidents) == [before]
    assert phases(bed) == {("worker-lost", "celery@a"): Phase.FIRING}
    assert {line["incident"] for line in one.said("incident-opened")} == {before}
    assert len(one.said("incident-resolved")) == len(one.said("worker-recovered")) <= 1


def test_a_queue_that_is_late_is_told_after_a_minute(bed: Bed, one: Instance) -> None:
    """Given a task that nobody receives, its queue is late after five minutes and told of after six."""
    bed.publish(event("task-sent", at=bed.clock.time(), queue="mail"))
    for _ in range(31):
        beat(bed, "celery@a")
        one.live(10)
    assert phases(bed) == {("queue-late", "mail"): Phase.PENDING}
    for _ in range(7):
        beat(bed, "celery@a")
        one.live(10)

    assert lines(one) == [("incident-opened", "mail", False)]


def survey(*instances: Instance, finds: bool) -> None:
    """Ask the broker about the queues that no worker names: a message waits in each, or there are none."""
    for one in instances:
        if (asked := one.telemetry.to_survey()) is not None:
            queues = [TaskQueue(name, 1, None, 0, 0) for name in asked.waiting if finds]
            one.telemetry.surveyed(Survey(queues, {}), asked.asked_at)


def misspell_a_queue(bed: Bed, *instances: Instance) -> None:
    """Send a task to a queue that no worker ever consumed, and survey until that is told of."""
    bed.publish(event("task-sent", at=bed.clock.time(), queue="mial"))
    for _ in range(25):
        beat(bed, "celery@a")
        live(10, *instances)
        survey(*instances, finds=True)


def test_a_queue_that_no_worker_ever_consumed_is_told_of(bed: Bed, one: Instance) -> None:
    """Given a task in a queue whose name is misspelt, the broker is asked about that queue though no worker names it,
    and when it has found a message there that nobody consumes is an incident; who does not lead any more asks no more.
    """
    misspell_a_queue(bed, one)

    assert lines(one) == [("incident-opened", "mial", False)]
    assert phases(bed) == {("no-consumer", "mial"): Phase.FIRING}
    assert one.telemetry.waiting_queues == ("mial",)
    one.telemetry.does_not_lead()
    assert one.telemetry.to_survey() is None


def test_the_incident_of_a_queue_is_over_when_no_queue_is_left(bed: Bed, one: Instance) -> None:
    """Given an incident of the only queue that nobody consumes, it goes on while nobody knows what queues there are, as
    when surveys fail, and is over once a survey finds no queue at all, as when the queue was deleted.
    """
    misspell_a_queue(bed, one)
    for _ in range(10):
        beat(bed, "celery@a")
        one.live(10)
    assert one.telemetry.queues() is None
    assert phases(bed)["no-consumer", "mial"] is Phase.FIRING

    survey(one, finds=False)
    beat(bed, "celery@a")
    one.live(10)

    assert phases(bed)["no-consumer", "mial"] is Phase.RESOLVED
    assert lines(one) == [("incident-opened", "mial", False), ("incident-resolved", "mial", False)]


def test_a_new_leader_ends_the_incident_of_no_queue_before_its_own_survey(bed: Bed, one: Instance) -> None:
    """Given an incident of a queue, and a leader that is frozen, its successor judges queues only by a survey that it
    makes itself, knowing which queues the broker is to be asked about; the frozen one, too, when it leads again.
    """
    two = instance(bed, "2")
    misspell_a_queue(bed, one, two)
    for leading, other in ((two, one), (one, two)):
        for _ in range(10):
            beat(bed, "celery@a")
            leading.live(2)
            survey(leading, finds=True)
        assert (leading.telemetry.is_leader(), other.telemetry.is_leader()) == (True, False)
        assert leading.telemetry.queues() == [TaskQueue("mial", 1, None, 0, 0)]

    assert [one for one in lines(one, two) if one[1] == "mial"] == [("incident-opened", "mial", False)]


def test_a_queue_is_asked_about_for_as_long_as_its_incident_lasts(bed: Bed, one: Instance) -> None:
    """Given an incident of a queue of which producers say no longer that a task waits there, the broker, which alone
    knows, is asked about it all the same."""
    misspell_a_queue(bed, one)
    bed.publish(event("task-revoked", at=bed.clock.time(), uuid=UUID))
    for _ in range(10):
        beat(bed, "celery@a")
        one.live(2)
        survey(one, finds=True)

    assert MemoryReader(bed.server).queries.queue_waits(["mial"])[0].oldest is None
    assert phases(bed) == {("no-consumer", "mial"): Phase.FIRING}


def test_an_empty_store_tells_of_nothing(bed: Bed, one: Instance) -> None:
    """Given a store that lost everything, nothing is opened but what says so."""
    empty = bed.server.state()
    lose_a_worker(bed, one)
    bed.server.go_back(empty)
    for _ in range(10):
        beat(bed, "celery@b")
        one.live(2)

    assert [line[:2] for line in lines(one)] == [("incident-opened", "celery@a"), ("incident-opened", "")]
    assert phases(bed) == {("store-went-back", ""): Phase.FIRING}


@pytest.mark.parametrize(
    ("trouble", "said"),
    [
        (StoreUnavailable("no answer"), "no answer"),
        (ValueError("no such\nthing at redis://:hunter2@h/0"), "ValueError: no such thing at redis://:***@h/0"),
    ],
    ids=["of the store", "unforeseen"],
)
def test_a_look_that_fails_is_told_once_and_changes_nothing(
    bed: Bed, one: Instance, trouble: Exception, said: str
) -> None:
    """Given a store that does not answer the looks, or answers what nobody foresaw, one line says why, without line
    breaks and passwords, and the incidents stay as they are.
    """
    lose_a_worker(bed, one)

    def refuse(moment: str) -> None:
        if moment in ("before known_queues", "before reader"):
            raise trouble

    bed.server.trouble = refuse
    one.live(30)

    assert [line["reason"] for line in one.said("incidents-not-judged")] == [said]
    assert phases(bed) == {("worker-lost", "celery@a"): Phase.FIRING}


def with_stuck_tasks(bed: Bed, config: Config = CONFIG) -> Instance:
    """An instance that looks for the tasks of lost workers, and gets no answer about any."""

    def ask(_ids: Sequence[str], _workers: Sequence[str]) -> WorkerAnswers:
        raise BrokerUnavailable("no answer")

    threads = LookingAtOnce(bed.clock)
    investigator = Investigator(ask, None, bed.clock, threads)
    detector = IncidentDetector(MemoryReader(bed.server), threads)
    return Instance(bed, "1", config=config, detector=detector, investigator=investigator, threads=threads)


def run_until_lost(bed: Bed, one: Instance, worker: str, task_id: str = "t0") -> None:
    """Have a worker run a task and be heard of no more."""
    for kind in ("task-received", "task-started"):
        bed.publish(event(kind, at=bed.clock.time(), uuid=task_id, hostname=worker))
    for _ in range(10):
        beat(bed, worker, "celery@z")
        one.live(2)
    for _ in range(20):
        beat(bed, "celery@z")
        one.live(2)


def test_a_task_under_which_two_workers_died_is_poison_until_it_ends(bed: Bed) -> None:
    """Given a task whose worker is lost, that is no poison; once the next worker is lost under it, it is, told once; a
    third loss grows it, and its end resolves it.
    """
    one = with_stuck_tasks(bed)
    run_until_lost(bed, one, "celery@a")
    assert [line for line in lines(one) if line[1] == "shop.pay"] == []
    run_until_lost(bed, one, "celery@b")
    assert poison_of(bed) == [
        ("firing", "task t0 of shop.pay lost its worker 2 times while running: celery@a and celery@b")
    ]
    run_until_lost(bed, one, "celery@c")
    ((phase, summary),) = poison_of(bed)
    assert (phase, summary[:48]) == ("firing", "task t0 of shop.pay lost its worker 3 times whil")

    bed.publish(event("task-succeeded", at=bed.clock.time(), uuid="t0", hostname="celery@z"))
    for _ in range(8):
        beat(bed, "celery@z")
        one.live(2)

    assert [phase for phase, _ in poison_of(bed)] == ["resolved"]
    assert [(line["event"], line["kind"]) for line in one.output.lines if line.get("kind") == "poison-task"] == [
        ("incident-opened", "poison-task"),
        ("incident-resolved", "poison-task"),
    ]


def test_poison_that_comes_again_soon_after_its_end_is_the_same_incident(bed: Bed) -> None:
    """Given a poison task that ended, when another one of its name loses two workers within five minutes, the incident
    flaps: it opens again under the id that it had, with a line for each time.
    """
    one = with_stuck_tasks(bed)
    run_until_lost(bed, one, "celery@a")
    run_until_lost(bed, one, "celery@b")
    bed.publish(event("task-succeeded", at=bed.clock.time(), uuid="t0", hostname="celery@z"))
    for _ in range(8):
        beat(bed, "celery@z")
        one.live(2)
    assert [phase for phase, _ in poison_of(bed)] == ["resolved"]

    run_until_lost(bed, one, "celery@c", "t1")
    assert [phase for phase, _ in poison_of(bed)] == ["resolved"]
    run_until_lost(bed, one, "celery@d", "t1")

    ((phase, summary),) = poison_of(bed)
    assert (phase, summary[:30]) == ("firing", "task t1 of shop.pay lost its w")
    told = [(line["event"], line["incident"]) for line in poison_lines(one)]
    assert [kind for kind, _ in told] == ["incident-opened", "incident-resolved", "incident-opened"]
    assert len({incident for _, incident in told}) == 1
    assert len({line["event_id"] for line in poison_lines(one)}) == 3


@pytest.mark.parametrize("back_to", ["no loss", "one loss", "two losses", "pending", "firing"])
def test_a_store_that_went_back_makes_no_second_incident_of_poison(bed: Bed, back_to: str) -> None:
    """Given a poison task whose incident fires, when the store goes back to any moment before, there is that incident
    again, with its id, however often its losses are merged again; the line that it opened comes a second time under
    the same id if the store has lost that it was written, and not otherwise.
    """
    one = with_stuck_tasks(bed)
    one.live(4)
    states = {"no loss": bed.server.state()}
    run_until_lost(bed, one, "celery@a")
    states["one loss"] = bed.server.state()
    for kind in ("task-received", "task-started"):
        bed.publish(event(kind, at=bed.clock.time(), uuid="t0", hostname="celery@b"))
    beat(bed, "celery@b", "celery@z")
    one.live(2)
    beat(bed, "celery@b", "celery@z")
    while [phase for phase, _ in poison_of(bed)] != ["firing"]:
        states["pending" if poison_of(bed) else "two losses"] = bed.server.state()
        beat(bed, "celery@z")
        one.live(1)
    states["firing"] = bed.server.state()
    (opened,) = poison_lines(one)

    bed.server.go_back(states[back_to])
    for _ in range(75):
        beat(bed, "celery@z")
        one.live(2)

    assert [phase for phase, _ in poison_of(bed)] == ["firing"]
    assert {line["incident"] for line in poison_lines(one)} == {opened["incident"]} <= set(bed.server.incidents)
    assert [line["event_id"] for line in poison_lines(one)] == [opened["event_id"]] * (1 + (back_to != "firing"))


@pytest.mark.parametrize("back_to", ["no loss", "one loss"])
def test_a_store_that_went_back_makes_no_poison_of_a_task_that_lost_one_worker(bed: Bed, back_to: str) -> None:
    """Given a task under which one worker was lost, when the store goes back to before or after that, and the loss is
    merged again, it counts once: no incident is born. The next loss makes it one.
    """
    one = with_stuck_tasks(bed)
    one.live(4)
    before = bed.server.state()
    run_until_lost(bed, one, "celery@a")
    bed.server.go_back(before if back_to == "no loss" else bed.server.state())
    for _ in range(75):
        beat(bed, "celery@z")
        one.live(2)
    assert poison_of(bed) == []

    run_until_lost(bed, one, "celery@b")

    assert [phase for phase, _ in poison_of(bed)] == ["firing"]
    assert len(poison_lines(one)) == 1


def test_a_task_that_workers_hand_back_is_no_poison(bed: Bed) -> None:
    """Given a task that goes from worker to worker as they say goodbye, as in a rolling restart, nothing is born."""
    one = with_stuck_tasks(bed)
    for worker in ("celery@a", "celery@b", "celery@c"):
        for kind in ("task-received", "task-started"):
            bed.publish(event(kind, at=bed.clock.time(), uuid="t0", hostname=worker))
        for _ in range(5):
            beat(bed, worker, "celery@z")
            one.live(2)
        bed.publish(event("worker-offline", at=bed.clock.time(), hostname=worker))
        for _ in range(15):
            beat(bed, "celery@z")
            one.live(2)

    assert poison_of(bed) == []


def poison_of(bed: Bed) -> list[tuple[str, str]]:
    return [(one.phase.value, one.summary) for one in bed.server.incidents.values() if one.kind == "poison-task"]


def poison_lines(one: Instance) -> list[dict[str, Any]]:
    return [line for line in one.output.lines if line.get("kind") == "poison-task"]


class Calls:
    """Handlers of incidents, as a module has them; one fails as often as a test wants."""

    def __init__(self, fails: int = 0) -> None:
        self.got: list[tuple[str, str, str, object]] = []
        self.fails = fails

    def opened(self, event: Event, task: TaskRecord | None) -> None:
        """Only of what wakes somebody."""
        if event.fields["severity"] == "page":
            self.got.append(("opened", event.id, event.fields["summary"], task))
            if self.fails:
                self.fails -= 1
                raise RuntimeError("no answer")

    def resolved(self, event: Event, task: TaskRecord | None) -> None:
        self.got.append(("resolved", event.id, event.fields["key"], task))


def with_handlers(bed: Bed, name: str, calls: Calls) -> Instance:
    """An instance with these for `@on("incident-opened")` and `@on("incident-resolved")`."""
    opened = Handler("calls.opened", frozenset(["incident-opened"]), calls.opened)
    return handling(bed, name, [opened, Handler("calls.resolved", frozenset(["incident-resolved"]), calls.resolved)])


def handling(bed: Bed, name: str, found: Sequence[Handler]) -> Instance:
    """An instance with handlers."""

    class Handling(Instance):
        def reloadable(self, handlers: Sequence[Any] = (), level: LogLevel = LogLevel.DEBUG) -> Reloadable:
            made = super().reloadable(handlers, level)
            lines = EventLines(self.output, self.identity, policy_of(level, for_handlers=True), self.clock)
            calls = HandlerCalls(
                Handlers(found, redactor()), self.config.handlers, self.identity, self.logger, self.clock
            )
            return Reloadable(made.decoder, lines, calls)

    threads = LookingAtOnce(bed.clock)
    return Handling(
        bed, name, config=CONFIG, detector=IncidentDetector(MemoryReader(bed.server), threads), threads=threads
    )


def test_handlers_get_each_incident_once_in_the_fleet(bed: Bed) -> None:
    """Given handlers for both on two instances, one call of each is made in all, with the fields of the line, and
    without a task.
    """
    calls = Calls()
    one, two = with_handlers(bed, "1", calls), with_handlers(bed, "2", calls)
    lose_a_worker(bed, one, two)
    for _ in range(8):
        beat(bed, "celery@a")
        live(2, one, two)

    assert [(kind, text, task) for kind, _, text, task in calls.got] == [
        ("opened", "celery@a is lost; it had no known task", None),
        ("resolved", "celery@a", None),
    ]
    events = [line["event_id"] for instance in (one, two) for line in instance.output.lines if "incident" in line]
    assert sorted(event_id for _, event_id, *_ in calls.got) == sorted(events)


def test_the_functions_of_a_module_get_all_that_the_lines_say(
    bed: Bed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given a module as somebody writes it, with `@on` for both, its functions are called with the type, the time, the
    id and all fields of the line that says that an incident was opened, and of the one that it is over.
    """
    (tmp_path / "told_by_incidents.py").write_text(
        "from ha_monitor import on\n"
        "got = []\n"
        "@on('incident-opened')\ndef opened(event, task): got.append(event)\n"
        "@on('incident-resolved')\ndef resolved(event, task): got.append(event)\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    one = handling(bed, "1", load_handlers(["told_by_incidents"]))
    got: list[Event] = sys.modules.pop("told_by_incidents").got
    lose_a_worker(bed, one)
    for _ in range(8):
        beat(bed, "celery@a")
        one.live(2)

    written = [line for line in one.output.lines if line["event"].startswith("incident-")]
    assert [event.type for event in got] == ["incident-opened", "incident-resolved"]
    for told, line in zip(got, written, strict=True):
        assert (told.id, iso_time(told.time or 0)) == (line["event_id"], line["event_time"])
        assert set(told.fields) == {"incident", "kind", "key", "severity", "since", "size", "summary", "command"}
        fields = {**told.fields, "since": iso_time(told.fields["since"])}
        assert fields == {name: line[name] for name in fields}


def test_a_handler_of_incidents_that_fails_is_called_again_for_the_same_event(bed: Bed) -> None:
    """Given a handler that fails once, it is called again with the same event, on whichever instance; the line is
    written once, and the other handler is not called for it.
    """
    calls = Calls(fails=1)
    one, two = with_handlers(bed, "1", calls), with_handlers(bed, "2", calls)
    lose_a_worker(bed, one, two)
    live(60, one, two)

    assert len(calls.got) == 2
    assert len({event_id for _, event_id, *_ in calls.got}) == 1
    assert lines(one, two) == [("incident-opened", "celery@a", False)]
    assert bed.server.dead_letters == []


def test_a_handler_of_incidents_that_always_fails_is_a_dead_letter(bed: Bed) -> None:
    """Given a handler that never succeeds, it is called `handlers.attempts` times, and the incident is a dead letter
    that names it.
    """
    calls = Calls(fails=1000)
    one = with_handlers(bed, "1", calls)
    lose_a_worker(bed, one)
    live(200, one)

    letters = [msgspec.json.decode(letter) for letter in bed.server.dead_letters]
    assert [(letter["handler"], letter["event"]["type"]) for letter in letters] == [("calls.opened", "incident-opened")]
    assert len(calls.got) == CONFIG.handlers.attempts


def test_who_tells_of_incidents_reads_them_no_second_time(bed: Bed) -> None:
    """Given a channel, the incidents are read once each five seconds, by the look; a lost worker is told of all the
    same, with the silence that somebody made.
    """
    one = instance(bed, config=TELLING)
    lose_a_worker(bed, one)
    reads = bed.store_trouble.moments["before incidents"]
    one.live(60)

    assert bed.store_trouble.moments["before incidents"] - reads == 12
    (told,) = bed.server.messages.notified
    assert told.decode().partition("\x1f")[0] in bed.server.incidents


def test_an_end_is_told_though_the_channel_was_away_and_it_came_again(
    bed: Bed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given PagerDuty that cannot be reached while a worker is back and, minutes later, lost again, it hears of the end
    of the first incident, then of the second one."""
    sent: list[tuple[str, str]] = []
    is_away = [False]

    class Pager:
        def deliver(self, message: Message, _deadline: object, /) -> str:
            if is_away[0]:
                raise TryAgain("away")
            sent.extend((one.phase.value, one.incident.id) for one in message.notices)
            return ""

        def probe(self, _deadline: object, /) -> str:
            return ""

    monkeypatch.setattr(channels, "make_channel", lambda *_: Pager())
    config = msgspec.structs.replace(CONFIG, notify=Notify(channels={"pager": PagerDuty()}))
    one = instance(bed, config=config)
    lose_a_worker(bed, one)
    one.live(40)
    (first,) = bed.server.incidents
    assert sent == [("firing", first)]

    is_away[0] = True
    for _ in range(int((FLAP_WINDOW + 20) / 2)):
        beat(bed, "celery@a")
        one.live(2)
    one.live(60)
    assert sent == [("firing", first)]
    is_away[0] = False
    one.live(MAX_BACKOFF)

    (second,) = [one.id for one in bed.server.incidents.values() if one.kind == "worker-lost"]
    assert [told for told in sent if told[1] in (first, second)] == [
        ("firing", first),
        ("resolved", first),
        ("firing", second),
    ]
    assert second != first


def test_a_new_leader_tells_nobody_of_what_it_has_not_judged(bed: Bed) -> None:
    """Given a lost worker whose leader died before it told anybody, and that is back by then, the next leader, who has
    to listen for a minute first, tells nobody of the worker: when it has judged, that is over.
    """
    config = msgspec.structs.replace(TELLING, workers=Workers(late_after=10.0, lost_after=60.0))
    first, second = (instance(bed, name, config) for name in "12")
    for _ in range(40):
        beat(bed, "celery@a")
        first.live(2)
    while phases(bed) != {("worker-lost", "celery@a"): Phase.FIRING}:
        first.live(1)
    (lost,) = bed.server.incidents

    for _ in range(40):
        beat(bed, "celery@a")
        second.live(2)
        assert not [name for name in (*bed.server.messages.claims, *bed.server.messages.taken) if lost in name.decode()]

    assert phases(bed)["worker-lost", "celery@a"] is Phase.RESOLVED


def told_phases(got: list[Message]) -> list[tuple[str, str, Phase]]:
    return [(notice.incident.kind, notice.incident.key, notice.phase) for one in got for notice in one.notices]


@pytest.mark.parametrize("redelivers", [True, False], ids=["RabbitMQ", "Redis"])
def test_a_leader_that_returns_after_another_tells_nobody_what_it_knew(
    redelivers: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given a leader that freezes while a worker is lost, and comes back once its successor, who has told that the
    worker is back, is gone: it begins anew, and nobody hears from it that the worker is lost.
    """
    got: list[Message] = []
    monkeypatch.setattr(channels, "make_channel", lambda *_: Receiving(got))
    bed = Bed(redelivers=redelivers)
    one, two = (instance(bed, name, TELLING) for name in "12")
    lose_a_worker(bed, one, two)
    live(60, one, two)
    first, second = (one, two) if one.telemetry.is_leader() else (two, one)
    assert told_phases(got) == [("worker-lost", "celery@a", Phase.FIRING)]

    for _ in range(200):
        beat(bed, "celery@a")
        second.live(2)
    of_worker = [one for one in told_phases(got) if one[1] == "celery@a"]
    assert of_worker == [("worker-lost", "celery@a", phase) for phase in (Phase.FIRING, Phase.RESOLVED)]
    for _ in range(200):
        bed.clock.now += 2
        beat(bed, "celery@a")
    first.live(30)

    assert [one for one in told_phases(got) if one[1] == "celery@a"] == of_worker
    assert len({line["token"] for line in first.said("leadership-acquired")}) == 2


class Telling:
    """Two instances that tell a chat, of which the one that leads has begun to tell it of a lost worker."""

    def __init__(self, bed: Bed, chat: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(leader, "recipients_of", lambda _settings: {"chat": Recipient(chat, NOW)})
        instances = [instance(bed, name, TELLING, delivers_at_once=False) for name in "12"]
        for _ in range(10):
            beat(bed, "celery@a", "celery@b")
            live(2, *instances)
        while not bed.server.messages.claims:
            beat(bed, "celery@b")
            live(0.01, *instances)
        self.first, self.second = sorted(instances, key=lambda one: not one.pipeline._leader._leads)
        wait_for_value(lambda: chat.calls, 1, 30, "the delivery", 0.005)

    def settle(self) -> None:
        """Until the delivery has ended; nobody has looked for its outcome then."""
        duty = self.first.pipeline._leader._channels
        assert duty is not None
        wait_until(lambda: duty.has_outcome, 30, "the outcome", 0.005)

    def stop(self) -> None:
        self.first.pipeline.stop()
        self.first.pipeline.run()


def test_a_message_that_was_taken_before_a_stop_is_not_made_again(bed: Bed, monkeypatch: pytest.MonkeyPatch) -> None:
    """Given a leader that is stopped when a channel has taken a message and before the store heard of it, the store
    hears of it, and the next leader does not tell the channel a second time."""
    chat = Receiver()
    telling = Telling(bed, chat, monkeypatch)
    telling.settle()
    assert len(bed.server.messages.claims) == 1

    telling.stop()
    for _ in range(30):
        beat(bed, "celery@b")
        telling.second.live(2)

    assert [what for _, what in chat.got] == [[f"{one} firing" for one in bed.server.incidents]]
    assert bed.server.messages.claims == {}


def test_a_stop_waits_for_a_delivery_in_progress(bed: Bed, monkeypatch: pytest.MonkeyPatch) -> None:
    """Given a leader that is stopped while a channel takes a message, it goes on until the store has heard of it."""
    may_end = threading.Event()
    chat = Receiver(lambda: may_end.wait(60))
    telling = Telling(bed, chat, monkeypatch)

    def end() -> None:
        may_end.set()
        telling.settle()

    telling.first.todo = [lambda: None, lambda: None, end]
    telling.stop()

    assert len(chat.got) == 1
    assert bed.server.messages.claims == {}
    assert [line["left_to_others"] for line in telling.first.said("instance-stopped")] == [0]


def test_an_instance_that_leads_only_during_its_stop_begins_no_message(
    bed: Bed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given an instance that is stopped while another one leads, and that becomes the leader while it finishes its
    work, it sends nothing: it might be gone before the store has heard of it.
    """
    chat = Receiver()
    telling = Telling(bed, chat, monkeypatch)
    telling.settle()
    assert not telling.second.pipeline._leader.finish()

    telling.stop()
    for _ in range(100):
        beat(bed, "celery@b")
        telling.second.live(2)
    for _ in range(100):
        telling.second.live(2)  # celery@b is lost, too

    assert telling.second.pipeline._leader._leads
    assert len(bed.server.incidents) == 2
    assert (chat.calls, bed.server.messages.claims) == (1, {})


def test_a_stop_does_not_wait_for_a_channel_that_hangs(bed: Bed, monkeypatch: pytest.MonkeyPatch) -> None:
    """Given a leader that is stopped while a channel hangs, it stops once the delivery must have ended, and keeps its
    lease until then; the next leader finds the claim."""
    hangs = threading.Event()
    telling = Telling(bed, Receiver(lambda: hangs.wait(60)), monkeypatch)
    began = bed.clock.now

    telling.stop()

    assert STOP_TIMEOUT <= bed.clock.now - began < STOP_TIMEOUT + 1
    assert len(bed.server.messages.claims) == 1
    assert telling.first.said("lease-lost") == []
    assert len(telling.first.said("instance-stopped")) == 1
    hangs.set()


def test_a_lost_worker_says_what_became_of_its_tasks(bed: Bed, one: Instance) -> None:
    """Given a worker that is lost with three tasks, its incident follows them until each is decided."""
    for number in range(3):
        for kind in ("task-received", "task-started"):
            bed.publish(event(kind, at=bed.clock.time(), uuid=f"t{number}", hostname="celery@a"))
    for _ in range(10):
        beat(bed, "celery@a", "celery@b")
        one.live(2)
    for _ in range(20):
        beat(bed, "celery@b")
        one.live(2)
    (incident,) = bed.server.incidents.values()
    assert incident.summary == "celery@a is lost with 3 tasks: 3 being asked about"

    bed.publish(event("task-succeeded", at=bed.clock.time(), uuid="t0", hostname="celery@b"))
    bed.publish(event("task-started", at=bed.clock.time(), uuid="t1", hostname="celery@b"))
    for _ in range(5):
        beat(bed, "celery@b")
        one.live(2)

    (incident,) = bed.server.incidents.values()
    assert incident.summary == "celery@a is lost with 3 tasks: 1 being asked about, 1 run again, 1 ended"
    assert lines(one) == [("incident-opened", "celery@a", False)]
