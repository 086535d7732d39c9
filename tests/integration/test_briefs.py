"""Records that shrink: what is left of a succeeded task after `store.detail_ttl`. No test waits: a whole record that
has expired is one that was deleted.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from itertools import product
from math import ceil
from typing import Any
from uuid import UUID

import msgspec
import pytest
import redis

from ha_monitor.events.catalogue import State
from ha_monitor.store.connection import StoreConnection
from ha_monitor.store.queries import KeptTask
from ha_monitor.store.redis_queries import RedisQueries
from tests.integration.storing import Inside, Instance
from tests.integration.test_agreement import found
from tests.support.measured import Measured
from tests.support.sizing_table import BRIEF, WHOLE, bytes_a_day
from tests.unit.builders import TIME, event

SUCCESS_TTL, DETAIL_TTL = 100_000.0, 600.0
ID = "11111111-2222-4333-8444-555555555555"
SENT = event("task-sent", at=TIME, uuid=ID, queue="mail", hostname="gen1@host", root_id="root", parent_id="parent")
RECEIVED = event("task-received", at=TIME + 0.5, uuid=ID, root_id="root", parent_id="parent")
STARTED = event("task-started", at=TIME + 1, uuid=ID)
SUCCEEDED = event("task-succeeded", at=TIME + 2, uuid=ID)
CUSTOM = event("task-progress", at=TIME + 1.5, uuid=ID)
WHOLE_STORY = (SENT, RECEIVED, STARTED, SUCCEEDED)
Body = dict[str, Any]


def instance(url: str, **changes: Any) -> Instance:
    return Instance(url, **{"success_ttl": SUCCESS_TTL, "detail_ttl": DETAIL_TTL, **changes}).start()


def kept(one: Instance, inside: Inside, task_id: str = ID) -> KeptTask | None:
    connection = StoreConnection(one.settings)
    connection.connect()
    try:
        return RedisQueries(connection, inside.keys).tasks([task_id])[0]
    finally:
        connection.close()


def expire(inside: Inside, task_id: str = ID) -> None:
    """As if `store.detail_ttl` were over."""
    assert inside.redis.delete(inside.keys.task(task_id)) == 1


def ttl(inside: Inside, task_id: str = ID) -> int:
    return int(inside.redis.ttl(inside.keys.task(task_id)))


def lives(inside: Inside, began: float) -> range:
    """The seconds for which the record may be kept, counted from when it was written.

    :param began: a moment before that, by the monotonic clock.
    """
    return range(left := ttl(inside), left + ceil(time.monotonic() - began) + 1)


def told(one: Instance) -> list[tuple[Any, ...]]:
    """What its lines said of each event, but for what is not kept."""
    gone: dict[str, Any] = {
        "arguments": None,
        "keyword_arguments": None,
        "root_id": None,
        "parent_id": None,
        "marks": [],
    }
    entries = (item.entry for item in one.emitted)
    return [
        (entry.event.type, entry.event.id, msgspec.structs.replace(entry.facts, **gone), entry.incomplete)
        for entry in entries
        if entry.facts is not None
    ]


def test_a_succeeded_task_keeps_a_brief_record(store_url: str, inside: Inside) -> None:
    """Given a task that succeeded, its whole record lives for `store.detail_ttl`, and then its state, name, queue,
    worker, times and waits are known for `store.success_ttl`; arguments, root and parent are not."""
    one, began = instance(store_url), time.monotonic()
    one.apply(*WHOLE_STORY)
    assert DETAIL_TTL in lives(inside, began)
    before = kept(one, inside)
    expire(inside)

    after = kept(one, inside)

    assert before is not None and after is not None
    assert (before.shrunk, after.shrunk) == (False, True)
    assert after.record == msgspec.structs.replace(before.record, args=None, kwargs=None, root_id=None, parent_id=None)
    assert (after.record.state, after.record.name, after.record.queue) == (State.SUCCESS, "shop.pay", "mail")
    assert (after.story, after.complete) == (before.story, True)
    (key,) = inside.redis.keys(inside.keys.brief("*"))
    assert SUCCESS_TTL <= inside.redis.ttl(key) <= SUCCESS_TTL * 1.2
    assert inside.redis.object("encoding", key) in (b"listpack", b"ziplist")


AGAIN = (
    event("task-received", at=TIME + 3000, uuid=ID, hostname="celery@other", root_id="root", parent_id="parent"),
    event("task-started", at=TIME + 3001, uuid=ID, hostname="celery@other"),
    event("task-succeeded", at=TIME + 3002, uuid=ID, hostname="celery@other", runtime=1.0),
)
"""It was delivered again."""
LATE: dict[str, tuple[Sequence[Body], Sequence[Body]]] = {
    "all again": (WHOLE_STORY, WHOLE_STORY),
    "each again, backwards": (WHOLE_STORY, WHOLE_STORY[::-1]),
    "task-sent late": ((RECEIVED, STARTED, SUCCEEDED), (SENT,)),
    "task-received late": ((SENT, STARTED, SUCCEEDED), (RECEIVED, SENT)),
    "a custom event late": (WHOLE_STORY, (CUSTOM, CUSTOM)),
    "another run": (WHOLE_STORY, AGAIN),
    "another run, and all again": (WHOLE_STORY, (*AGAIN, *WHOLE_STORY, *AGAIN)),
    "a failure of an earlier run": (
        WHOLE_STORY,
        (event("task-started", at=TIME + 0.6, uuid=ID), event("task-failed", at=TIME + 0.8, uuid=ID)),
    ),
    "a retry that came late": (
        WHOLE_STORY,
        (
            event("task-retried", at=TIME + 0.9, uuid=ID),
            event("task-sent", at=TIME + 0.8, uuid=ID, retries=1, queue="mail"),
            event("task-started", at=TIME + 0.6, uuid=ID),
        ),
    ),
    "rejected back": (WHOLE_STORY, (event("task-rejected", at=TIME + 0.7, uuid=ID, requeue=True),)),
}


@pytest.mark.parametrize(("case", "at_once"), [*product(LATE, [True, False])])
def test_what_comes_late_or_again_is_as_if_the_record_were_whole(store_url: str, case: str, at_once: bool) -> None:
    """Given a task whose record shrank, and events that come late, again, or of another run, in one batch or one by
    one, with its record shrinking in between: the lines, the counts of new and repeated events, and what is then known
    are those of a record that stays whole, but for what is not kept."""
    first, late = LATE[case]
    results = []
    for detail_ttl in (0.0, DETAIL_TTL):
        redis.Redis.from_url(store_url).flushall()
        inside = Inside(store_url)
        one = instance(store_url, detail_ttl=detail_ttl)
        one.apply(*first)
        counts = []
        for batch in [late] if at_once else [[body] for body in late]:
            if detail_ttl and 0 < ttl(inside) <= DETAIL_TTL:
                expire(inside)
            applied = one.apply(*batch)
            counts.append((applied.new, applied.repeated, applied.trouble))
        task = kept(one, inside)
        assert task is not None
        record = msgspec.structs.replace(task.record, args=None, kwargs=None, root_id=None, parent_id=None)
        results.append((told(one), counts, record, task.complete))
        assert found(one, inside, keeps_open=False) == []

    whole, brief = results
    assert brief == whole


KEPT_WHOLE: dict[str, Sequence[Body]] = {
    "it failed": (SENT, RECEIVED, STARTED, event("task-failed", at=TIME + 2, uuid=ID)),
    "it is open": (SENT, RECEIVED, STARTED),
    "it ran twice": (*WHOLE_STORY, *AGAIN),
    "its name is not known": (STARTED, SUCCEEDED),
    "it has many events": (*WHOLE_STORY, *(event("task-x", at=TIME + 1 + n / 10, uuid=ID) for n in range(3))),
}


@pytest.mark.parametrize("case", KEPT_WHOLE)
def test_any_other_record_stays_whole(store_url: str, inside: Inside, case: str) -> None:
    """Given a task that did not succeed, ran several times, or is told of by many events, its record lives as long as
    it did without `store.detail_ttl`."""
    one, began = instance(store_url), time.monotonic()
    one.apply(*KEPT_WHOLE[case])

    assert max(lives(inside, began)) >= SUCCESS_TTL


def test_a_task_known_by_a_brief_record_alone_is_recognised_when_the_setting_is_off(
    store_url: str, inside: Inside
) -> None:
    """Given brief records and instances that write none any more, an event that comes again is recognised."""
    instance(store_url).apply(*WHOLE_STORY)
    expire(inside)
    later = instance(store_url, detail_ttl=0.0)

    applied = later.apply(*WHOLE_STORY)

    assert (applied.new, applied.repeated, later.types) == (0, 4, [])


def test_more_hashes_are_begun_when_one_is_full(store_url: str, inside: Inside) -> None:
    """Given more tasks than the hashes of a generation hold, another one with more hashes begins, and the tasks of both
    are recognised."""
    one = instance(store_url)
    now = int(inside.redis.time()[0]) * 1000
    inside.redis.set(inside.keys.briefs, msgspec.msgpack.encode([[7, 1, now, 0]]))
    ids = [f"{number:08d}-2222-4333-8444-555555555555" for number in range(150)]
    bodies = [[body | {"uuid": task_id} for body in WHOLE_STORY] for task_id in ids]
    for some in bodies:
        one.apply(*some)
    for task_id in ids:
        expire(inside, task_id)

    repeated = [one.apply(*some) for some in bodies]

    generations: list[list[int]] = msgspec.msgpack.decode(inside.redis.get(inside.keys.briefs))
    assert [(number, size) for number, size, _, _ in generations] == [(8, 8), (7, 1)]
    assert {(applied.new, applied.repeated) for applied in repeated} == {(0, 4)}
    assert inside.redis.hlen(inside.keys.brief("7:0")) == 97
    assert found(one, inside, keeps_open=False) == []


def _foreign(key: Callable[[Inside], str]) -> Callable[[Inside], Any]:
    return lambda inside: inside.redis.rpush(key(inside), "foreign")


BROKEN: dict[str, Callable[[Inside], Any]] = {
    "the generations": _foreign(lambda inside: inside.keys.briefs),
    "the texts": _foreign(lambda inside: inside.keys.brief_texts(1)),
    "a hash": lambda inside: [inside.redis.rpush(inside.keys.brief(f"1:{place}"), "x") for place in range(256)],
    "full texts": lambda inside: inside.redis.hset(
        inside.keys.brief_texts(1), mapping={f">{number}": number % 20_000 for number in range(40_000)}
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_without_a_brief_record_the_whole_one_stays(store_url: str, inside: Inside, case: str) -> None:
    """Given something else in place of a key, or no room for a text, the merge goes on, and the whole record is kept
    for `store.success_ttl`; what is not the program's is left as it is."""
    BROKEN[case](inside)
    one, began = instance(store_url), time.monotonic()

    applied = one.apply(*WHOLE_STORY)

    assert (applied.new, len(one.emitted)) == (4, 4)
    assert SUCCESS_TTL in lives(inside, began)
    assert ("WRONGTYPE" in applied.trouble) == (case != "full texts")
    assert kept(one, inside) is not None


