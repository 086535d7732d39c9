"""What Redis keeps of queues."""

from __future__ import annotations

import pytest

from ha_monitor.store.queue_flow import QueueFlow
from tests.integration.storing import Inside, Instance
from tests.integration.test_store_contract import RedisBed
from tests.support.queue_contract import HOUR, QueueContract, flow, of_task, sent


@pytest.fixture
def bed(store_url: str) -> RedisBed:
    return RedisBed(store_url)


@pytest.fixture
def inside(store_url: str) -> Inside:
    return Inside(store_url)


class TestQueueFlow(QueueContract):
    """The contract."""


@pytest.mark.parametrize("backwards", [False, True])
def test_each_run_leaves_the_queue_of_its_attempt(bed: RedisBed, store_url: str, backwards: bool) -> None:
    """Given a task that was retried into another queue, each run left the queue into which its attempt was sent, in
    whichever order the events come, each in a batch of its own."""
    one = Instance(store_url).start()
    at = bed.now() // 60 * 60 - 600
    events = [
        sent("a", at=at + 1, queue="first"),
        of_task("received", "a", at=at + 2),
        of_task("started", "a", at=at + 3),
    ]
    events += [sent("a", at=at + 4, queue="second", retries=1), of_task("retried", "a", at=at + 5)]
    events += [of_task("received", "a", at=at + 6, retries=1), of_task("started", "a", at=at + 70)]
    for body in events[::-1] if backwards else events:
        one.apply(body)

    assert flow(bed, "first", at, at + 180) == flow(bed, "first", at, at + 60) == QueueFlow(1, 1, 0, 0.0)
    assert flow(bed, "second", at, at + 60) == QueueFlow(1, 0, 0, 0.0)
    assert flow(bed, "second", at + 60, at + 120) == QueueFlow(0, 1, 0, 0.0)


def test_a_task_with_many_attempts_counts_each_once(bed: RedisBed, store_url: str) -> None:
    """Given a task of 100 attempts, of which its record keeps the latest, each came and left once."""
    one = Instance(store_url).start()
    at = bed.now() // 60 * 60 - 3600
    for number in range(100):
        then = at + 20 * number
        one.apply(sent("a", at=then, retries=number), of_task("received", "a", at=then + 1, retries=number))
        one.apply(of_task("started", "a", at=then + 2), of_task("retried", "a", at=then + 3))

    assert flow(bed, "mail", at, at + 3600) == QueueFlow(100, 100, 0, 0.0)
    assert flow(bed, "mail", at + 60, at + 120) == QueueFlow(3, 3, 0, 0.0)


def test_there_is_a_hash_for_each_queue_and_hour(store_url: str, inside: Inside) -> None:
    """Given tasks in every minute of an hour, they are in one hash, one of the small ones, which lives for hours; what
    says nothing of queues writes none."""
    one = Instance(store_url).start()
    hour = int(inside.now() // HOUR) - 1
    one.apply([of_task("received", "x", at=hour * HOUR)])
    assert list(inside.redis.scan_iter(inside.keys.prefix + "f:*")) == []
    for minute in range(60):
        one.apply(sent(f"t{minute}", at=hour * HOUR + minute * 60 + 1))

    key = inside.keys.flow_of("mail", hour)
    assert [one.decode() for one in inside.redis.scan_iter(inside.keys.prefix + "f:*")] == [key]
    assert inside.redis.hlen(key) == 60
    assert inside.redis.object("encoding", key) in (b"listpack", b"ziplist")
    assert 6 * HOUR < inside.ttl(key) <= 7 * HOUR


def test_there_is_room_for_so_many_queues(store_url: str, inside: Inside) -> None:
    """Given 1,000 queues with a number, nothing is kept of another one."""
    one = Instance(store_url).start()
    inside.redis.hset(inside.keys.wait_queues, mapping={f"queue{n}": n for n in range(1000)})
    one.apply(sent("a", at=inside.now()), sent("b", at=inside.now(), queue="queue7"))

    assert [key.decode().rpartition(":")[2] for key in inside.redis.scan_iter(inside.keys.prefix + "f:*")] == ["queue7"]


@pytest.mark.parametrize("is_broken", [True, False])
def test_what_is_in_place_of_an_hour_costs_no_more_than_that(
    bed: RedisBed, store_url: str, inside: Inside, is_broken: bool
) -> None:
    """Given something foreign in place of a queue's hour, or values that nobody can read, tasks are counted from then
    on, and nothing else is lost; the foreign key is told of."""
    one = Instance(store_url).start()
    at = inside.now() // HOUR * HOUR + 1
    key = inside.keys.flow_of("mail", int(at // HOUR))
    if is_broken:
        inside.redis.hset(key, mapping={str(minute): b"\xff" * 32 for minute in range(60)} | {"99": "x", "x": "y"})
    else:
        inside.redis.set(key, "foreign")

    applied = one.apply(sent("a", at=at))
    assert (key in applied.trouble) is not is_broken
    assert flow(bed, "mail", at - 60, at + 60).came == 1
    assert bed.queries().waiting("mail", 5) == [("a", pytest.approx(at))]
