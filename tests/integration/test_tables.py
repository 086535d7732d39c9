"""The tables of the shared record are bounded: a flood of invented names neither fills Redis, nor keeps it busy, nor
takes the place of what is real.
"""

from __future__ import annotations

import json
import re
import time
from functools import cache
from hashlib import sha1
from typing import Any, cast

import msgspec
import pytest
from prometheus_client import generate_latest

from ha_monitor.config.schema import Config, StuckSettings
from ha_monitor.metrics.telemetry import Telemetry
from ha_monitor.outputs.line import Identity, build_line, encode_line
from ha_monitor.outputs.log import Logger
from ha_monitor.pipeline.leader import Leader
from ha_monitor.pipeline.stats import Stats
from ha_monitor.pipeline.turn import Turn
from ha_monitor.store.api import SharedRecord
from ha_monitor.store.attempts import RedisAttempts
from ha_monitor.store.duties import MAX_CALLS, MAX_WORKERS_PER_CALL, Duties
from ha_monitor.store.reader import AT_ONCE, MAX_WORKERS, StoreReader
from ha_monitor.store.redis_deliveries import RedisDeliveries
from ha_monitor.store.results import Table, Watched, Watching
from ha_monitor.store.scripts import Script, read_scripts
from ha_monitor.store.stuck import MAX_RECORDS as MAX_TASKS_LOOKED_AT
from ha_monitor.store.stuck import RedisOpenTasks
from tests.integration.storing import NODE, Inside, Instance
from tests.support.reports import NoAlarm
from tests.support.scraping import Samples
from tests.support.threads import plain_threads
from tests.unit.builders import TIME, TurnedClock, event
from tests.unit.test_line import problems
from tests.unit.test_tables import Lines

WATCHING = Watching(late_after=10.0, lost_after=60.0)
SMALL = {
    "workers": 20,
    "processes": 20,
    "producers": 5,
    "baselines": 5,
    "names": 5,
    "queues": 3,
    "open": 10,
    "waits": 10,
    "heartbeats": 50,
    "starts": 100,
}
"""Limits with which a test fills a table soon."""


