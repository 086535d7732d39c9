"""Whether anything but the instances of one store consumes the queue of events is found, and only then."""

from __future__ import annotations

from typing import Any, cast

import pytest

from ha_monitor.broker.memory import MemorySource
from ha_monitor.broker.source import max_requeue_delay
from ha_monitor.incidents.shared_queue import SharedQueue
from ha_monitor.outputs.log import Logger
from ha_monitor.pipeline.broker_link import DEPTH_EVERY
from ha_monitor.pipeline.shared_queue import ABANDONED_GRACE, GRACE, SharedQueueDuty
from ha_monitor.pipeline.stats import CONSUMING, Stats
from ha_monitor.store.api import Store
from ha_monitor.store.results import Peer
from tests.unit.builders import TurnedClock
from tests.unit.loop_bed import OWN_CONFIG, Bed, Instance, live

DELAY = max_requeue_delay(OWN_CONFIG.broker.heartbeat)
LONG = DELAY + GRACE + 4 * DEPTH_EVERY


def two_stores() -> tuple[Bed, Bed]:
    """One clock and one queue, and a store each."""
    one, other = Bed(), Bed()
    other.clock = other.server.clock = one.clock
    other.broker = one.broker
    return one, other


def test_instances_with_two_stores_on_one_queue_say_so_once() -> None:
    """Given two instances with one store and one with another, and one queue, each store's leader says once that the
    queue has more consumers than it knows instances.
    """
    bed, other = two_stores()
    first, second, stranger = Instance(bed, "1"), Instance(bed, "2"), Instance(other, "1")
    live(2 * LONG, first, second, stranger)

    (line,) = first.said("queue-shared") + second.said("queue-shared")
    assert (line["level"], line["consumers"], line["instances"]) == ("error", 3, 2)
    assert line["reason"] == (
        "celeryev.ha-monitor has 3 consumers, and this store knows 2 instances: something else takes events away, "
        "probably instances with another store; give those a node_id of their own, or the same store.url"
    )
    (line,) = stranger.said("queue-shared")
    assert (line["consumers"], line["instances"]) == (3, 1)


def test_instances_of_one_store_are_no_foreign_consumers() -> None:
    """Given instances that start, restart, and lose the broker again and again, none is called a stranger."""
    bed = Bed()
    instances = [Instance(bed, str(number)) for number in range(3)]
    for number in range(8):
        live(LONG / 4, *instances)
        instances[number % 3].source.close()
    instances[0].pipeline._shutdown(finish=True)
    live(LONG, *instances[1:])

    assert [line for one in instances for line in one.said("queue-shared")] == []


def test_one_that_came_and_went_is_said_again_when_it_is_back() -> None:
    """Given a foreign consumer that goes and comes back, it is said each time; what it was for a moment is not."""
    bed = Bed()
    one, foreign = Instance(bed), MemorySource(bed.broker)
    for stays, said in ((DELAY, 0), (LONG, 1), (DELAY, 1), (LONG, 2)):
        foreign.connect()
        live(stays, one)
        foreign.close()
        live(2 * DEPTH_EVERY, one)
        assert len(one.said("queue-shared")) == said


class Compared:
    """The duty of an instance, token 8, that has connected once, beside others of which the store says what it does."""

    token = 8

    def __init__(self, peers: list[Peer]) -> None:
        self.told: list[tuple[str, int, int]] = []
        self._peers, self._clock = peers, TurnedClock()
        self.duty = SharedQueueDuty(
            cast(Store, self),
            Stats(broker_connects=1),
            cast(Logger, self),
            self._clock,
            queue="celeryev.x",
            requeue_delay=DELAY,
        )

    def peers(self) -> list[Peer]:
        return self._peers

    def error(self, event: str, **fields: Any) -> None:
        self.told.append((event, fields["consumers"], fields["instances"]))

    @property
    def others(self) -> int | None:
        """Consumers that are found to be of others; None if that is not known."""
        return None if self.duty.found is None else self.duty.found.others

    def pass_time(self, seconds: float, consumers: int = 3) -> None:
        for _ in range(int(seconds / DEPTH_EVERY)):
            self._clock.now += DEPTH_EVERY
            self.duty.consumers_seen(consumers)
            assert self.duty.run() == []


@pytest.mark.parametrize("connects", [None, "many", [], {}, 1.5, "1"])
def test_whatever_the_store_says_of_another_instance_a_stranger_is_found(connects: object) -> None:
    """Given something else than a number of connections of another instance, nothing fails, and a consumer too many is
    said as soon as otherwise.
    """
    one = Compared([Peer(7, {"state": CONSUMING, "broker_connects": connects})])
    one.pass_time(LONG)

    assert one.told == [("queue-shared", 3, 2)]


