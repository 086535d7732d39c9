"""The loop through every error at every step: what was published is announced once, and forgotten by the broker only
then.
"""

from __future__ import annotations

import threading
from typing import Any

import msgspec
import pytest

from ha_monitor.broker.source import max_requeue_delay
from ha_monitor.config.schema import BatchSettings, Http, LogLevel
from ha_monitor.errors import (
    BrokerUnavailable,
    ConfigurationError,
    LeaseLost,
    StoreRefused,
    StoreUnavailable,
)
from ha_monitor.pipeline import announcements, collector
from ha_monitor.store.counts import Counts
from ha_monitor.store.memory.server import MemoryServer
from tests.support.process import wait_until
from tests.unit.builders import TIME, event
from tests.unit.loop_bed import LEASE, OWN_CONFIG, Bed, Instance, live

KINDS = ("task-received", "task-started", "task-succeeded")
TASKS = ("a", "b", "c")
ALL = [(kind, task) for task in TASKS for kind in KINDS]
STORE_MOMENTS = [
    f"{when} {call}"
    for call in (
        *("connect", "repair", "register", "send", "apply", "tick"),
        *("record_outcome", "recover", "repair registered"),
    )
    for when in ("before", "after")
    if (when, call) != ("after", "send")
]
BROKER_MOMENTS = [
    *(f"before {call}" for call in ("connect", "receive", "acknowledge", "heartbeat", "depth")),
    *(f"after {call}" for call in ("receive", "acknowledge", "heartbeat", "depth")),
]


def life(task: str) -> list[dict[str, Any]]:
    return [event(kind, uuid=task, at=TIME + number) for number, kind in enumerate(KINDS)]


def publish_all(bed: Bed) -> None:
    for task in TASKS:
        bed.publish(*life(task))


@pytest.fixture(params=[True, False], ids=["redelivers", "pub/sub"])
def bed(request: pytest.FixtureRequest) -> Bed:
    return Bed(redelivers=request.param)


@pytest.fixture
def amqp() -> Bed:
    return Bed()


# --- the way of an event -------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 4, 500])
def test_what_is_published_is_announced_in_order_and_forgotten(bed: Bed, size: int) -> None:
    """Given batches of any size, each event has one line, in order, and then neither broker nor outbox has it."""
    one = Instance(bed, config=msgspec.structs.replace(OWN_CONFIG, batch=BatchSettings(events=size, time=0.0)))
    publish_all(bed)

    one.live(3)

    assert one.announced == ALL
    assert bed.is_settled
    assert (one.stats.new, one.stats.repeated, one.stats.lines) == (9, 0, 9)
    assert [told for told in one.supervisor.calls if told.startswith("status consuming from memory: ")]


def test_the_queue_is_shared(amqp: Bed) -> None:
    """Given two instances and a small prefetch, each gets some, and together they announce each event once."""
    config = msgspec.structs.replace(OWN_CONFIG, batch=BatchSettings(events=1, time=0.0))
    one, two = Instance(amqp, config=config, prefetch=2), Instance(amqp, "2", config=config, prefetch=2)
    publish_all(amqp)
    for _ in range(20):
        one.cycle()
        two.cycle()

    assert sorted(one.announced + two.announced) == sorted(ALL)
    assert one.announced
    assert two.announced
    assert amqp.is_settled


def test_a_batch_that_one_call_does_not_merge_is_acknowledged_with_its_last_part(amqp: Bed) -> None:
    """Given large records, of which the store merges two tasks a call, all events are announced in order, and no
    message is forgotten before the last of them is merged; a broker that breaks meanwhile delivers them again."""
    amqp.server.most_tasks = 2
    one = Instance(amqp)
    in_flight: list[int] = []
    amqp.server.trouble = lambda moment: in_flight.append(amqp.broker.in_flight) if moment == "before apply" else None
    publish_all(amqp)
    one.live(3)
    assert in_flight == [9, 9]
    assert one.announced == ALL

    def late() -> None:
        one.clock.now += 2
        amqp.broker_trouble.at("before heartbeat", BrokerUnavailable("reset"))

    amqp.server.trouble = amqp.store_trouble
    amqp.store_trouble.when("after apply", late)
    publish_all(amqp)
    amqp.publish(event("worker-heartbeat"), event("task-received", uuid="d"))
    one.live(20)

    assert one.announced[:9] == ALL
    assert sorted(one.announced[9:]) == [("task-received", "d"), ("worker-heartbeat", "")]
    assert one.stats.broker_connects == 2
    assert amqp.is_settled


def test_a_message_of_many_events_is_merged_in_parts(bed: Bed) -> None:
    """Given a message of more events than one call merges, it is merged in several, and each event is announced."""
    one = Instance(bed)
    bed.publish([event("task-started", uuid="many", at=TIME + number / 10) for number in range(2000)], *life("a"))
    bed.publish(event("task-received", uuid="many"))
    one.live(3)

    assert len(one.announced) == 2004
    assert bed.store_trouble.moments["after apply"] >= 3
    assert bed.is_settled


# --- the store -----------------------------------------------------------------------------