def now_ms(inside: Inside) -> int:
    seconds, microseconds = inside.redis.time()
    return int(seconds * 1000 + microseconds // 1000)


@cache
def small_scripts() -> dict[str, Script]:
    """The scripts with the limits of `SMALL`."""
    scripts = {}
    for name, script in read_scripts().items():
        source = script.source
        for one, limit in SMALL.items():
            source = re.sub(rf"^  {one} = \d+,", f"  {one} = {limit},", source, flags=re.MULTILINE)
        # A loaded machine must not make two calls of one.
        source = source.replace("work = 6,", "work = 60000,")
        digest = sha1(source.encode(), usedforsecurity=False).hexdigest()
        scripts[name] = script._replace(source=source, sha=digest)
    return scripts


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the tables had the limits of `SMALL`."""
    monkeypatch.setattr("ha_monitor.store.calls.read_scripts", small_scripts)


def heartbeats(names: list[str], at: float = TIME, **changes: Any) -> list[dict[str, Any]]:
    return [event("worker-heartbeat", hostname=name, at=at, **changes) for name in names]


def invented(count: int, mark: str = "x") -> list[str]:
    return [f"{mark}{number}@nowhere" for number in range(count)]


def hear_twice(one: Instance, inside: Inside, *names: str, at: float = TIME) -> None:
    """Have two words of workers, a while apart: they are confirmed."""
    one.apply(heartbeats(list(names), at))
    for name in names:
        make_older(inside, name, 2_000)
    one.apply(heartbeats(list(names), at + 2))


def grow_up(one: Instance, inside: Inside, *names: str, at: float = TIME) -> None:
    """Have words of workers over more than ten minutes."""
    one.apply(heartbeats(list(names), at))
    for name in names:
        make_older(inside, name, 700_000)
    one.apply(heartbeats(list(names), at + 2))


OLDER = """
local record = cmsgpack.unpack(redis.call('GET', KEYS[1]))
record.f = record.f - tonumber(ARGV[1])
redis.call('SET', KEYS[1], cmsgpack.pack(record))
redis.call('ZINCRBY', KEYS[2], -tonumber(ARGV[1]), ARGV[2])
"""


EARLIER = """
for _, name in ipairs(redis.call('ZRANGE', KEYS[1], 0, -1)) do redis.call('ZINCRBY', KEYS[1], ARGV[1], name) end
"""
ALL_OLDER = """
for _, name in ipairs(redis.call('ZRANGE', KEYS[1], 0, -1)) do
  local key = ARGV[1] .. 'w:' .. name
  local record = cmsgpack.unpack(redis.call('GET', key))
  record.f = record.f - tonumber(ARGV[2])
  redis.call('SET', key, cmsgpack.pack(record))
end
"""


def age(inside: Inside, by: int) -> None:
    """As if nothing had been heard of any worker for so many ms, which were there for as long before."""
    for key in (inside.keys.workers, inside.keys.unconfirmed, inside.keys.young):
        inside.redis.eval(EARLIER, 1, key, -by)


def make_older(inside: Inside, name: str, by: int) -> None:
    """As if a worker had been heard of first so many ms earlier."""
    inside.redis.eval(OLDER, 2, inside.keys.worker(name), inside.keys.unconfirmed, by, name)


def watch(one: Instance, duties: Duties | None = None) -> Watched:
    watched = (duties or Duties(one.store)).watch(WATCHING, [], may_declare_lost=True, watermark=(0.0, 0.0))
    assert watched is not None
    one.announce(watched.items)
    return watched


def table(watched: Watched, name: str) -> Table:
    return next(one for one in watched.tables if one.name == name)


def silence(inside: Inside, *names: str, seconds: float = 61) -> None:
    inside.redis.zadd(inside.keys.workers, dict.fromkeys(names, now_ms(inside) - int(seconds * 1000)))


# --- workers -------------------------------------------------------------------------------


@pytest.mark.usefixtures("small")
def test_a_flood_of_invented_workers_displaces_no_real_one(store_url: str, inside: Inside) -> None:
    """Given real workers, also one that is silent, and a thousand invented ones, the table is full, the real ones are
    in it, and what was refused is counted.
    """
    one = Instance(store_url).start()
    one.tick()
    real = ["a@host", "b@host"]
    hear_twice(one, inside, *real)
    silence(inside, "b@host", seconds=600)
    for start in range(0, 1000, 100):
        one.apply(heartbeats(invented(1000)[start : start + 100]))
    watched = watch(one)

    kept = {name.decode() for name in inside.redis.zrange(inside.keys.workers, 0, -1)}
    assert kept >= set(real)
    assert len(kept) == SMALL["workers"]
    assert table(watched, "workers") == Table("workers", 20, 20, 1000 - 18)
    assert len(list(inside.redis.scan_iter(inside.keys.worker("*")))) == 20
    assert inside.redis.zcard(inside.keys.processes) == 20


@pytest.mark.usefixtures("small")
def test_a_real_worker_finds_room_after_a_flood(store_url: str, inside: Inside) -> None:
    """Given a full table of workers that were heard of once, a new one takes the place of one of them ten seconds
    later, and keeps its own once it was heard of again.
    """
    one = Instance(store_url).start()
    names = invented(SMALL["workers"])
    one.apply(heartbeats(names))
    one.apply(heartbeats(["new@host"]))
    assert inside.redis.zscore(inside.keys.workers, "new@host") is None
    for name in names:
        make_older(inside, name, 11_000)
    hear_twice(one, inside, "new@host", at=TIME + 10)
    one.apply(heartbeats(invented(100, "y")))

    assert inside.redis.zscore(inside.keys.workers, "new@host") is not None
    assert inside.redis.zcard(inside.keys.workers) == SMALL["workers"]
    assert inside.redis.zscore(inside.keys.unconfirmed, "new@host") is None


@pytest.mark.usefixtures("small")
def test_confirmed_workers_make_room_when_silent_for_an_hour(store_url: str, inside: Inside) -> None:
    """Given a full table of workers that were there for long, a new one is refused, until one of them was silent for an
    hour.
    """
    one = Instance(store_url).start()
    names = invented(SMALL["workers"])
    grow_up(one, inside, *names)
    one.apply(heartbeats(["new@host"]))
    assert inside.redis.zscore(inside.keys.workers, "new@host") is None
    silence(inside, names[3], seconds=3700)
    one.apply(heartbeats(["new@host"], at=TIME + 4))

    kept = {name.decode() for name in inside.redis.zrange(inside.keys.workers, 0, -1)}
    assert kept == {*names, "new@host"} - {names[3]}


@pytest.mark.usefixtures("small")
def test_who_fell_silent_after_a_short_life_makes_room(store_url: str, inside: Inside) -> None:
    """Given invented workers that were confirmed and real ones that were there for long or go on, a new one is refused
    while all are heard of, takes the place of an invented one ten seconds later, and keeps it; the real ones, also one
    that was silent for half an hour, stay through every flood.
    """
    one = Instance(store_url).start()
    grow_up(one, inside, "old@host", "silent@host")
    silence(inside, "silent@host", seconds=1800)
    hear_twice(one, inside, "young@host", *invented(SMALL["workers"] - 3))
    one.apply(heartbeats(["new@host"]))
    assert inside.redis.zscore(inside.keys.workers, "new@host") is None

    at = TIME + 10
    for flood in range(5):
        age(inside, 11_000)
        one.apply(heartbeats(["new@host", "young@host"], at + flood))
        if flood == 0:
            make_older(inside, "new@host", 2_000)
        one.apply(heartbeats(["new@host", "young@host"], at + flood + 0.5))
        for again in (0, 2):
            one.apply(heartbeats(invented(100, f"{flood}-"), at + flood + again))
            inside.redis.eval(ALL_OLDER, 1, inside.keys.unconfirmed, inside.keys.prefix, 2_000)
        kept = {name.decode() for name in inside.redis.zrange(inside.keys.workers, 0, -1)}
        assert kept >= {"old@host", "silent@host", "young@host", "new@host"}, flood
        assert len(kept) == SMALL["workers"]


@pytest.mark.usefixtures("small")
def test_a_flood_of_confirmed_workers_is_over_ten_seconds_later(store_url: str, inside: Inside) -> None:
    """Given more invented workers than there is room for that were each heard of twice, a real one is known from its
    next heartbeat on once they were silent for ten seconds, and confirmed by the one after it; those that were there
    stay. The table is small, so that the flood itself lasts no ten seconds on a loaded machine.
    """
    one = Instance(store_url).start()
    grow_up(one, inside, "old@host")
    for at in (TIME, TIME + 2):
        one.apply(heartbeats(invented(3 * SMALL["workers"]), at))
        inside.redis.eval(ALL_OLDER, 1, inside.keys.unconfirmed, inside.keys.prefix, 2_000)
    assert inside.redis.zcard(inside.keys.workers) == SMALL["workers"]
    assert inside.redis.zcard(inside.keys.young) == SMALL["workers"] - 1
    age(inside, 11_000)
    one.apply(heartbeats(["new@host"]))
    assert inside.redis.zscore(inside.keys.workers, "new@host") is not None
    make_older(inside, "new@host", 2_000)
    one.apply(heartbeats(["new@host"], TIME + 2))

    assert inside.redis.zscore(inside.keys.unconfirmed, "new@host") is None
    assert inside.redis.zscore(inside.keys.workers, "old@host") is not None
    assert inside.redis.zcard(inside.keys.workers) == SMALL["workers"]


@pytest.mark.usefixtures("small")
def test_who_is_heard_of_makes_room_for_nobody(store_url: str, inside: Inside) -> None:
    """Given a full table whose workers were silent for a while, when one message tells of all of them and of a new one,
    they stay, and the table is no longer than it may be.
    """
    one = Instance(store_url).start()
    known = invented(SMALL["workers"])
    hear_twice(one, inside, *known)
    age(inside, 11_000)

    one.apply(heartbeats([*known[:10], "new@host", *known[10:]], TIME + 4))

    assert {name.decode() for name in inside.redis.zrange(inside.keys.workers, 0, -1)} == set(known)


def test_who_was_heard_of_once_is_forgotten_after_an_hour(one: Instance, inside: Inside) -> None:
    """Given a worker of which one word came, and one of which two came, only the second is known an hour later."""
    one.tick()
    hear_twice(one, inside, "real@host")
    one.apply(heartbeats(["once@host"]))
    make_older(inside, "once@host", 3_700_000)
    watch(one)

    assert inside.redis.zrange(inside.keys.workers, 0, -1) == [b"real@host"]
    assert not inside.redis.exists(inside.keys.worker("once@host"))


def test_the_lines_of_a_flood_are_few_and_say_how_many(one: Instance, inside: Inside) -> None:
    """Given 2,000 invented workers and a real one that fall silent, the real one has its line, some of the others have,
    and one line says how many more there are, though it takes several calls to look at them.
    """
    one.tick()
    hear_twice(one, inside, "real@host")
    names = invented(2000)
    for start in range(0, 2000, 200):
        one.apply(heartbeats(names[start : start + 200]))
    silence(inside, "real@host", *names)
    duties = Duties(one.store)
    for _ in range(4):
        watch(one, duties)

    events = [item.entry.event for item in one.emitted]
    named = [one.worker for one in events if one.type == "worker-lost"]
    (overflow,) = [item for item in one.emitted if item.entry.event.type == "workers-lost"]
    assert "real@host" in named
    assert len(named) == 21
    line = json.loads(
        encode_line(build_line(overflow, Identity("node", "1", "host", 1), "2026-01-01T00:00:00.000000Z"))
    )
    assert problems(line) == []
    assert (line["level"], line["count"]) == ("warning", 1980)
    assert set(line["workers"]) <= set(names)
    assert len({item.entry.event.id for item in one.emitted}) == len(one.emitted)


def test_a_thousand_real_workers_that_are_lost_are_each_named(one: Instance, inside: Inside) -> None:
    """Given a fleet of a thousand workers that all fall silent, each has its line, and all are seen at each look."""
    one.tick()
    names = invented(1000)
    for start in range(0, 1000, 250):
        hear_twice(one, inside, *names[start : start + 250])
    duties = Duties(one.store)
    assert {worker.name for worker in watch(one, duties).workers} == set(names)
    silence(inside, *names)
    states = {worker.state for worker in watch(one, duties).workers}

    assert states == {"lost"}
    lost = [item.entry.event.worker for item in one.emitted if item.entry.event.type == "worker-lost"]
    assert sorted(lost) == sorted(names)


def test_many_workers_are_looked_at_in_turns_and_none_is_left_out(one: Instance, inside: Inside) -> None:
    """Given more workers than are looked at at a time, no call looks at many, and some times later all were seen."""
    one.tick()
    names = invented(3 * MAX_WORKERS_PER_CALL * MAX_CALLS)
    pipe = inside.redis.pipeline(transaction=False)
    for start in range(0, len(names), 1000):
        pipe.zadd(inside.keys.workers, dict.fromkeys(names[start : start + 1000], now_ms(inside)))
    pipe.execute()
    duties = Duties(one.store)
    inside.redis.config_resetstat()
    first = watch(one, duties)

    read = inside.redis.info("commandstats")["cmdstat_get"]["calls"]
    assert read < 1.5 * MAX_WORKERS_PER_CALL * MAX_CALLS
    assert len(first.workers) < len(names)
    for _ in range(3):
        last = watch(one, duties)
    assert {worker.name for worker in last.workers} == set(names)


class Reconciles:
    """Makes facts of events that never came; none is needed here."""

    def reconcile(self, event: dict[str, Any]) -> list[Any]:
        return []


@pytest.mark.usefixtures("small")
def test_the_leader_says_once_that_a_table_is_full_and_exports_it(store_url: str) -> None:
    """Given a leader and floods at each of its ticks, one line says which table is full, and its metrics have its size,
    its limit, and how many were refused.
    """
    one = Instance(store_url).start()
    lines, clock, config = Lines(), TurnedClock(), Config()
    record = SharedRecord(
        *(one.store, Duties(one.store), RedisOpenTasks(one.store, config.stuck)),
        *(RedisAttempts(one.store), RedisDeliveries(one.store)),
    )
    stats = Stats()
    telemetry = Telemetry(config, clock, stats)
    leader = Leader(
        *(record, config, telemetry, cast("Logger", lines), clock),
        stats=stats,
        publishers=NoAlarm(),
        investigator=None,
        reconciler=Reconciles(),
        threads=plain_threads(clock),
    )
    turn = Turn(clock)
    for number in range(5):
        one.apply(heartbeats(invented(30, f"{number}-")))
        clock.now += 1
        turn.begin()
        leader.after_tick(one.tick())
        one.announce(leader.perform(turn))

    (fields,) = [fields for event, fields in lines.written if event == "table-full"]
    assert (fields["table"], fields["limit"], fields["turned_away"]) == ("workers", SMALL["workers"], 10)
    telemetry.leads(clock.now + 5, followed=False)
    found = Samples(generate_latest(telemetry.registry).decode())
    for metric, value in (("size", 20), ("limit", 20), ("turned_away", 130)):
        assert found.sum(f"ha_monitor_table_{metric}", table="workers") == value


def test_what_was_found_before_another_one_led_is_announced(
    one: Instance, inside: Inside, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given a leader that ceases to lead between two calls of one look, it announces what the first of them found."""
    one.tick()
    names = invented(2 * MAX_WORKERS_PER_CALL)
    inside.redis.zadd(inside.keys.workers, dict.fromkeys(names, now_ms(inside) - 61_000))
    duties = Duties(one.store)
    look = duties._watch_some

    def look_and_lose(*arguments: Any, **options: Any) -> Watched | None:
        watched = look(*arguments, **options)
        inside.redis.set(inside.keys.leader, "another")
        return watched

    monkeypatch.setattr(duties, "_watch_some", look_and_lose)
    watch(one, duties)

    assert len(one.emitted) >= MAX_WORKERS_PER_CALL
    assert len(one.emitted) == inside.outbox(one.store.token)
    assert duties.watch(WATCHING, [], may_declare_lost=True, watermark=(0.0, 0.0)) is None


# --- the other tables ----------------------------------------------------------------------


@pytest.mark.usefixtures("small")
def test_names_queues_and_tasks_have_limits(store_url: str, inside: Inside) -> None:
    """Given more names of tasks, queues and open tasks than the tables take, those that were there first are there,
    the others are counted as refused, and all events are merged.
    """
    one = Instance(store_url, stuck=StuckSettings()).start()
    one.tick()
    applied = one.apply(*(event("task-sent", uuid=f"t{n}", name=f"n{n}") for n in range(30)))
    one.apply(
        *(event("task-received", uuid=f"r{n}", name=f"n{n}") for n in range(30)),
        *(event("task-succeeded", uuid=f"r{n}", at=TIME + 1) for n in range(30)),
    )
    duties = Duties(one.store)
    queues = [f"q{n}" for n in range(9)]
    duties.watch(WATCHING, queues[:2], may_declare_lost=True, watermark=(0.0, 0.0))
    watched = duties.watch(WATCHING, queues, may_declare_lost=True, watermark=(0.0, 0.0))
    assert watched is not None

    assert applied.new == 30
    for name, key in (("producers", inside.keys.producers), ("baselines", inside.keys.baselines)):
        assert inside.redis.hlen(key) <= SMALL[name]
        assert table(watched, name).refused >= 25 - SMALL[name]
    assert set(watched.queues) >= {"q0", "q1"}
    assert (len(watched.queues), table(watched, "queues").refused) == (3, 6)
    one.apply(*(event("task-sent", uuid=f"u{n}", name="n0") for n in range(30)))
    assert inside.redis.zcard(inside.keys.open) <= 60
    assert table(watch(one, duties), "open").refused > 0


@pytest.mark.usefixtures("small")
def test_names_that_nobody_sends_any_more_make_room(store_url: str, inside: Inside) -> None:
    """Given a full table of names that were sent, once five minutes are over without them a new name is taken."""
    one = Instance(store_url).start()
    one.tick()
    one.apply(*(event("task-sent", uuid=f"t{n}", name=f"n{n}") for n in range(5)))
    one.apply(event("task-sent", uuid="new", name="new"))
    assert not inside.redis.hexists(inside.keys.producers, "new")
    inside.redis.hset(inside.keys.producers, mapping=dict.fromkeys((f"n{n}" for n in range(5)), 1))
    watch(one)
    one.apply(event("task-sent", uuid="new", name="new", at=TIME + 1))

    assert inside.redis.hkeys(inside.keys.producers) == [b"new"]


@pytest.mark.usefixtures("small")
def test_baseline_run_times_of_few_runs_make_room(store_url: str, inside: Inside) -> None:
    """Given a full table of run times of which one name has many runs, the look at it makes room by the others."""
    one = Instance(store_url, stuck=StuckSettings()).start()
    one.tick()
    inside.redis.hset(
        inside.keys.baselines, mapping={"real": "100 2.000000", **{f"x{n}": "1 1.000000" for n in range(4)}}
    )
    watch(one)

    assert inside.redis.hgetall(inside.keys.baselines) == {b"real": b"50 2.000000"}


@pytest.mark.usefixtures("small")
def test_live_processes_keep_their_place(store_url: str, inside: Inside) -> None:
    """Given processes that are alive and a flood of starts of invented ones, the live ones stay; of those that were
    silent for a minute, the oldest makes room, and leaves nothing behind.
    """
    one = Instance(store_url).start()
    live = [f"p{n}@host" for n in range(SMALL["processes"] - 1)]
    one.apply(heartbeats(live), [event("task-started", uuid="s", hostname="silent@host")])
    one.apply([event("task-started", uuid=f"t{n}", hostname=f"x{n}@nowhere") for n in range(50)])
    assert {name.partition(b"\x1f")[0].decode() for name in inside.redis.zrange(inside.keys.processes, 0, -1)} == {
        *live,
        "silent@host",
    }
    assert len(list(inside.redis.scan_iter("*:p:*"))) == 1
    inside.redis.zadd(inside.keys.processes, {"silent@host\x1f4711": now_ms(inside) - 61_000})
    one.apply([event("task-started", uuid="new", hostname="new@host")])

    assert inside.redis.zscore(inside.keys.processes, "new@host\x1f4711") is not None
    assert list(inside.redis.scan_iter("*:p:silent*")) == []


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("kind", ["task-started", "worker-heartbeat"])
def test_what_is_kept_of_one_process_has_a_limit(store_url: str, inside: Inside, kind: str) -> None:
    """Given a process that says more than is kept of one, its account begins anew, and the line of a full table is
    due.
    """
    one = Instance(store_url).start()
    one.tick()
    one.apply([event("worker-heartbeat", processed=1)])  # without one there is no account
    one.apply([event(kind, at=TIME + 1 + n, uuid=f"t{n}", processed=n) for n in range(150)])

    assert inside.redis.zcard(inside.keys.processes) == 1
    assert [key for pattern in ("*:p:*", "*:b:*") for key in inside.redis.scan_iter(pattern)] == []
    name = {"task-started": "starts", "worker-heartbeat": "heartbeats"}[kind]
    assert table(watch(one), name).refused >= 150


# --- status --------------------------------------------------------------------------------


def test_status_of_a_hundred_thousand_invented_workers(one: Instance, inside: Inside) -> None:
    """Given a hundred thousand workers in a store, as of a version without limits, the reader shows those heard of
    last and says how many more there are; no call reads many.
    """
    hear_twice(one, inside, "real@host")
    past = now_ms(inside) - 10_000
    for start in range(0, 100_000, 10_000):
        names = [f"x{n}@nowhere" for n in range(start, start + 10_000)]
        inside.redis.zadd(inside.keys.workers, dict.fromkeys(names, past))
    reader = StoreReader(one.settings, NODE)
    reader.connect()
    inside.redis.config_resetstat()
    workers = reader.workers(late_after=10.0)
    reader.close()

    assert len(workers.entries) == MAX_WORKERS
    assert workers.more == 100_001 - MAX_WORKERS
    assert "real@host" in {entry.name for entry in workers.entries}
    stats = inside.redis.info("commandstats")
    assert stats["cmdstat_eval"]["calls"] == MAX_WORKERS // AT_ONCE


# --- forged tasks that are overdue ---------------------------------------------------------

LIMITS = StuckSettings(sent_after=100, received_after=200, started_after=400, run_time_factor=0)


def forge(inside: Inside, count: int, *, names: int) -> None:
    """Open tasks with ancient times, of so many different names."""
    pipe = inside.redis.pipeline(transaction=False)
    for number in range(count):
        uuid = f"forged{number}"
        facts = {"n": f"forged.name{number % names}", "st": 1_000_000, "d": 1_000_000, "q": "celery"}
        pipe.set(inside.keys.task(uuid), msgspec.msgpack.encode(facts) + msgspec.msgpack.encode("x" * 12))
        pipe.zadd(inside.keys.open, {uuid: 101_000})
    pipe.execute()


def looks_until_found(tasks: RedisOpenTasks, uuid: str, most: int) -> int:
    for number in range(1, most + 1):
        candidates = tasks.candidates()
        assert candidates is not None
        if uuid in {candidate.task_id for candidate in candidates.tasks}:
            return number
    raise AssertionError(f"not found within {most} looks")


@pytest.mark.parametrize("names", [1, 20_000], ids=["of one name", "each of its own name"])
def test_forged_tasks_that_are_overdue_do_not_push_a_real_one_back(store_url: str, inside: Inside, names: int) -> None:
    """Given 20,000 forged tasks with ancient times and one real task that is stuck, of a known worker, it is found as
    soon as all of them were looked at once, however many of them could be asked for.
    """
    one = Instance(store_url, stuck=LIMITS).start()
    one.store.tick(b"{}", [], watermark_age=0.0)
    hear_twice(one, inside, "celery@host")
    # Its events may have waited in the queue: no watermark says that all of then is merged.
    assert Duties(one.store).watch(WATCHING, [], may_declare_lost=False) is not None
    forge(inside, 20_000, names=names)
    began = time.time() - 500
    for kind in ("task-sent", "task-received", "task-started"):
        one.apply(event(kind, at=began, uuid="real"))
    tasks = RedisOpenTasks(one.store, LIMITS)

    assert looks_until_found(tasks, "real", 100) <= 20_000 / MAX_TASKS_LOOKED_AT + 1


def test_all_forged_tasks_get_their_turn_too(store_url: str, inside: Inside) -> None:
    """Given more overdue tasks of many names than are handed out at once, each is once before any is again."""
    one = Instance(store_url, stuck=LIMITS).start()
    one.store.tick(b"{}", [], watermark_age=0.0)
    forge(inside, 3000, names=40)
    tasks = RedisOpenTasks(one.store, LIMITS)
    found: list[str] = []
    for _ in range(30):
        candidates = tasks.candidates()
        assert candidates is not None
        found += [candidate.task_id for candidate in candidates.tasks]

    assert len(found) == len(set(found)) == 3000


def test_whoever_reads_knows_a_worker_that_was_heard_of_once(one: Instance, inside: Inside) -> None:
    """Given a worker that was heard of twice, a while apart, and a name that said once that it had started, both are
    read, and only the first is known to be none that somebody made up."""
    hear_twice(one, inside, "real@host")
    one.apply([event("worker-online", hostname="made@up", at=TIME, pid=7)])
    reader = StoreReader(one.settings, NODE)
    reader.connect()

    made_up, real = reader.workers(late_after=10.0).entries
    reader.close()

    assert (made_up.name, made_up.online, made_up.is_confirmed) == ("made@up", TIME, False)
    assert (real.name, real.is_confirmed) == ("real@host", True)