def test_consumers_that_lost_connections_left_behind_are_no_foreign_consumers() -> None:
    """Given a link that breaks again and again, so that the broker always holds a consumer of a lost connection, or
    holds it while the node that it was at is away, nothing is said; it is when the same connections have stood for very
    long, or when there are more consumers than that explains.
    """
    peers = [Peer(7, {"state": CONSUMING, "broker_connects": 1})]
    one = Compared(peers)
    told, pass_time = one.told, one.pass_time

    for number in range(2, 20):
        peers[0] = Peer(7, {"state": CONSUMING, "broker_connects": number})
        pass_time(DELAY)
    pass_time(ABANDONED_GRACE - LONG)
    assert told == []
    pass_time(2 * LONG)
    assert told == [("queue-shared", 3, 2)]

    pass_time(DEPTH_EVERY, consumers=2)  # the node is back
    pass_time(LONG)
    assert told == 2 * [("queue-shared", 3, 2)]

    pass_time(DEPTH_EVERY, consumers=2)
    peers[0] = Peer(7, {"state": CONSUMING, "broker_connects": 20})
    pass_time(LONG, consumers=4)
    assert told == [*2 * [("queue-shared", 3, 2)], ("queue-shared", 4, 2)]


def test_where_consumers_are_not_counted_nothing_is_said() -> None:
    """Given Redis as the broker, of which every instance of every store receives all events, nothing is said."""
    bed = Bed(redelivers=False)
    one, foreign = Instance(bed), MemorySource(bed.broker)
    foreign.connect()
    live(2 * LONG, one)

    assert one.said("queue-shared") == []


# --- what is found -------------------------------------------------------------------------


def test_who_consumes_the_queue_is_known_and_since_when() -> None:
    """Given a consumer too many, it is found with the figures of the line, and since when it is there; and once it has
    gone, that there is none.
    """
    one = Compared([Peer(7, {"state": CONSUMING, "broker_connects": 1})])
    assert one.duty.found is None
    one.pass_time(DEPTH_EVERY, consumers=2)
    assert one.duty.found == SharedQueue("celeryev.x")
    one.pass_time(LONG)
    assert one.duty.found is not None
    assert one.duty.found._replace(lasts=None) == SharedQueue("celeryev.x", 3, 2)
    assert one.duty.found.lasts == LONG // DEPTH_EVERY * DEPTH_EVERY
    one.pass_time(DEPTH_EVERY, consumers=2)
    assert one.duty.found == SharedQueue("celeryev.x")


def test_nothing_is_known_until_it_can_be_told() -> None:
    """Given a new leader, or a consumer that has just come, consumers too many are neither of others nor left behind
    before that can be told; that there are none is known at once.
    """
    one = Compared([Peer(7, {"state": CONSUMING, "broker_connects": 1})])
    one.pass_time(LONG)
    assert one.others == 1
    one.duty.start_anew()
    one.pass_time(DELAY)
    assert one.others is None
    one.pass_time(LONG)
    assert one.others == 1

    one.duty.start_anew()
    one.pass_time(DEPTH_EVERY, consumers=2)
    assert one.others == 0
    one.pass_time(DEPTH_EVERY)
    assert one.others is None


def test_an_instance_that_does_not_consume_leaves_its_place_to_nobody() -> None:
    """Given a stranger, and an instance that loses its broker and comes back, the stranger is there all the time, and
    is told once: its consumer is not taken for that of the instance.
    """
    peers = [Peer(7, {"state": CONSUMING, "broker_connects": 1})]
    one = Compared(peers)
    one.pass_time(LONG)
    peers[0] = Peer(7, {"state": "waiting for the broker", "broker_connects": 1})
    one.pass_time(LONG, consumers=2)
    assert one.others is not None
    assert one.others > 0
    peers[0] = Peer(7, {"state": CONSUMING, "broker_connects": 2})
    one.pass_time(LONG)

    assert one.others == 1
    assert len(one.told) == 1


def test_only_what_lasts_counts_as_more() -> None:
    """Given a stranger, a consumer that is there for a moment, as each instance has one when it asks a quiet queue
    whether it delivers, or that a dead one left behind, makes it no more; another stranger does.
    """
    one = Compared([Peer(7, {"state": CONSUMING, "broker_connects": 1})])
    one.pass_time(LONG)
    for consumers, seconds in ((4, DELAY), (3, DEPTH_EVERY), (5, DEPTH_EVERY), (3, DEPTH_EVERY)):
        one.pass_time(seconds, consumers=consumers)
        assert one.others == 1
    one.pass_time(LONG, consumers=4)

    assert one.others == 2
    assert len(one.told) == 1


def test_where_consumers_are_not_counted_nobody_shares_the_queue() -> None:
    """Given a fleet that moved to a broker that does not count consumers, none is one too many."""
    one = Compared([])
    one.pass_time(LONG)
    assert one.others == 2
    one.duty.consumers_seen(None)

    assert one.duty.found == SharedQueue("celeryev.x")
