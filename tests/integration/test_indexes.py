"""What Redis keeps so that tasks can be searched: its limits, its life, and records of other versions."""

from __future__ import annotations

import pytest

from ha_monitor.store.queries import KeptTask, TaskQueries
from ha_monitor.store.reader import StoreReader
from tests.integration.storing import NODE, Inside, Instance, settings
from tests.support.store_contract import life
from tests.unit.builders import TIME, decode, event


@pytest.fixture
def queries(store_url: str) -> TaskQueries:
    reader = StoreReader(settings(store_url), NODE)
    reader.connect()
    return reader.queries


def task(queries: TaskQueries, task_id: str) -> KeptTask:
    (found,) = queries.tasks([task_id])
    assert found is not None
    return found


def types(kept: KeptTask) -> list[str]:
    return [one.type for one in kept.story]


def drop_story(inside: Inside, task_id: str, events: int) -> None:
    """Leave the record of a task, of which nothing waits, as an earlier version would have written it."""
    key = inside.keys.task(task_id)
    story = b"\xc0\xc0" + bytes((0xA0 | 3 * events,))
    raw = inside.redis.get(key)
    assert raw[-3 * events - 4 : -3 * events] == b"\xc3" + story
    inside.redis.set(key, raw[: -3 * events - 3], keepttl=True)


# --- the story -----------------------------------------------------------------------------


def test_the_story_is_cut_with_the_ids(one: Instance, queries: TaskQueries) -> None:
    """Given 1,200 events of a task, of which some come late, its story is that of the 1,000 latest, and does not claim
    to be all of it."""
    events = [event("task-progress", uuid="t", at=TIME + 2 * number) for number in range(1200)]
    one.apply(event("task-received", uuid="t", at=TIME - 1), *events[:500])
    assert task(queries, "t").complete
    one.apply(*events[700:])
    one.apply(*events[500:700])

    kept = task(queries, "t")

    assert [round(moment.time - TIME) for moment in kept.story] == [2 * number for number in range(200, 1200)]
    assert not kept.complete


def test_a_record_of_an_earlier_version_is_read(one: Instance, inside: Inside, queries: TaskQueries) -> None:
    """Given a record without a story, it is found and said to be incomplete; what comes later is in its story; and the
    events that it had are not announced again."""
    events = life("t")
    one.apply(*events[:2])
    drop_story(inside, "t", 2)

    before = task(queries, "t")
    again = one.apply(*events[:2])
    one.apply(events[2])
    after = task(queries, "t")

    assert (before.record.name, before.story, before.complete) == ("shop.pay", (), False)
    assert again.items == []
    assert (types(after), after.complete, after.record.runtime) == (["task-succeeded"], False, 0.25)


def test_what_is_no_record_is_no_task(inside: Inside, queries: TaskQueries) -> None:
    """Given values that the program does not write in place of records, they are none."""
    values = [b"", b"\xc1", b"text", decode(*life("t")).tasks["t"][0][0], b"\x80", b"\x81\xa1n\x05\xa0\xc3"]
    for number, value in enumerate(values):
        inside.redis.set(inside.keys.task(f"t{number}"), bytes(value))

    assert queries.tasks([f"t{number}" for number in range(len(values))]) == [None] * len(values)


# --- how long and how much -----------------------------------------------------------------


def test_a_tree_is_known_for_as_long_as_its_tasks(store_url: str, inside: Inside, queries: TaskQueries) -> None:
    """Given tasks of one root, the list of them lives a little longer than the records: of those that succeeded; longer
    once one has failed; and what ends so late that it may have expired is entered anew."""
    one = Instance(store_url, success_ttl=100_000, failure_ttl=600_000).start()
    key = inside.keys.children("root")
    one.apply(life("a", root_id="root"), life("b", root_id="root")[:2], life("c", root_id="root")[:2])
    assert 100_000 < inside.ttl(key) <= 125_000
    one.apply(event("task-failed", uuid="b", at=TIME + 9))
    assert 600_000 < inside.ttl(key) <= 750_000
    one.apply(life("d", root_id="root"))
    assert inside.ttl(key) > 600_000

    inside.redis.delete(key)
    one.apply(event("task-succeeded", uuid="c", at=TIME + 30_000))

    assert queries.children("root", 10) == ["c"]
    assert 100_000 < inside.ttl(key) <= 125_000


def test_what_expired_leaves_the_indexes(store_url: str, inside: Inside, queries: TaskQueries) -> None:
    """Given entries whose records have expired, they leave the indexes at the ticks, and others stay."""
    one = Instance(store_url, failure_ttl=600_000).start()
    one.apply(event("task-sent", uuid="gone", queue="celery"), event("task-sent", uuid="here", queue="celery"))
    seconds, _ = inside.redis.time()
    one.apply(*(event("task-failed", uuid=f"t{age}", at=seconds - age) for age in (500_000, 700_000)))
    inside.redis.delete(inside.keys.task("gone"))
    inside.redis.zadd(inside.keys.names, {"old": (seconds - 700_000) * 1000})
    inside.redis.rpush(inside.keys.newest("old"), "gone")

    one.tick()

    assert [found.task_id for found in queries.ended_badly(0.0, seconds, 10)] == ["t500000"]
    assert [task_id for task_id, _ in queries.waiting("celery", 10)] == ["here"]
    assert queries.names() == ["shop.pay"]
    assert queries.newest("old", 10) == []


def test_a_worker_whose_clock_is_ahead_keeps_nobody_out(one: Instance, inside: Inside, queries: TaskQueries) -> None:
    """Given an end from the year 2090, it counts as of when it was merged, so that it leaves the index as others do."""
    one.apply(event("task-failed", uuid="t", at=3_800_000_000.0))

    now = queries.now()
    (found,) = queries.ended_badly(0.0, 4e9, 10)
    assert now - 60 < found.at <= now
