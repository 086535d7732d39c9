"""What Redis keeps of workers."""

from __future__ import annotations

import pytest

from ha_monitor.store.worker_runs import MAX_ABANDONED, MAX_LOST_RUNS, LostRun, WorkerRuns
from tests.integration.storing import Inside, Instance
from tests.integration.test_store_contract import RedisBed
from tests.support.worker_contract import ALIVE, DEAD, WorkerContract, left, on, runs


@pytest.fixture
def bed(store_url: str) -> RedisBed:
    return RedisBed(store_url)


@pytest.fixture
def inside(store_url: str) -> Inside:
    return Inside(store_url)


class TestWorkerRuns(WorkerContract):
    """The contract."""


def test_there_is_a_hash_for_ten_minutes(store_url: str, inside: Inside) -> None:
    """Given workers that end tasks in every minute of an hour, there are six hashes, or seven, with a field of 80 bytes
    for each worker, that live for an hour and a half."""
    one = Instance(store_url).start()
    now = inside.now()
    for minute in range(59):
        one.apply(on(ALIVE, "succeeded", f"a{minute}", at=now - minute * 60), on(DEAD, "failed", f"d{minute}", at=now))

    found = sorted(inside.redis.scan_iter(inside.keys.prefix + "d:*"))
    assert len(found) in (6, 7)
    assert {len(value) for key in found for value in inside.redis.hvals(key)} == {80}
    assert all(5000 < inside.redis.ttl(key) <= 5400 for key in found)


@pytest.mark.parametrize("is_broken", [True, False])
def test_what_is_in_place_of_ten_minutes_costs_no_more_than_that(
    bed: RedisBed, store_url: str, inside: Inside, is_broken: bool
) -> None:
    """Given something foreign in place of what ended in ten minutes, or a value that nobody can read, runs are counted
    from then on; the foreign key is told of."""
    one, at = Instance(store_url).start(), inside.now()
    key = inside.keys.worker_runs_of(int(at // 600))
    if is_broken:
        inside.redis.hset(key, mapping={ALIVE: "x", DEAD: "y" * 80})
    else:
        inside.redis.set(key, "foreign")

    applied = one.apply(on(ALIVE, "succeeded", "a", at=at))
    assert (key in applied.trouble) is not is_broken
    assert runs(bed, ALIVE, at - 600, at + 60) == WorkerRuns(1, 0)


def test_there_is_room_for_so_many(bed: RedisBed, store_url: str, inside: Inside) -> None:
    """Given 10,000 workers on which something ended and 10,000 tasks that workers left, one more worker is not counted,
    and one more task takes the place of the oldest."""
    one, at = Instance(store_url).start(), inside.now()
    key = inside.keys.worker_runs_of(int(at // 600))
    for first in range(0, 10_000, 1000):
        some = range(first, first + 1000)
        inside.redis.hset(key, mapping={f"w{number}": bytes(80) for number in some})
        inside.redis.zadd(inside.keys.abandoned, {f"1:wt{number}": at * 1000 - 99999 + number for number in some})
    one.apply(on(ALIVE, "succeeded", "a", at=at), on("w5", "failed", "b", at=at))
    assert inside.redis.hlen(key) == 10_000
    assert [runs(bed, name, at - 60, at + 60) for name in (ALIVE, "w5")] == [WorkerRuns(0, 0), WorkerRuns(1, 1)]

    one.apply(on(DEAD, "started", "c", at=at), on(ALIVE, "started", "c", at=at + 1))
    assert left(bed, DEAD) == ["c"]
    assert inside.redis.zcard(inside.keys.abandoned) == len(left(bed, "w")) + 1 == MAX_ABANDONED
    assert "t0" not in left(bed, "w")


def test_there_is_room_for_so_many_lost_runs(bed: RedisBed, store_url: str, inside: Inside) -> None:
    """Given 2,000 runs during which a worker was lost, one more takes the place of the oldest; what is not of the
    program's making is left out, and what was found a day ago is forgotten at a tick."""
    one, at = Instance(store_url).start(), inside.now()
    runs = {f"!1:w9:t{number}": at * 1000 - 99999 + number for number in range(MAX_LOST_RUNS)}
    inside.redis.zadd(inside.keys.lost_runs, runs)
    one.apply(on(DEAD, "started", "c", at=at), on(ALIVE, "started", "c", at=at + 1))
    assert inside.redis.zcard(inside.keys.lost_runs) == MAX_LOST_RUNS
    assert [run.task_id for run in bed.queries().lost_runs()] == [f"t{number}" for number in range(1, MAX_LOST_RUNS)]

    inside.redis.delete(inside.keys.lost_runs)
    foreign = dict.fromkeys(("!", "!x:w9:t", "!1:w:t", "!1:wx:t", "!99:w9:t", "!1:w" + "9" * 99 + ":t"), at * 1000)
    inside.redis.zadd(inside.keys.lost_runs, {**foreign, "!1:w9:old": at * 1000 - 86_400_001, "!1:w9:new": at * 1000})
    one.tick()
    assert bed.queries().lost_runs() == [LostRun("new", "w", 9)]


def test_what_workers_left_is_forgotten_after_a_day(bed: RedisBed, store_url: str, inside: Inside) -> None:
    """Given a task that a worker left a day ago, a tick forgets it."""
    one, at = Instance(store_url).start(), inside.now()
    inside.redis.zadd(inside.keys.abandoned, {"1:wold": at * 1000 - 86_400_001, "1:wnew": at * 1000 - 86_000_000})
    one.tick()
    assert left(bed, "w") == ["new"]