def test_what_has_expired_is_forgotten(store_url: str, inside: Inside) -> None:
    """Given a brief record that is older than `store.success_ttl`, its task is not known any more, as any whose record
    has expired; it is swept when the next one is put beside it, an eighth of that time after the hash was begun."""
    one = instance(store_url)
    now = int(inside.redis.time()[0]) * 1000
    inside.redis.set(inside.keys.briefs, msgspec.msgpack.encode([[1, 1, now, 0]]))
    one.apply(*WHOLE_STORY)
    expire(inside)
    key = inside.keys.brief("1:0")
    ((field, text),) = inside.redis.hgetall(key).items()
    assert field == UUID(ID).bytes
    written = int.from_bytes(text[:4], "big") - int(SUCCESS_TTL) - 1
    inside.redis.hset(key, field, written.to_bytes(4, "big") + text[4:])

    assert one.apply(SUCCEEDED).new == 1

    inside.redis.expire(key, int(SUCCESS_TTL) - 1)
    one.apply(*(body | {"uuid": "another"} for body in WHOLE_STORY))
    assert inside.redis.hkeys(key) == [b"another"]


def test_check_store_compares_brief_records(store_url: str, inside: Inside) -> None:
    """Given a brief record, `check --store` tells of an index that says something else of its task."""
    one = instance(store_url)
    one.apply(*WHOLE_STORY, event("task-succeeded", at=TIME + 2, uuid="another"))
    one.apply(*(body | {"uuid": "another"} for body in WHOLE_STORY[:3]))
    expire(inside)
    assert found(one, inside) == []
    inside.redis.zadd(inside.keys.open, {ID: 1})
    inside.redis.lrem(inside.keys.newest("shop.pay"), 0, ID)
    inside.redis.rpush(inside.keys.newest("shop.other"), ID)

    texts = [one.what for one in found(one, inside)]

    assert len(texts) == 3
    assert "in open, though it has ended" in texts
    assert all(one.task_id == ID for one in found(one, inside))


