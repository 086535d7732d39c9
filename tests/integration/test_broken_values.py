"""A broken value in the store breaks one series or one row: never a scrape, the leader's tick, or `status`."""

from __future__ import annotations

import struct

import msgspec
import pytest

from ha_monitor.store.duties import Duties
from ha_monitor.store.reader import StoreReader
from tests.integration.storing import NODE, Inside, Instance
from tests.integration.test_counting import counter, samples
from tests.integration.test_watching import watch
from tests.unit.builders import TIME, event

BROKEN = {
    "no MessagePack": b"\xc1 nonsense",
    "a number": msgspec.msgpack.encode(7),
    "words that are none": msgspec.msgpack.encode({"b": 5, "s": ["x"], "f": "y"}),
    "fields that are none": msgspec.msgpack.encode({"b": [1.0, "x", 3], "s": [float("nan"), "x", {}, 7]}),
    "an infinite number": msgspec.msgpack.encode(
        {"b": [1e15, "x", {"processed": float("inf"), "active": float("nan")}]}
    ),
    "texts for numbers": msgspec.msgpack.encode({"b": [1e15, "x", {"active": "inf", "pid": "x", "processed": 9e17}]}),
}


@pytest.mark.parametrize("value", BROKEN.values(), ids=BROKEN.keys())
def test_a_broken_worker_record_breaks_one_row(one: Instance, inside: Inside, value: bytes) -> None:
    """Given a worker whose record in the store is broken, the leader and `status` see the others as ever, and that one
    by its silence; its next heartbeat is merged.
    """
    one.tick()
    one.apply([event("worker-heartbeat", hostname=name) for name in ("a@host", "broken@host", "c@host")])
    inside.redis.set(inside.keys.worker("broken@host"), value)
    watched = watch(one)
    reader = StoreReader(one.settings, NODE)
    reader.connect()
    entries = {entry.name: entry for entry in reader.workers(late_after=10.0).entries}

    assert {worker.name: worker.state for worker in watched.workers} == dict.fromkeys(
        ("a@host", "broken@host", "c@host"), "online"
    )
    assert {worker.name: worker.active for worker in watched.workers} == {"a@host": 1, "broken@host": None, "c@host": 1}
    assert entries["a@host"].heartbeat["active"] == entries["c@host"].heartbeat["active"] == 1
    assert "broken@host" in entries
    one.apply(event("worker-heartbeat", hostname="broken@host", at=TIME + 2))
    assert next(worker for worker in watch(one).workers if worker.name == "broken@host").active == 1
    reader.close()


@pytest.mark.parametrize("kept", [b"lost", b"lost x y z", b"lost nan nan nan", b"lost 1 2", b"\xff"])
def test_a_broken_state_of_a_worker_is_derived_anew(one: Instance, inside: Inside, kept: bytes) -> None:
    """Given a kept state that says nothing, the worker's state follows from its silence."""
    one.tick()
    one.apply(event("worker-heartbeat", hostname="a@host"))
    inside.redis.hset(inside.keys.liveness, "a@host", kept)

    assert [worker.state for worker in watch(one).workers] == ["online"]


PROCESS = "celery@host\x1f4711"


def account(one: Instance, inside: Inside, *beats: tuple[float, float], state: bytes | None = None) -> list[int]:
    """What is reported as lost of a process with such heartbeats (time, processed) and such a state in the store."""
    came = inside.redis.time()[0] * 1000 - 60_000
    packed = b"".join(struct.pack(">dddd", at * 1e6, processed, came, 0) for at, processed in beats)
    inside.redis.zadd(inside.keys.processes, {PROCESS: came})
    inside.redis.set(inside.keys.prefix + "b:" + PROCESS, packed)
    inside.redis.set(inside.keys.prefix + "p:" + PROCESS, struct.pack(">d", (TIME + 3) * 1e6))
    if state is not None:
        inside.redis.set(inside.keys.prefix + "l:" + PROCESS, state)
    one.store.tick(b"{}", [], watermark_age=0.0)
    items = Duties(one.store).losses()
    one.announce(items)
    return [item.entry.event.fields["lost"] for item in items]


GOOD = {
    **{"at": TIME * 1e6, "done": 5, "count": 0, "base": 0, "level": 5, "low": 5, "highs": [5.0]},
    **{"silent": 0, "unsent": 0, "sends": True},
}


