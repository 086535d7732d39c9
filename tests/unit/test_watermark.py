"""Until when everything that was sent is merged, and since when an instance listens."""

from __future__ import annotations

import pytest

from ha_monitor.pipeline.watermark import FleetWatermark, Watermark
from tests.unit.builders import TurnedClock


@pytest.fixture
def clock() -> TurnedClock:
    return TurnedClock()


def test_what_was_sent_before_the_queue_was_empty_is_merged_once_all_have_merged(clock: TurnedClock) -> None:
    """Given an empty queue, the watermark of the fleet is there once every instance has merged what it had by then."""
    fleet, began = FleetWatermark(clock), clock.monotonic()
    assert fleet.ages() is None
    fleet.queue_was_empty(began)
    fleet.merged_by_all(began - 1)
    fleet.merged_by_all(None)
    assert fleet.ages() is None
    clock.now += 3
    fleet.merged_by_all(began + 1)
    clock.now += 2

    assert fleet.ages() == (5.0, 2.0)


def test_a_fleet_that_is_always_behind_has_a_watermark(clock: TurnedClock) -> None:
    """Given instances that are ten seconds behind all the time, and a queue that is found empty every five, the
    watermark of the fleet is never much older than that."""
    fleet = FleetWatermark(clock)
    ages = []
    for number in range(100):
        clock.now += 1
        if number % 5 == 0:
            fleet.queue_was_empty(clock.monotonic())
        fleet.merged_by_all(clock.monotonic() - 10)
        if (known := fleet.ages()) is not None:
            ages.append(known[0])

    assert len(ages) > 80
    assert max(ages) <= 25


def test_a_later_look_at_an_empty_queue_counts_at_once_if_all_is_merged(clock: TurnedClock) -> None:
    """Given two looks before anything is known of the instances, the later one counts if all is merged until then."""
    fleet, began = FleetWatermark(clock), clock.monotonic()
    fleet.queue_was_empty(began)
    fleet.queue_was_empty(began + 5)
    clock.now += 6
    fleet.merged_by_all(began + 5)

    assert fleet.ages() == (1.0, 0.0)


def test_a_link_that_is_cut_brings_no_message_and_proves_nothing(clock: TurnedClock) -> None:
    """Given an instance to which nothing comes, not even a heartbeat, its watermark stands; when something arrives, it
    follows to where nothing more had arrived before."""
    one = Watermark(clock, 100, 8.0)
    one.connected()
    clock.now += 1
    one.nothing_in_flight(clock.monotonic(), arrivals=1)
    stands = one.age()
    for _ in range(10):
        clock.now += 1
        one.nothing_in_flight(clock.monotonic(), arrivals=1)
    assert stands is not None
    assert one.age() == stands + 10
    clock.now += 1
    one.nothing_in_flight(clock.monotonic(), arrivals=2)
    assert one.age() == 1


def test_an_answer_of_the_broker_proves_that_all_has_arrived_that_was_sent_before(clock: TurnedClock) -> None:
    """Given an idle link, the watermark follows each question that the broker has answered."""
    one = Watermark(clock, 100, 8.0)
    one.connected()
    clock.now += 5
    asked_at = clock.monotonic()
    clock.now += 1
    one.answered(asked_at)
    one.nothing_in_flight(clock.monotonic(), arrivals=0)

    assert one.age() == 1


def test_what_arrives_while_a_handler_takes_its_time_is_not_merged(clock: TurnedClock) -> None:
    """Given a broker that answers a question while a handler takes its time, what was sent before that has arrived, but
    nobody has read it: the watermark stands where the instance last found nothing to read."""
    one = Watermark(clock, 100, 8.0)
    one.connected()
    nothing_at = clock.monotonic()
    clock.now += 10
    one.answered(clock.monotonic())
    clock.now += 1
    one.nothing_in_flight(nothing_at, arrivals=1)

    assert one.age() == 11


def test_where_all_instances_are_given_the_same_a_silent_link_holds_nobody_up(clock: TurnedClock) -> None:
    """Given Redis as the broker, what does not arrive here arrives at the others."""
    one = Watermark(clock, None, 8.0)
    one.connected()
    clock.now += 60
    one.nothing_in_flight(clock.monotonic(), arrivals=None)

    assert one.age() == 0