@pytest.mark.parametrize("moment", STORE_MOMENTS)
def test_the_store_may_go_away_at_any_step(bed: Bed, moment: str) -> None:
    """Given a store that fails before or after any call, up to three times, each event is announced once in the end."""
    one = Instance(bed)
    if moment.endswith(("record_outcome", "recover", "repair registered")):
        bed.store_trouble.at("before tick", StoreUnavailable("so that there is something to recover"))
    bed.store_trouble.at(moment, *(StoreUnavailable(moment) for _ in range(3)))
    publish_all(bed)
    one.live(2)
    publish_all(bed)  # the same again
    one.live(30)

    assert sorted(one.announced) == sorted(ALL)
    assert bed.is_settled
    assert bed.store_trouble.failed[moment]
    assert one.said("store-unavailable")
    assert one.telemetry.health.ready().good


def test_messages_go_to_others_while_the_store_is_away(amqp: Bed) -> None:
    """Given an instance that has lost its store, nothing is acknowledged: the broker has all messages again."""
    one = Instance(amqp)
    one.cycle(2)
    publish_all(amqp)
    amqp.store_trouble.away = StoreUnavailable("away")
    one.cycle()

    assert (len(amqp.broker.ready), amqp.broker.in_flight) == (9, 0)
    assert one.announced == []
    assert not one.telemetry.health.ready().good


def test_what_pub_sub_sends_meanwhile_is_kept() -> None:
    """Given a broker that sends nothing twice, what comes while the store is away is held, and announced afterwards."""
    bed = Bed(redelivers=False)
    one = Instance(bed)
    one.cycle(2)
    bed.store_trouble.away = StoreUnavailable("away")
    publish_all(bed)
    one.live(20)
    assert not bed.broker.ready
    assert one.announced == []
    bed.store_trouble.away = None
    one.live(10)

    assert one.announced == ALL


def test_pub_sub_is_heard_again_though_the_store_is_still_away() -> None:
    """Given a broker that sends nothing twice, when it and the store go away, and it comes back first, what it sends is
    held: nothing would bring it again."""
    bed = Bed(redelivers=False)
    one = Instance(bed)
    one.cycle(2)
    bed.store_trouble.away = StoreUnavailable("away")
    bed.broker_trouble.away = BrokerUnavailable("away")
    one.live(20)
    bed.broker_trouble.away = None
    one.live(15)
    publish_all(bed)
    one.live(5)
    assert not bed.broker.ready
    assert one.announced == []
    bed.store_trouble.away = None
    one.live(10)

    assert one.announced == ALL


def test_what_pub_sub_had_sent_is_announced_though_it_stays_away() -> None:
    """Given a broker that sends nothing twice, what was received before its connection broke is announced without
    waiting for its return."""
    bed = Bed(redelivers=False)
    one = Instance(bed)
    one.cycle(2)
    publish_all(bed)
    bed.broker_trouble.away = BrokerUnavailable("away")
    one.live(5)

    assert one.announced == ALL
    assert not one.pipeline._broker.consuming


def test_pub_sub_is_connected_again_amid_a_handler(monkeypatch: pytest.MonkeyPatch) -> None:
    """Given a broker that sends nothing twice, when its connection breaks while a handler works, it is made again
    before the handler returns, and the line says in which time something may have been missed."""
    monkeypatch.setattr(announcements, "LEASE_CHECK_EVERY", 0.001)
    bed = Bed(redelivers=False)
    connected: list[int] = []

    def works(_event: Any, _task: Any) -> None:
        one.source.gap = 2.5
        before = bed.broker_trouble.moments["before connect"]
        bed.broker_trouble.at("before heartbeat", BrokerUnavailable("reset"))
        wait_until(lambda: bed.broker_trouble.moments["before connect"] > before, 30, "a connection", 0.001)
        connected.append(one.stats.broker_connects)

    one = Instance(bed, handlers=[works])
    one.cycle(2)
    bed.publish(*life("a"))
    one.live(3)

    assert connected
    assert [line.get("gap") for line in one.said("broker-connected")] == [None, 2.5]
    assert one.stats.gaps == 2.5


def test_a_broker_that_owes_an_answer_is_not_ready_long_before_it_is_given_up(bed: Bed) -> None:
    """Given a broker that has not answered for some seconds, the instance says so where it is asked, and the silence
    of workers means nothing meanwhile; when it answers, all is well."""
    one = Instance(bed)
    one.cycle(2)
    assert one.telemetry.health.ready().good

    one.source.silence = 4.0
    one.live(one.config.workers.late_after + 1)
    assert one.telemetry.health.ready().details["reasons"] == ["broker: has not answered for 4 s"]
    assert not one.pipeline._leader.listening.has_lasted(0.0)
    assert not one.said("broker-unavailable")

    one.source.silence = 0.0
    one.live(2)
    assert one.telemetry.health.ready().good
    assert one.pipeline._leader.listening.has_lasted(0.0)


def test_what_is_too_much_to_be_held_is_dropped_with_a_word(monkeypatch: pytest.MonkeyPatch) -> None:
    """Given more events than memory may hold while the store is away, the oldest go, and lines say how many."""
    monkeypatch.setattr(collector, "MAX_BUFFERED_EVENTS", 4)
    bed = Bed(redelivers=False)
    one = Instance(bed, config=msgspec.structs.replace(OWN_CONFIG, batch=BatchSettings(events=3, time=0.0)))
    one.cycle(2)
    bed.store_trouble.away = StoreUnavailable("away")
    publish_all(bed)
    one.live(20)
    dropped = sum(line["count"] for line in one.said("events-dropped"))
    bed.store_trouble.away = None
    one.live(10)

    assert dropped == 6
    assert one.announced == ALL[6:]