def test_a_day_takes_a_third_of_the_memory(store_url: str, inside: Inside, measured: Measured) -> None:
    """Given the records of tasks as workers send them, a whole one and a brief one take what the sizing table in
    docs/operations.md is made of; so with ten minutes a day of tasks takes less than a third."""
    taken = []
    for detail_ttl in (0.0, DETAIL_TTL):
        inside.redis.flushall()
        one = instance(store_url, detail_ttl=detail_ttl)
        now = int(inside.redis.time()[0]) * 1000
        inside.redis.set(inside.keys.briefs, msgspec.msgpack.encode([[1, 16, now, 0]]))
        tasks = 16 * 36
        for first in range(0, tasks, 96):
            bodies = []
            for number in range(first, first + 96):
                new = {"uuid": f"{number * 7919:08x}-2222-4333-8444-555555555555", "root_id": None, "parent_id": None}
                worker = new | {"hostname": f"celery@app{number % 8}"}
                named = {"name": f"shop.orders.task_{number % 20}", "args": None, "kwargs": None}
                bodies += [SENT | new | named, RECEIVED | worker | named]
                bodies += [STARTED | worker, SUCCEEDED | worker | {"runtime": 0.1 + number / 7}]
            one.apply(*bodies)
        one.emitted.clear()
        whole = inside.redis.keys(inside.keys.task("*"))
        assert len(whole) == tasks
        if detail_ttl:
            inside.redis.delete(*whole)
        gone: list[bytes] = [*inside.redis.keys(inside.keys.brief("*"))] if detail_ttl else whole
        before = inside.redis.info("memory")["used_memory"]
        inside.redis.delete(*gone)
        taken.append((before - inside.redis.info("memory")["used_memory"]) / tasks)
    measured("memory of a task that succeeded", f"{taken[0]:.0f} B whole, {taken[1]:.0f} B brief")

    assert taken[0] == pytest.approx(WHOLE, rel=0.1)
    assert taken[1] == pytest.approx(BRIEF, rel=0.1)
    assert bytes_a_day(1, detail_ttl=600) * 3 < bytes_a_day(1, detail_ttl=86400)