def test_a_good_state_finds_what_was_lost(one: Instance, inside: Inside) -> None:
    """Given a good state and heartbeats that say that 5 runs were begun of which one is known, 4 are lost."""
    beats = [(TIME + 2 * n, 5 + min(5, 5 * n)) for n in range(1, 4)]

    assert account(one, inside, *beats, (TIME + 8, 10), state=msgspec.msgpack.encode(GOOD)) == [4]


@pytest.mark.parametrize(
    "state",
    [
        pytest.param(b"\xc1", id="no MessagePack"),
        pytest.param(msgspec.msgpack.encode([1]), id="an array"),
        pytest.param(msgspec.msgpack.encode({**GOOD, "level": float("-inf")}), id="infinite"),
        pytest.param(msgspec.msgpack.encode({**GOOD, "level": -9e17}), id="far too small"),
        pytest.param(msgspec.msgpack.encode({**GOOD, "highs": [float("nan")]}), id="no number"),
        pytest.param(msgspec.msgpack.encode({**GOOD, "done": "x"}), id="a text"),
        pytest.param(msgspec.msgpack.encode({**GOOD, "base": None}), id="nothing"),
        pytest.param(msgspec.msgpack.encode({**GOOD, "count": None}), id="a part is missing"),
    ],
)
def test_a_broken_account_begins_anew(one: Instance, inside: Inside, state: bytes) -> None:
    """Given a state of a process that cannot be true, nothing is reported, and the account goes on from there."""
    beats = [(TIME + 2 * n, 10.0) for n in range(1, 5)]

    assert account(one, inside, *beats, state=state) == []
    assert account(one, inside, *beats) == []


@pytest.mark.parametrize("processed", [float("inf"), float("nan"), 9e17, 900_000_000, -1.0, 7.5])
def test_a_number_of_runs_that_is_none_is_never_reported(one: Instance, inside: Inside, processed: float) -> None:
    """Given a heartbeat in the store, as of a version that let it in, that tells of more runs than can be, or of no
    number, no loss is reported, now or with the heartbeats that follow.
    """
    good = msgspec.msgpack.encode(GOOD)
    beats = [(TIME + 2, processed), (TIME + 4, processed), (TIME + 6, processed), (TIME + 8, processed)]
    assert account(one, inside, *beats, state=good) == []
    more = [(TIME + 2 * n, 10.0) for n in range(6, 12)]

    assert account(one, inside, *more) == []


def test_broken_counts_break_one_series(store_url: str, inside: Inside) -> None:
    """Given fields in the counts whose names or values are broken, the scrape shows all others."""
    one = counter(store_url)
    one.apply(event("task-received"))
    key = one.store.counts.key
    (good,) = [field for field in inside.redis.hkeys(key) if field.startswith(b"2")]
    for name, value in {
        "l\x1fa@host": "inf",
        "l\x1fb@host": "nan",
        "l\x1fc@host": "3",
        "99\x1fa\x1fb\x1fc\x1fd": "1",
        "²\x1fa\x1fb\x1fc\x1fd": "1",
        "r\x1fa\x1fb\x1fc\x1fnan": "1",
        "": "1",
        "\x1f": "x",
        "l": "1",
        "z": "-5",
        "2\x1fa\x1fb\x1fc\x1f": "9" * 30,
        "2\x1fb\x1fb\x1fc\x1f": "",
    }.items():
        inside.redis.hset(key, name, value)

    found = samples(one)
    assert found.sums("celery_task_received_total", by="name")["shop.pay"] == int(inside.redis.hget(key, good))
    assert found.sum("ha_monitor_events_lost_total", worker="c@host") == 3
    one.apply(event("task-received", at=TIME + 1))
    assert samples(one).sums("celery_task_received_total", by="name")["shop.pay"] == 2


@pytest.mark.parametrize("stored", ["{", "[]", '{"at": "x"}', ""])
def test_a_broken_report_of_a_takeover_stops_nobody(one: Instance, inside: Inside, stored: str) -> None:
    """Given a list of takeovers whose first entry cannot be read, the tick, the duties and `status` work."""
    inside.redis.lpush(inside.keys.takeovers, stored)
    one.store.tick(b"{}", [], watermark_age=0.0)
    assert account(one, inside, (TIME + 2, 5)) == []
    reader = StoreReader(one.settings, NODE)
    reader.connect()

    assert len(reader.latest("takeovers", 5)) == 1
    assert len(reader.instances()) == 1
    inside.redis.hset(inside.keys.instance(one.store.token), mapping={"who": "{", "stats": "[]", "seen": "x"})
    (entry,) = reader.instances()
    reader.close()
    assert (entry.who, entry.stats) == ({}, {})