def test_the_store_is_not_tried_all_the_time(amqp: Bed) -> None:
    """Given a store that is away for ten minutes, the pauses between attempts grow to a few seconds, and the line that
    supervisors see says since when."""
    one = Instance(amqp)
    amqp.store_trouble.away = StoreUnavailable("away")
    one.live(600)

    waits = [line["retry_in"] for line in one.said("store-unavailable")]
    assert waits[0] <= 0.2
    assert all(LEASE / 4 <= wait <= LEASE / 2 for wait in waits[-2:])
    assert 600 / (LEASE / 2) <= amqp.store_trouble.moments["before connect"] <= 600 / (LEASE / 4) + 10
    assert [told for told in one.supervisor.calls if told.startswith("status")][-1].startswith(
        "status waiting for Redis since"
    )


def test_a_refusal_is_told_from_an_absence(amqp: Bed) -> None:
    """Given a store that answers and refuses a merge, the instance is not ready although it can connect."""
    one = Instance(amqp)
    one.cycle(2)
    amqp.store_trouble.at("before apply", StoreRefused("Redis refused: OOM"))
    publish_all(amqp)
    one.live(5)

    assert sorted(one.announced) == sorted(ALL)
    assert one.telemetry.health.ready().details["reasons"] == ["store: Redis refused: OOM"]
    one.live(20)
    assert one.telemetry.health.ready().good


# --- the lease -----------------------------------------------------------------------------


def test_an_instance_that_froze_announces_nothing_of_what_others_have_taken(amqp: Bed) -> None:
    """Given an instance that freezes between the merge and its lines, longer than its lease, another one writes them,
    and the first one, when it wakes, writes none and begins anew."""
    one, two = Instance(amqp), Instance(amqp, "2")
    live(LEASE + 1, one, two)
    publish_all(amqp)

    def freeze() -> None:
        two.live(2 * LEASE)

    amqp.store_trouble.when("after apply", freeze)
    one.cycle()
    token = one.record.store.token
    assert one.announced == []
    assert two.announced == ALL
    assert [line["entries"] for line in two.said("outbox-taken-over")] == [9]
    assert [line["recovered"] for line in two.output.lines if "event_id" in line] == [True] * 9
    live(10, one, two)

    assert len(one.said("lease-lost")) == 1
    assert one.record.store.token > token
    assert one.announced + two.announced == ALL
    assert amqp.is_settled


@pytest.mark.parametrize("call", ["apply", "tick", "record_outcome", "recover", "repair registered"])
def test_the_lease_may_be_lost_at_any_step(bed: Bed, call: str) -> None:
    """Given a lease that another instance took, whichever call finds out, the instance registers anew and goes on."""
    one = Instance(bed)
    one.cycle(2)
    if call in ("recover", "repair registered"):
        bed.store_trouble.at("before tick", StoreUnavailable("away"))
    bed.store_trouble.at(f"before {call}", LeaseLost("taken over"))
    publish_all(bed)
    one.live(10)

    assert one.stats.leases_lost == 1
    assert sorted(set(one.announced)) == sorted(ALL)
    assert not bed.broker.ready
    assert bed.broker.in_flight == 0


def test_leases_that_ran_out_because_the_store_was_away_are_not_taken(amqp: Bed) -> None:
    """Given a store that was away for longer than a lease, the first instance that is back leaves the others alone."""
    one, two = Instance(amqp), Instance(amqp, "2")
    live(LEASE + 1, one, two)
    amqp.store_trouble.away = StoreUnavailable("away")
    live(2 * LEASE, one, two)
    amqp.store_trouble.away = None
    one.live(LEASE * 0.9)

    assert one.stats.takeovers == 0
    two.live(1)
    assert two.stats.leases_lost == 0


# --- the broker ----------------------------------------------------------------------------


@pytest.mark.parametrize("moment", BROKER_MOMENTS)
def test_the_broker_may_go_away_at_any_step(bed: Bed, moment: str) -> None:
    """Given a broker that fails before or after any call, three times, each event has one line and is forgotten; the
    store keeps its lease meanwhile."""
    one = Instance(bed)
    bed.broker_trouble.at(moment, *(BrokerUnavailable(moment) for _ in range(3)))
    publish_all(bed)
    one.live(30)
    assert one.announced == ALL
    assert bed.is_settled
    is_redelivered = bed.broker.redelivers and moment != "after acknowledge"
    assert bed.broker_trouble.failed[moment] == (3 if is_redelivered or "acknowledge" not in moment else 1)
    assert one.stats.leases_lost == 0
    assert len(one.broadcasts) == one.stats.broker_connects
    assert bed.server.begun == {}


def test_a_lost_acknowledgement_costs_no_second_line(amqp: Bed) -> None:
    """Given a broker that breaks before it got the acknowledgement, it delivers all again, and all is recognised."""
    one = Instance(amqp)
    amqp.broker_trouble.at("before acknowledge", BrokerUnavailable("reset"))
    publish_all(amqp)
    one.live(5)

    assert one.announced == ALL
    assert (one.stats.new, one.stats.repeated, one.stats.redelivered) == (9, 9, 9)


