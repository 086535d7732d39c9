"""Open tasks by age in Redis: what the leader enters, what leaves, and what instances of another version left."""

from __future__ import annotations

import time

import pytest

from ha_monitor.config.schema import StuckSettings
from ha_monitor.store.queries import TaskQueries
from ha_monitor.store.reader import StoreReader
from ha_monitor.store.stuck import RedisOpenTasks
from tests.integration.storing import NODE, Inside, Instance, settings
from tests.unit.builders import event

LIMITS = StuckSettings()
FIRST_LOOK = 300


@pytest.fixture
def one(store_url: str) -> Instance:
    """One that leads."""
    one = Instance(store_url, stuck=LIMITS).start()
    one.store.tick(b"{}", [], watermark_age=0.0)
    return one


@pytest.fixture
def queries(store_url: str) -> TaskQueries:
    reader = StoreReader(settings(store_url), NODE)
    reader.connect()
    return reader.queries


def sent(one: Instance, **ages: float) -> None:
    """Have tasks that were sent so many seconds ago merged, by their ids."""
    one.apply(*(event("task-sent", uuid=uuid, at=time.time() - age) for uuid, age in ages.items()))


def listed(queries: TaskQueries, until: float | None = None) -> list[str]:
    return [task_id for page in queries.newest_open(until) for task_id in page.ids]


def since(inside: Inside) -> list[bytes]:
    found: list[bytes] = inside.redis.zrange(inside.keys.open_since, 0, -1)
    return found


def test_only_what_is_open_for_long_is_entered(one: Instance, inside: Inside, queries: TaskQueries) -> None:
    """Given tasks of which one is due for a look, the leader enters that one by the time at which it was sent; the
    others cost nothing; all are listed; and the end of one takes it out."""
    sent(one, young=10, old=500)
    assert since(inside) == []
    RedisOpenTasks(one.store, LIMITS).candidates()

    assert since(inside) == [b"old"]
    assert inside.redis.zscore(inside.keys.open_since, "old") / 1000 == pytest.approx(time.time() - 500, abs=60)
    assert listed(queries) == ["young", "old"]
    assert listed(queries, time.time() - 400)[0] == "old"
    one.apply(event("task-succeeded", uuid="old"))
    assert since(inside) == []
    assert listed(queries) == ["young"]


def test_what_an_earlier_version_left_is_found(one: Instance, inside: Inside, queries: TaskQueries) -> None:
    """Given an instance that does not say when first looks are, and a leader that entered nothing, all tasks are
    listed, though not in order; and what an instance did not take out is swept."""
    sent(one, young=10, old=500, looked_at=5000)
    inside.redis.hdel(inside.keys.instance(one.store.token), "first_look")
    inside.redis.zadd(inside.keys.open, {"looked_at": (time.time() + 3000) * 1000})
    inside.redis.zadd(inside.keys.open_since, {"ended": 1})

    assert sorted(set(listed(queries))) == ["ended", "looked_at", "old", "young"]
    one.tick()
    assert since(inside) == []
    assert sorted(set(listed(queries))) == ["looked_at", "old", "young"]
    inside.redis.hset(inside.keys.instance(one.store.token), "first_look", FIRST_LOOK * 1000)
    assert sorted(set(listed(queries, time.time() - 400))) == ["looked_at", "old", "young"]


def test_many_of_one_second_are_all_listed(one: Instance, queries: TaskQueries) -> None:
    """Given more tasks of one second than a page has, each is listed once."""
    at = time.time() - 10
    one.apply(*(event("task-sent", uuid=f"t{number}", at=at) for number in range(2500)))

    found, anyhow = listed(queries), [task_id for ids in queries.all_open() for task_id in ids]

    assert len(found) == len(set(found)) == len(anyhow) == len(set(anyhow)) == 2500


def test_a_walk_passes_what_ends_meanwhile(one: Instance, queries: TaskQueries) -> None:
    """Given tasks that end while the list is read, no other is passed over."""
    ages = {f"t{number}": number / 4 for number in range(2400)}
    sent(one, **ages)

    every = queries.all_open()
    some = next(every)
    one.apply(*(event("task-succeeded", uuid=uuid) for uuid in some[:700]))
    assert {task_id for ids in every for task_id in ids} | {*some} == set(ages)
    pages = queries.newest_open()
    first = next(pages).ids
    one.apply(*(event("task-succeeded", uuid=uuid) for uuid in first))
    rest = {task_id for page in pages for task_id in page.ids}

    assert {*first, *rest} == set(ages) - {*some[:700]}
