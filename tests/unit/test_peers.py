"""Instances that share a record share a broker: one that would consume from another one waits, and says so."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from ha_monitor.incidents.listeners import MAX_BEHIND, Listener
from ha_monitor.pipeline.peers import REPORT_AFTER
from tests.unit.builders import UUID, event
from tests.unit.loop_bed import Bed, Instance, live


def with_one_store(redelivers: bool = True) -> tuple[Bed, Bed]:
    """One clock and one store, and a broker each."""
    one, other = Bed(redelivers=redelivers), Bed(redelivers=redelivers)
    other.clock = other.broker.clock = one.clock
    other.server = one.server
    return one, other


def two_brokers() -> tuple[Bed, Bed]:
    """The same, and each broker has a name."""
    one, other = with_one_store()
    other.broker.place = "another"
    return one, other


def two_redis(instance_of: Callable[[Bed, str], Instance], *, hears: bool) -> tuple[Instance, Instance]:
    """An instance at each of two brokers without a name, with one store.

    :param hears: whether the first has the second's greeting: then they are at one.
    """
    bed, other = with_one_store(redelivers=False)
    first, second = instance_of(bed, "1"), instance_of(other, "2")
    first.source.greeting, first.source.greetings = "a", ["a", "b"] if hears else ["a"]
    second.source.greeting, second.source.greetings = "b", ["b"]
    return first, second


def test_an_instance_with_another_broker_waits_until_the_others_are_gone() -> None:
    """Given an instance that consumes, one with the same node_id and another broker takes nothing from it and says why;
    once the first has stopped, it consumes.
    """
    bed, other = two_brokers()
    first, second = Instance(bed, "1"), Instance(other, "2")
    live(3, first)
    other.publish(event("task-received"))

    live(5, first, second)

    assert first.stats.state == "consuming"
    assert second.stats.state == "waiting for the broker"
    assert len(other.broker.ready) == 1
    assert {line["reason"] for line in second.said("broker-unavailable")} == {
        "another instance of node_id ha-monitor consumes from memory, but this one is connected to another: use a "
        "separate node_id for each broker"
    }

    first.pipeline._shutdown(finish=True)
    live(20, second)

    assert second.stats.state == "consuming"
    assert second.announced == [("task-received", UUID)]


def test_of_two_that_begin_at_once_one_yields() -> None:
    """Given two instances with one node_id that connect to two brokers at the same time, the later one waits soon."""
    bed, other = two_brokers()
    first, second = Instance(bed, "1"), Instance(other, "2")

    live(8, first, second)

    assert first.stats.state == "consuming"
    assert second.stats.state == "waiting for the broker"


def test_instances_of_one_broker_do_not_mind_each_other() -> None:
    """Given two instances that both lose their broker and come back, both consume."""
    bed = Bed()
    first, second = Instance(bed, "1"), Instance(bed, "2")
    live(8, first, second)
    bed.broker.place = "the same cluster, renamed"
    for one in (first, second):
        one.source.place = bed.broker.place
        one.source.close()

    live(20, first, second)

    assert (first.stats.state, second.stats.state) == ("consuming", "consuming")


def test_instances_with_several_brokers_may_be_at_different_ones() -> None:
    """Given brokers for failover, which a source does not tell apart, an instance consumes from one while another
    instance consumes from the other.
    """
    bed, other = two_brokers()
    other.broker.place = ""
    first, second = Instance(bed, "1"), Instance(other, "2")
    live(3, first)
    other.publish(event("task-received"))

    live(5, first, second)

    assert (first.stats.state, second.stats.state) == ("consuming", "consuming")
    assert second.announced == [("task-received", UUID)]


# --- brokers without a name ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("one", "other", "apart"),
    [
        (Listener("a", ["a"], 0.5), Listener("b", ["b"], 0.5), True),
        (Listener("a", ["a", "b"], 0.5), Listener("b", ["b"], 0.5), False),
        (Listener("a", ["a"], 0.5), Listener("", [], 0.5), False),
        (Listener("a", ["a"], 0.5), Listener("b", ["b"], MAX_BEHIND + 1), False),
        (Listener("a", ["a"], 0.5), Listener("b", ["b"], None), False),
        (Listener("a", ["a"], 0.5), Listener.of({}), False),
        (Listener("a", ["a"], 0.5), Listener.of({"greeting": 1, "greetings": "ab", "behind": []}), False),
    ],
    ids=["neither heard", "one heard", "did not hear itself", "busy", "just connected", "older version", "broken"],
)
def test_two_listen_apart_if_neither_has_the_others_greeting(one: Listener, other: Listener, apart: bool) -> None:
    """Given two instances, they are at two brokers if both have their own greeting, neither the other's, and both have
    handled what they were sent.
    """
    assert one.is_at_other_broker(other) is other.is_at_other_broker(one) is apart


@pytest.mark.parametrize("hears", [False, True], ids=["two Redis", "one Redis"])
def test_instances_at_two_redis_are_told_once(hears: bool) -> None:
    """Given two instances at brokers without a name, each of which has only its own greeting, the later one says so
    after a while, and once; where one has the other's, nobody does. Both consume.
    """
    first, second = two_redis(Instance, hears=hears)

    live(REPORT_AFTER - 5, first, second)
    assert second.said("brokers-differ") == []
    live(2 * REPORT_AFTER, first, second)

    assert len(second.said("brokers-differ")) == (not hears)
    assert first.said("brokers-differ") == []
    assert (first.stats.state, second.stats.state) == ("consuming", "consuming")


@pytest.mark.parametrize("place", ["memory", ""], ids=["one broker", "several brokers"])
def test_a_second_instance_of_one_name_says_so_once(place: str) -> None:
    """Given an instance that runs, another one of its name on its host tells of it in one line, with the pid of the
    first; the first, one of another name, and one whose predecessor of the same name has just died tell nothing. So it
    is with several brokers, too, which a source does not tell apart.
    """
    bed = Bed()
    bed.broker.place = place
    dead, other = Instance(bed, "1"), Instance(bed, "2")
    live(5, dead, other)
    first = Instance(bed, "1")
    live(30, first, other)
    second = Instance(bed, "1")

    live(60, first, second, other)

    (line,) = second.said("instance-name-taken")
    assert (line["level"], line["reason"]) == (
        "warning",
        "instance 1 on host runs twice, as pid 1 and as pid 1: their metrics are mixed, and the death of one "
        "goes unnoticed; give each its own name (--instance)",
    )
    assert [one.said("instance-name-taken") for one in (dead, first, other)] == [[], [], []]
