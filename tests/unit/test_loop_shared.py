"""The incidents of what two fleets share by mistake: a queue with two stores, or a store with two brokers. The loop of
the instances, with store and broker in memory and a simulated clock.
"""

from __future__ import annotations

import pytest

from ha_monitor.broker.memory import MemorySource
from ha_monitor.pipeline.peers import REPORT_AFTER
from ha_monitor.store.incidents import Phase
from tests.unit.loop_bed import Bed, Instance, live
from tests.unit.test_loop_incidents import beat, instance, lines, phases
from tests.unit.test_peers import two_brokers, two_redis
from tests.unit.test_shared_queue import DELAY, LONG, two_stores

QUEUE = "celeryev.ha-monitor"
TOLD = LONG + 15.0
"""Seconds within which the incident fires: two looks after the line."""
OVER = 135.0
"""Seconds within which it is over."""


@pytest.fixture
def bed() -> Bed:
    return Bed()


def told(*instances: Instance) -> list[str]:
    """What was announced of the queue."""
    return [event for event, key, _ in lines(*instances) if key == QUEUE]


def foreign_consumer(bed: Bed) -> MemorySource:
    """A consumer of the queue that is of another store."""
    foreign = MemorySource(bed.broker)
    foreign.connect()
    return foreign


def test_two_stores_on_one_queue_are_one_incident_of_each() -> None:
    """Given two instances with one store, and one with another that consumes the same queue, each fleet has one
    incident that wakes, and says what is wrong and what to do; once the other is gone, it is over.
    """
    bed, other = two_stores()
    first, second, foreign = instance(bed, "1"), instance(bed, "2"), instance(other, "1")
    live(2 * LONG, first, second, foreign)

    assert told(first, second) == told(foreign) == ["incident-opened"]
    (line,) = first.said("incident-opened") + second.said("incident-opened")
    assert (line["kind"], line["severity"], line["size"]) == ("queue-shared", "page", 1)
    assert line["summary"] == (
        f"{QUEUE} has 3 consumers, and this store knows 2 instances: something else takes events away, probably "
        "instances with another store; give those a node_id of their own, or the same store.url"
    )
    assert line["command"] == "ha-monitor check --online"
    foreign.pipeline._shutdown(finish=True)
    live(OVER, first, second)

    assert told(first, second) == ["incident-opened", "incident-resolved"]


def test_it_grows_by_another_stranger(bed: Bed) -> None:
    """Given another such instance that stays, the same incident says so."""
    one = instance(bed)
    foreign_consumer(bed)
    one.live(TOLD)
    (incident,) = bed.server.incidents.values()
    assert (incident.phase, incident.size) == (Phase.FIRING, 1)
    foreign_consumer(bed)
    one.live(TOLD)

    (grown,) = bed.server.incidents.values()
    assert (grown.id, grown.size, grown.since) == (incident.id, 2, incident.since)
    assert grown.summary.startswith(f"{QUEUE} has 3 consumers, and this store knows 1 instance:")
    assert told(one) == ["incident-opened"]


def test_an_instance_of_another_store_that_comes_and_goes_is_one_incident(bed: Bed) -> None:
    """Given an instance of another store whose connection breaks again and again, one incident opens, and is over
    once."""
    one, foreign = instance(bed), foreign_consumer(bed)
    one.live(TOLD)
    for _ in range(5):
        foreign.close()
        one.live(20)
        foreign.connect()
        one.live(40)
    assert told(one) == ["incident-opened"]
    foreign.close()
    one.live(OVER)
    assert told(one) == ["incident-opened", "incident-resolved"]


def test_a_new_leader_goes_on_with_it(bed: Bed) -> None:
    """Given an instance of another store, and a leader that stops, and then one that is killed, the incident is not
    over before the other one is gone; and none opens a second time.
    """
    instances = [instance(bed, str(number)) for number in range(3)]
    foreign = foreign_consumer(bed)
    live(TOLD, *instances)
    first = next(one for one in instances if one.telemetry.is_leader())
    first.pipeline._shutdown(finish=True)
    left = [one for one in instances if one is not first]
    live(2 * TOLD, *left)
    second = next(one for one in left if one.telemetry.is_leader())
    second.source.close()  # as the system does
    (third,) = [one for one in left if one is not second]
    live(2 * TOLD, third)
    assert told(*instances) == ["incident-opened"]
    assert third.telemetry.is_leader()

    foreign.close()
    live(OVER, third)
    assert told(*instances) == ["incident-opened", "incident-resolved"]


def test_a_restart_of_all_instances_goes_on_with_it(bed: Bed) -> None:
    """Given an instance of another store, and all instances that are stopped and started again, it is the same
    incident."""
    one = instance(bed)
    foreign_consumer(bed)
    one.live(TOLD)
    one.pipeline._shutdown(finish=True)
    bed.clock.now += 30
    again = instance(bed)
    again.live(2 * TOLD)

    assert told(one, again) == ["incident-opened"]
    assert phases(bed)["queue-shared", QUEUE] is Phase.FIRING


def test_what_instances_of_one_store_do_is_none(bed: Bed) -> None:
    """Given instances that are stopped and started one after the other, as in an upgrade, that lose their broker, that
    come in addition, and that are killed, so that the broker holds their consumers until it misses their heartbeats,
    the queue is not called shared.
    """
    running = [instance(bed, str(number)) for number in range(3)]
    everyone = list(running)
    live(LONG, *running)
    for number in range(3):
        running[number].pipeline._shutdown(finish=True)
        live(5, *[one for one in running if one is not running[number]])
        running[number] = instance(bed, str(number))
        everyone.append(running[number])
        live(LONG / 2, *running)
    for one in running:
        one.source.close()
        live(LONG / 3, *running)
    running.append(instance(bed, "new"))
    live(LONG, *running)
    for _ in range(2):
        killed = running.pop(0)
        live(DELAY, *running)
        killed.source.close()  # the broker has missed its heartbeats
        live(LONG, *running)

    assert told(*everyone, *running) == []
    assert ("queue-shared", QUEUE) not in phases(bed)


# --- two brokers ---------------------------------------------------------------------------


def test_an_instance_that_waits_since_the_others_have_another_broker_is_an_incident() -> None:
    """Given an instance with the same node_id and another RabbitMQ than the others, which takes nothing from it, an
    incident says that it does not consume.
    """
    bed, other = two_brokers()
    first, second = instance(bed, "1"), instance(other, "2")
    for _ in range(30):
        beat(bed, "celery@a")
        live(5, first, second)

    assert lines(first, second) == [("incident-opened", "consuming", False)]
    (line,) = first.said("incident-opened")
    assert (line["kind"], line["summary"]) == ("monitor", "host/2 does not consume Celery's events")
    assert second.stats.state == "waiting for the broker"


@pytest.mark.parametrize("hears", [False, True], ids=["two Redis", "one Redis"])
def test_instances_at_two_redis_are_an_incident_until_they_are_at_one(*, hears: bool) -> None:
    """Given two instances with one store that listen at two Redis, which cannot be told apart by a name, an incident
    says so, whichever leads; it is over once they hear each other. Two that do are none.
    """
    first, second = two_redis(instance, hears=hears)
    live(REPORT_AFTER, first, second)
    assert lines(first, second) == []
    live(3 * REPORT_AFTER, first, second)

    assert lines(first, second) == ([] if hears else [("incident-opened", "brokers", False)])
    first.source.greetings = ["a", "b"]
    live(45, first, second)
    assert len(lines(first, second)) == (0 if hears else 2)