def test_the_broker_is_not_tried_all_the_time_and_the_lease_is_kept(amqp: Bed) -> None:
    """Given a broker that is away for ten minutes, the pauses grow to ten seconds, and nobody takes over."""
    one, two = Instance(amqp), Instance(amqp, "2")
    two.cycle(2)
    amqp.broker_trouble.away = BrokerUnavailable("refused")
    live(600, one, two)

    attempts = amqp.broker_trouble.failed["before connect"]
    assert 2 * 600 / 11 <= attempts <= 2 * (600 / 5 + 10)
    assert (one.stats.leases_lost, two.stats.takeovers) == (0, 0)
    assert one.stats.state == "waiting for the broker"


# --- handlers ------------------------------------------------------------------------------


@pytest.mark.parametrize(("takes", "lost"), [(OWN_CONFIG.store.max_wait, False), (LEASE - 0.1, True)])
def test_an_attempt_to_connect_costs_no_lease(amqp: Bed, takes: float, lost: bool) -> None:
    """Given a broker that does not answer, no thread to connect in, and attempts that each take as long as the
    configuration allows, nobody takes the outbox over, however long ago the latest tick was; given ones that take
    nearly the whole lease, somebody does.
    """
    present, away = Instance(amqp, "present"), Instance(amqp, "away")
    present.live(LEASE + 1)

    def trouble(moment: str) -> None:
        if moment == "before connect":
            live(takes, present)
            raise BrokerUnavailable("no answer")

    amqp.broker.trouble = trouble
    live(600, away, present)

    assert (away.stats.leases_lost > 0) is lost
    assert (present.stats.takeovers > 0) is lost
    assert len(away.said("broker-unavailable")) > 1


@pytest.mark.thorough
@pytest.mark.parametrize("service", ["broker", "store"])
def test_a_connection_that_is_lost_again_and_again_is_said_ever_more_seldom(bed: Bed, service: str) -> None:
    """Given a broker, or a store, that takes each connection and closes it after two seconds, for an hour, the lines
    about both connections are few, and every event is announced.
    """
    one = Instance(bed)
    one.cycle(2)
    bed.publish(*(event(f"task-{what}") for what in ("received", "started", "succeeded")))
    connected_at = [bed.clock.now]

    def trouble(moment: str) -> None:
        if moment == "after connect" or (moment == "before connect" and service == "broker"):
            connected_at.append(bed.clock.now)
        elif moment in ("before heartbeat", "before tick") and bed.clock.now >= connected_at[-1] + 2:
            raise (BrokerUnavailable if service == "broker" else StoreUnavailable)("closed")

    (bed.broker if service == "broker" else bed.server).trouble = trouble
    one.live(3600)

    assert len(connected_at) > 100
    for what in ("broker-connected", "store-connected", f"{service}-unavailable"):
        assert len(one.said(what)) < 20
    assert len(one.said(f"{service}-unavailable")) > 10
    assert len(one.said(f"{service}-connected")) > 10
    assert len(one.announced) == 3


def test_a_handler_that_hangs_costs_neither_the_lease_nor_the_connection(
    amqp: Bed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given a handler that works for three leases, ticks and heartbeats go on meanwhile, the supervisor hears of no
    progress, and no other instance takes over."""
    monkeypatch.setattr(announcements, "LEASE_CHECK_EVERY", 0.001)
    released = threading.Event()
    looks: list[int] = []

    def look() -> None:
        """The loop looks after the connection while the handler works: time passes, and the other instance lives on."""
        looks.append(one.supervisor.calls.count("progress"))
        one.clock.now += LEASE / 4
        two.cycle()
        if len(looks) == 12:
            released.set()
        else:
            amqp.broker_trouble.when("before heartbeat", look)

    def slow(_event: Any, _task: Any) -> None:
        amqp.broker_trouble.when("before heartbeat", look)
        one.clock.now += 2
        assert released.wait(30)

    one, two = Instance(amqp, handlers=[slow]), Instance(amqp, "2")
    live(LEASE + 1, one, two)
    amqp.publish(*life("a"))
    one.live(2)

    assert len(looks) == 12
    assert len(set(looks)) == 1
    assert one.stats.handler_failures == 0
    assert (one.stats.leases_lost, two.stats.takeovers) == (0, 0)
    assert one.announced == ALL[:3]
    assert amqp.is_settled


def test_a_handler_that_fails_is_called_again_and_ends_as_a_dead_letter(amqp: Bed) -> None:
    """Given a handler that always raises, it is called `handlers.attempts` times with growing pauses, and is a dead
    letter then; the line is written once."""
    called: list[float] = []

    def failing(event: Any, _task: Any) -> None:
        called.append(one.clock.now)
        raise ValueError("no")

    one = Instance(amqp, handlers=[failing])
    amqp.publish(*life("a"))
    one.live(60)

    assert len(called) == 3
    assert called[2] - called[1] > called[1] - called[0] > 5
    assert [msgspec.json.decode(letter)["handler"] for letter in amqp.server.dead_letters] == ["failing"]
    assert one.announced == ALL[:3]
    assert (one.stats.handler_failures, one.stats.dead_letters) == (3, 1)
    assert amqp.is_settled


def test_a_handler_that_failed_while_the_store_was_away_is_called_again(amqp: Bed) -> None:
    """Given a store that is away when a failure is to be recorded, the handler is called again, its line not written
    again."""
    called: list[Any] = []

    def once(event: Any, _task: Any) -> None:
        called.append(event.id)
        if len(called) == 1:
            raise ValueError("no")

    one = Instance(amqp, handlers=[once])
    one.cycle(2)
    amqp.publish(*life("a"))
    amqp.store_trouble.at("before record_outcome", StoreUnavailable("away"))
    one.live(60)

    assert len(called) == 2
    assert one.announced == ALL[:3]
    assert amqp.is_settled


# --- on request ----------------------------------------------------------------------------


def run(one: Instance, *requests: Any) -> None:
    """Run, and do one thing after each cycle; stops in the end."""
    one.todo = [*requests, one.pipeline.stop]
    one.pipeline.run()


def test_a_reload_holds_from_the_next_batch_on(amqp: Bed) -> None:
    """Given a reload to a higher level, what was at hand is written by the old one, what comes by the new one."""
    one = Instance(amqp)
    one.reread = lambda: one.reloadable(level=LogLevel.ERROR)
    amqp.publish(*life("a"))

    def more() -> None:
        amqp.publish(*life("b"), event("task-failed", uuid="b", at=TIME + 9))

    run(one, one.pipeline.reload, more, lambda: None, lambda: None)

    assert one.announced == [*ALL[:3], ("task-failed", "b")]
    told = [word for word in one.supervisor.calls if word in ("ready", "reloading", "stopping")]
    assert told == ["ready", "reloading", "ready", "stopping"]


def test_a_reload_of_a_wrong_configuration_changes_nothing(amqp: Bed) -> None:
    """Given a configuration that cannot be read, the instance goes on as it was, and is said to be ready."""
    one = Instance(amqp)
    run(one, one.pipeline.reload, lambda: publish_all(amqp), lambda: None, lambda: None)

    assert one.announced == ALL
    assert one.supervisor.calls.count("ready") == 2


def test_the_probe_says_at_once_that_an_instance_stops(bed: Bed) -> None:
    """Given an instance at work, it is not ready from the moment of the signal on, before the loop notices."""
    one = Instance(bed)
    one.live(1)
    assert one.telemetry.health.ready().good

    one.pipeline.stop()

    assert one.telemetry.health.ready().details["reasons"] == ["stopping"]


def test_a_stop_finishes_what_is_at_hand(bed: Bed) -> None:
    """Given a full batch in flight when the stop comes, it is announced, the instance leaves, and nothing is left."""
    one = Instance(bed, config=msgspec.structs.replace(OWN_CONFIG, batch=BatchSettings(events=9, time=0.0)))
    publish_all(bed)
    run(one)

    assert one.announced == ALL
    assert bed.is_settled
    assert bed.server.instances == {}
    (said,) = one.said("instance-stopped")
    assert (said["left_to_others"], said["lines"], said["events"]) == (0, 9, 9)
    assert one.supervisor.calls[-1] == "status stopping"
    assert not one.telemetry.health.ready().good


@pytest.mark.parametrize("moment", ["before apply", "after apply", "before unregister", "after unregister"])
def test_a_stop_while_the_store_goes_away_loses_nothing(amqp: Bed, moment: str) -> None:
    """Given a store that goes away while the instance stops, it ends, and another one announces what it did not; and,
    marked, what the store was not told of any more."""
    one, two = Instance(amqp), Instance(amqp, "2")
    one.cycle(2)
    publish_all(amqp)
    one.pipeline._collector.collect(0.0)
    amqp.store_trouble.at(moment, StoreUnavailable("away"))

    one.pipeline._shutdown(finish=True)
    assert amqp.store_trouble.failed[moment] == 1
    assert not one.record.store.connected
    two.live(3 * LEASE)

    again = [repeated for repeated in two.announced if repeated in one.announced]
    assert again == (ALL if moment == "before unregister" else [])
    assert sorted(one.announced + two.announced) == sorted(ALL + again)
    assert not again or all(line["recovered"] for line in two.output.lines if "event_time" in line)
    assert amqp.is_settled


@pytest.mark.parametrize("finish", [True, False])
def test_a_stop_requeues_what_is_left_before_it_gives_up_the_lease(amqp: Bed, finish: bool) -> None:
    """Given an instance that stops, orderly or by an error with a batch in flight, it consumes nothing and has nothing
    of the broker's when its lease ends: until then, the others wait for it, and take no event of that for lost."""
    one = Instance(amqp, config=msgspec.structs.replace(OWN_CONFIG, batch=BatchSettings(events=9, time=0.0)))
    publish_all(amqp)
    one.cycle()
    assert amqp.broker.in_flight == 9
    left: list[tuple[int, int]] = []
    amqp.store_trouble.when("before unregister", lambda: left.append((amqp.broker.in_flight, amqp.broker.consumers)))

    one.pipeline._shutdown(finish=finish)

    assert left == [(0, 0)]


def test_a_stop_by_an_unexpected_error_waits_for_the_batch_in_flight(amqp: Bed) -> None:
    """Given an error of the program's own while a batch is in flight, the batch is merged, and another instance
    announces it."""
    one, two = (
        Instance(amqp, config=msgspec.structs.replace(OWN_CONFIG, batch=BatchSettings(events=9, time=0.0))),
        Instance(amqp),
    )
    publish_all(amqp)
    one.cycle()
    assert one.pipeline._in_flight
    one.pipeline._shutdown(finish=False)
    two.live(3 * LEASE)

    assert one.announced == []
    assert two.announced == ALL
    assert amqp.is_settled


def test_a_stop_of_pub_sub_finishes_what_was_received(amqp: Bed) -> None:
    """Given a broker that sends nothing twice, what was received and not decoded yet is announced before the end, what
    the source still held too."""
    bed = Bed(redelivers=False)
    one = Instance(bed, config=msgspec.structs.replace(OWN_CONFIG, batch=BatchSettings(events=4, time=0.0)))
    one.cycle(2)
    publish_all(bed)
    one.cycle()
    one.pipeline._shutdown(finish=True)

    assert one.announced == ALL
    assert not one.said("events-dropped")


def test_pub_sub_events_that_nobody_will_have_are_told_of(amqp: Bed) -> None:
    """Given a broker that sends nothing twice, when the instance stops while the store is away, a line says how many
    events are lost by that."""
    bed = Bed(redelivers=False)
    one = Instance(bed)
    one.cycle(2)
    bed.store_trouble.away = StoreUnavailable("away")
    publish_all(bed)
    one.live(5)
    one.pipeline._shutdown(finish=True)

    assert [line["count"] for line in one.said("events-dropped")] == [9]


def test_an_unexpected_error_leaves_the_outbox_to_others(amqp: Bed) -> None:
    """Given an error of the program's own, it ends the loop, what was merged and not announced is for another instance,
    and nothing was acknowledged that was not merged."""
    one, two = Instance(amqp), Instance(amqp, "2")

    class Broken:
        def write(self, items: Any) -> int:
            raise ZeroDivisionError("a bug")

    broken: Any = Broken()
    one.pipeline._announcements.lines = broken
    publish_all(amqp)
    with pytest.raises(ZeroDivisionError):
        one.pipeline.run()
    assert one.said("instance-stopped")[0]["left_to_others"] == 9
    two.live(3 * LEASE)

    assert two.announced == ALL
    assert amqp.is_settled


def test_a_wrong_configuration_ends_the_loop(amqp: Bed) -> None:
    """Given a broker that will never work, the loop ends with the error, and the instance has left the store."""
    one = Instance(amqp)
    amqp.broker_trouble.at("before connect", ConfigurationError("queue: other arguments"))
    with pytest.raises(ConfigurationError):
        one.pipeline.run()

    assert amqp.server.instances == {}
    assert "ready" not in one.supervisor.calls


# --- ticks ---------------------------------------------------------------------------------


def test_ticks_come_five_times_a_lease(amqp: Bed) -> None:
    """Given nothing to do, the lease is renewed five times in its length, and no more often."""
    one = Instance(amqp)
    one.cycle()
    before = amqp.store_trouble.moments["before tick"]
    one.live(10 * LEASE)

    assert amqp.store_trouble.moments["before tick"] - before == pytest.approx(50, abs=12)


def name_behind_a_cut_link(amqp: Bed) -> tuple[Instance, Instance]:
    """An instance that has a line without the name of its task, and the one that was sent the name, whose link to the
    broker brings nothing any more."""
    one, other = Instance(amqp), Instance(amqp, "2")
    live(5, one, other)
    other.source.is_half_open = True
    amqp.publish(event("task-received"))
    other.cycle()
    amqp.publish(event("task-started", at=TIME + 1))
    live(0.5, one)
    return one, other


def test_a_name_is_waited_for_that_may_be_behind_a_link_that_is_cut(amqp: Bed) -> None:
    """Given an instance whose link to the broker brings nothing any more, the line of a task of which it was sent the
    name waits until the messages have come to another one."""
    one, other = name_behind_a_cut_link(amqp)
    live(30, other, one)

    lines = [line for line in one.output.lines if line["event"] in ("task-received", "task-started")]
    assert [(line["event"], line["task_name"]) for line in lines] == [
        ("task-received", "shop.pay"),
        ("task-started", "shop.pay"),
    ]


def test_a_name_is_waited_for_that_the_broker_holds_while_it_is_away(amqp: Bed) -> None:
    """Given a name that was requeued, and a broker that is away for longer than it may keep the messages of a link that
    broke, the line waits: all instances have merged what they had, and the name comes with the broker."""
    amqp.server.requeue_delay = max_requeue_delay(OWN_CONFIG.broker.heartbeat)
    one, other = name_behind_a_cut_link(amqp)
    amqp.broker_trouble.away = BrokerUnavailable("away")
    live(amqp.server.requeue_delay + 30, one, other)
    amqp.broker_trouble.away = None
    live(30, one, other)

    lines = [line for each in (one, other) for line in each.output.lines if line["event"].startswith("task-")]
    assert [(line["event"], line["task_name"]) for line in lines] == [
        ("task-received", "shop.pay"),
        ("task-started", "shop.pay"),
    ]


def test_an_announcement_that_waits_is_due_by_a_tick(amqp: Bed) -> None:
    """Given a start whose task's name does not come, its line is written when `store.name_wait` is over, not later."""
    one = Instance(amqp)
    one.cycle(2)
    amqp.publish(event("task-started", uuid="a"))
    began = one.clock.now
    while not one.announced:
        one.live(0.05)

    assert one.output.lines[-1]["incomplete"] is True
    assert 2.0 <= one.clock.now - began < 2.5
    assert one.stats.waiting == 1


def test_a_tick_that_fails_loses_nothing_that_it_was_to_tell(amqp: Bed) -> None:
    """Given a message that is no event, and messages requeued, when the next tick fails, the one after it tells of
    both; once."""
    one = Instance(amqp)
    one.cycle(2)
    amqp.publish(b"not an event")
    one.cycle()
    assert amqp.server.rejected == []
    amqp.broker_trouble.at("before receive", BrokerUnavailable("reset"))
    one.cycle()
    amqp.store_trouble.at("before tick", StoreUnavailable("away"), StoreUnavailable("away"))
    one.live(2)
    assert amqp.store_trouble.moments["before tick"] > 2
    told_at = amqp.server.requeued_at
    one.live(5)

    assert ["not an event" in sample.decode() for sample in amqp.server.rejected] == [True]
    assert told_at > one.clock.time() - 7
    assert amqp.server.requeued_at == told_at


def test_a_takeover_is_told_though_the_tick_does_not_come_to_its_end(amqp: Bed) -> None:
    """Given a store that goes away right after a tick in which an outbox was taken over and the lead was taken, both
    are told: no later tick would say so again."""
    config = msgspec.structs.replace(OWN_CONFIG, http=Http(listen="127.0.0.1:0"))
    one, two = Instance(amqp, config=config), Instance(amqp, "2", config=config)
    live(LEASE + 1, one, two)
    assert one.said("leadership-acquired")
    token = one.record.store.token
    failed: list[str] = []

    def trouble(moment: str) -> None:
        store: Any = two.record.store
        store.counts.outdated = True
        if moment == "before counts" and token not in amqp.server.instances and not failed:
            failed.append(moment)
            raise StoreUnavailable("away")

    amqp.server.trouble = trouble
    two.live(3 * LEASE)

    assert failed
    assert two.stats.takeovers == 1
    assert two.said("leadership-acquired")
    assert two.telemetry.lease._silent_since is not None


def test_what_was_taken_over_is_marked_and_told_of_though_the_reply_is_lost(amqp: Bed) -> None:
    """Given an instance that dies with an outbox, and a tick of another one that takes it over and whose reply is lost,
    the other one finds the lines in its own outbox, marks each as `recovered`, and tells of the takeover, once."""
    one, two = Instance(amqp), Instance(amqp, "2")
    live(LEASE + 1, one, two)
    publish_all(amqp)
    amqp.store_trouble.at("after apply", StoreUnavailable("killed"))
    one.cycle()
    one.source.close()
    token = one.record.store.token
    lost: list[str] = []

    def trouble(moment: str) -> None:
        if moment == "after tick" and token in amqp.server.taken_over and not lost:
            lost.append(moment)
            raise StoreUnavailable("reset")

    amqp.server.trouble = trouble
    two.live(3 * LEASE)

    assert lost
    assert two.announced == ALL
    assert [line["recovered"] for line in two.output.lines if "event_id" in line] == [True] * 9
    assert [(line["of_instance"], line["entries"]) for line in two.said("outbox-taken-over")] == [("1", 9)]
    assert two.stats.takeovers == 1


def test_rejections_are_told_at_the_end(amqp: Bed) -> None:
    """Given rejections right after one that was told, the end of the instance tells of them, and their samples are in
    the store."""
    one = Instance(amqp)
    amqp.publish(b"one")
    one.cycle(2)
    amqp.publish(b"two", b"three")
    one.cycle()
    one.pipeline._shutdown(finish=True)

    assert [line["count"] for line in one.said("event-rejected")] == [1, 2]
    assert len(amqp.server.rejected) == 3
    assert amqp.server.instances == {}


@pytest.mark.parametrize("error", [StoreUnavailable("away"), LeaseLost("taken over")])
def test_rejections_of_a_batch_are_told_though_its_lines_could_not_be_written(error: Exception) -> None:
    """Given a store that goes away between the merge of a batch and its lines, what was rejected in it is told."""
    bed = Bed(redelivers=False)
    one = Instance(bed)
    one.cycle(2)

    def late() -> None:
        one.clock.now += LEASE + 1
        bed.store_trouble.at("before tick", error)

    bed.store_trouble.when("after apply", late)
    bed.publish(b"no event", *life("a"))
    one.live(10)

    assert [line["count"] for line in one.said("event-rejected")] == [1]
    assert len(bed.server.rejected) == 1


# --- a store that went back ----------------------------------------------------------------


@pytest.mark.parametrize("lost", ["the last calls", "everything"])
def test_what_a_store_that_went_back_has_lost_is_merged_again_and_nothing_is_announced_twice(
    amqp: Bed, lost: str
) -> None:
    """Given two instances and a store that has lost what it had confirmed, or all, one line says so. An end that waited
    for its name there is announced when that comes, as recovered; what was announced is not, also if it is delivered
    again; what is sent later is announced as any other.
    """
    one, two = Instance(amqp), Instance(amqp, "2")
    live(1, one, two)
    before = amqp.server.state() if lost == "the last calls" else MemoryServer(amqp.clock).state()
    amqp.publish(event("task-started", uuid="waits"))
    publish_all(amqp)
    live(2, one, two)

    amqp.server.go_back(before)
    live(2, one, two)
    publish_all(amqp)
    amqp.publish(event("task-received", uuid="waits", at=amqp.clock.time()))
    live(2, one, two)

    said = one.said("store-went-back") + two.said("store-went-back")
    assert len(said) == one.stats.rollbacks + two.stats.rollbacks == 1
    assert (said[0]["since"] is None) == (said[0]["seconds"] is None) == (lost == "everything")
    lines = [line for instance in (one, two) for line in instance.output.lines if "event_time" in line]
    recovered = [(line["event"], line["task_id"]) for line in lines if line.get("recovered")]
    assert recovered == [("task-started", "waits")]
    assert not any(line.get("incomplete") for line in lines)
    announced = sorted((line["event"], line["task_id"]) for line in lines)
    assert announced == sorted([*ALL, ("task-received", "waits"), ("task-started", "waits")])


def test_what_another_announced_before_a_fail_over_is_marked_before_anyone_has_noticed_the_loss(amqp: Bed) -> None:
    """Given a start that waited for its task's name, which another instance brought, and announced just before a
    fail-over lost that: the first instance to return has lost no call of its own, and announces the start once more, as
    recovered. What it had received itself is not marked.
    """

    def publish(kind: str, task: str) -> None:
        amqp.publish(event(kind, uuid=task, at=amqp.clock.time()))

    one, two = Instance(amqp), Instance(amqp, "2")
    live(1, one, two)
    publish("task-started", "waits")
    live(1, one)
    live(1, two)
    before = amqp.server.state()
    publish("task-received", "waits")
    two.cycle(3)
    assert ("task-started", "waits") in two.announced

    publish("task-received", "in hand")
    amqp.store_trouble.away = StoreUnavailable("away")
    live(1, one)
    live(1, two)
    amqp.server.go_back(before)
    amqp.server.server_id = b"another"
    amqp.store_trouble.away = None
    publish("task-sent", "waits")
    live(2, one)
    live(2, two)

    lines = [line for instance in (one, two) for line in instance.output.lines if "event_time" in line]
    told = [(line["event"], line["task_id"], line["instance"], bool(line.get("recovered"))) for line in lines]
    assert sorted(told) == [
        ("task-received", "in hand", "1", False),
        ("task-received", "waits", "2", False),
        ("task-sent", "waits", "1", False),
        ("task-started", "waits", "1", True),
        ("task-started", "waits", "2", False),
    ]
    assert [len(instance.said("store-went-back")) for instance in (one, two)] == [0, 1]


@pytest.mark.parametrize("seconds", [0, 140, 160])
def test_what_an_instance_wrote_before_it_died_with_the_primary_is_marked(amqp: Bed, seconds: float) -> None:
    """Given an instance that died with the machine of Redis's primary, just after it wrote lines of which the replica
    knows nothing: its next run, which is given the same messages, marks the lines; long afterwards, it does not."""
    one = Instance(amqp)
    one.live(1)
    before = amqp.server.state()
    publish_all(amqp)
    amqp.broker_trouble.at("before acknowledge", BrokerUnavailable("killed"))
    while not one.announced:
        one.cycle()
    one.source.close()
    assert one.announced == ALL

    amqp.server.go_back(before)
    amqp.server.server_id = b"another"
    survivor = Instance(amqp, "2").record.store
    survivor.dial().use()
    survivor.register({})
    amqp.clock.now += seconds
    next_run = Instance(amqp)
    next_run.live(1)

    assert next_run.announced == ALL
    marks = {bool(line.get("recovered")) for line in next_run.output.lines if "event_id" in line}
    assert marks == {seconds < 150}


def test_counters_do_not_fall_when_the_store_went_back(amqp: Bed, monkeypatch: pytest.MonkeyPatch) -> None:
    """Given counts that a store has lost, those of before are stored again before anything else is exported."""
    config = msgspec.structs.replace(OWN_CONFIG, http=Http(listen="127.0.0.1:1"))
    one = Instance(amqp, config=config)
    seven, two = (f"{code}\x1fshop.pay\x1fcelery@a\x1fcelery\x1f".encode() for code in (2, 3))
    counts = one.record.store.counts
    monkeypatch.setattr(counts, "stored", Counts([seven, b"7", two, b"2"]))
    restored: list[dict[bytes, int]] = []
    monkeypatch.setattr(counts, "restore", lambda fallen, _keep_alive: restored.append(fallen))
    one.live(1)
    before = amqp.server.state()
    one.live(2)
    assert restored == []

    monkeypatch.setattr(counts, "stored", Counts([seven, b"3", two, b"2"]))
    amqp.server.go_back(before)
    publish_all(amqp)
    one.live(2)

    assert restored == [{seven: 7}]
