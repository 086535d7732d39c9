"""Something else in place of any key of the program, of any type: the fleet goes on, and a line names the key; where
announcements would be lost, it waits until somebody has looked at it.
"""

from __future__ import annotations

import json
import re
import struct
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
import redis

from ha_monitor.errors import LeaseLost, StoreUnavailable
from ha_monitor.events.error_group import group_id
from ha_monitor.events.fingerprint import fingerprint_of
from ha_monitor.metrics.health import Health
from ha_monitor.outputs.line import Identity
from ha_monitor.outputs.log import Logger
from ha_monitor.pipeline.announcements import Announcements
from ha_monitor.pipeline.report import Report
from ha_monitor.pipeline.stats import Stats
from ha_monitor.pipeline.store_link import StoreLink
from ha_monitor.schedules.learned import Habit
from ha_monitor.schedules.model import Source
from ha_monitor.store.attempts import RedisAttempts
from ha_monitor.store.deliveries import Changes, Claim, Part, Taken
from ha_monitor.store.duties import Duties
from ha_monitor.store.incidents import Incident, IncidentChanges, Phase, Severity
from ha_monitor.store.keys import TYPES, Keys
from ha_monitor.store.reader import StoreReader
from ha_monitor.store.redis_deliveries import RedisDeliveries
from ha_monitor.store.results import Recovered, Watching
from ha_monitor.store.schedules import Coverage, KnownSource, ScheduleChanges
from ha_monitor.store.stuck import RedisOpenTasks
from tests.integration.storing import NODE, Inside, Instance
from tests.integration.test_all_or_nothing import LIMITS, life, one_counting
from tests.support.instances import Fleet
from tests.support.process import wait_for_value, wait_until
from tests.support.recording import Recorded, publish
from tests.support.store_contract import a_judgement
from tests.support.threads import ConnectingAtOnce
from tests.unit.builders import TIME, event
from tests.unit.test_store_link import Nothing

FOREIGN: dict[str, Callable[[redis.Redis, str], Any]] = {
    "string": lambda client, key: client.set(key, "foreign"),
    "list": lambda client, key: client.rpush(key, "foreign"),
    "set": lambda client, key: client.sadd(key, "foreign"),
    "hash": lambda client, key: client.hset(key, "foreign", "x"),
    "zset": lambda client, key: client.zadd(key, {"foreign": 1}),
    "stream": lambda client, key: client.xadd(key, {"foreign": "x"}),
}
PROCESS = "celery@host\x1f4711"
ERROR = event("task-failed")
GROUP = group_id(None, fingerprint_of(ERROR["exception"], ERROR["traceback"]).digest)
BY_PREFIX = {
    "t:": ("string", "waits-0"),
    "w:": ("string", "celery@host"),
    "b:": ("string", PROCESS),
    "p:": ("string", PROCESS),
    "l:": ("string", PROCESS),
    "n:": ("list", "shop.pay"),
    "c:": ("list", "life-0"),
    "a:": ("string", "message"),
    "g:": ("string", GROUP),
    "instance:": ("hash", "{token}"),
    "outbox:": ("list", "{token}"),
    "counts:": ("hash", "1"),
}
"""The keys of which there are many: type, and one that the round below uses. What is in place of an id that was seen,
`s:`, is never read.
"""


class Taking:
    """Stands for the announcements of an instance."""

    def __init__(self, one: Instance) -> None:
        self._one = one

    def __len__(self) -> int:
        return 0

    def recover(self, recovered: Recovered) -> None:
        self._one.announce(recovered.items)

    def start_anew(self) -> None: ...

    def forget(self) -> None: ...


class Going:
    """An instance that does all that one does with the store, and connects anew as one does."""

    def __init__(self, url: str, name: str = "1") -> None:
        self.one = Instance(url, counting=one_counting(name), stuck=LIMITS)
        self.log = Nothing()
        self.troubles: list[str] = []
        self.link = StoreLink(
            self.one.store,
            announcements=cast(Announcements, Taking(self.one)),
            stats=Stats(),
            health=Health(self.one.clock, 30.0, 5.0),
            report=cast(Report, Nothing()),
            logger=cast(Logger, self.log),
            clock=self.one.clock,
            identity=Identity("tests", name, "host", 1),
            threads=ConnectingAtOnce(self.one.clock),
            lease=5.0,
        )

    def do(self, step: Callable[[], str | None]) -> None:
        """A call, again and again until it goes through, though not for ever."""
        for _ in range(5):
            try:
                if not self.one.store.connected:
                    self.one.clock.now += self.link.remaining()
                    self.link.connect()
                trouble = step() or ""
                if trouble:
                    self.troubles.append(trouble)
                self.link.answered(trouble)
            except LeaseLost as error:
                self.troubles.append(str(error))
                self.link.lease_lost(error)
            except StoreUnavailable as error:
                self.troubles.append(str(error))
                self.link.lost(error)
            else:
                return
        raise StoreUnavailable(self.troubles[-1])

    def round(self, number: int) -> None:
        """Everything that an instance does with the store."""
        one, store = self.one, self.one.store
        duties, tasks, attempts = Duties(store), RedisOpenTasks(store, LIMITS), RedisAttempts(store)
        deliveries = RedisDeliveries(store)
        failed = event("task-failed", at=TIME + number, uuid=f"waits-{number // 2}")
        beats = [event("worker-heartbeat", at=TIME + 3 * number + n, processed=n + 2 * number) for n in range(2)]
        start = event("task-started", at=TIME + number, uuid=f"starts-{number}")
        custom = event("custom", at=TIME + number, uuid=None)
        child = event("task-sent", at=TIME + number, uuid=f"child-{number}", root_id="life-0", parent_id="life-0")

        def confirm() -> None:
            candidates = tasks.candidates()
            tasks.confirm(0, [])
            assert candidates is None or candidates.tasks is not None

        def record_outcome() -> None:
            items = one.apply(event("custom", at=TIME + 1000 + number, uuid=None), announce=False).items
            one.emitted += items
            store.record_outcome(
                (items[-1].sequence if items else store._progress.announced) + 1, [(10**7, b"retry")], [b"{}"], 10
            )

        def note() -> None:
            attempts.begin(["message"], 3)
            attempts.begin(["message"], 3)
            attempts.set_aside("other", b"{}")

        def counts() -> None:
            store.counts.read()

        def tell() -> None:
            claim, other = (Claim(f"i.{name}.{number}", name, (Part("i", Phase.FIRING, 1),), 1.0, 1) for name in "ab")
            deliveries.exchange(Changes(claimed=[claim, other], noted=[("j", "a", 1.0)]))
            deliveries.exchange(Changes(taken=[Taken(claim, time.time())]))

        def watch() -> None:
            consumes = {"celery@host": "celery"}
            duties.watch(Watching(10, 60), ["celery"], may_declare_lost=True, watermark=(0.0, 0.0), consumes=consumes)

        self._look_at_the_tail()
        incident = Incident("ab", "failing", "shop.pay", Severity.WARN, Phase.FIRING, TIME, TIME, "some fail")

        def incidents() -> None:
            one.emitted += duties.incidents(IncidentChanges([incident], [], []))

        def schedules() -> None:
            duties.schedules(
                ScheduleChanges(
                    [a_judgement()], [], {Source.CONF: KnownSource()}, Coverage(TIME, TIME), [Habit("t", 0, 0)]
                )
            )

        self.do(lambda: one.apply(life(f"life-{number}"), failed, beats, start, custom, child).trouble)
        self._let_beats_become_evaluable()
        self.do(self._tick)
        for duty in (watch, duties.losses, confirm, incidents, schedules):
            self.do(lambda duty=duty: duty() and None)  # type: ignore[misc]
        self.do(record_outcome)
        self.do(note)
        self.do(counts)
        self.do(tell)
        self.do(store.flush)

    def _look_at_the_tail(self) -> None:
        """As if somebody did."""
        inside = Inside(self.one.settings.url)
        if inside.redis.type(inside.keys.tail_wanted) == b"none":
            inside.redis.set(inside.keys.tail_wanted, 1, ex=60)

    def _let_beats_become_evaluable(self) -> None:
        """As if the heartbeats had come a minute ago."""
        inside, key = Inside(self.one.settings.url), self.one.store.keys.prefix + "b:" + PROCESS
        if inside.redis.type(key) == b"string":
            raw = cast(bytes, inside.redis.get(key))
            doubles = [list(beat) for beat in struct.iter_unpack(">dddd", raw[: len(raw) // 32 * 32])]
            inside.redis.set(key, b"".join(struct.pack(">dddd", *(at, runs, 1.0, 0)) for at, runs, _, _ in doubles))

    def _tick(self) -> str:
        ticked = self.one.store.tick(b"{}", [b"{}"], watermark_age=0.0)
        self.one.announce(ticked.items)
        return ticked.trouble

    def said(self, *lines: str) -> str:
        """The reasons in such lines."""
        return " ".join(str(fields.get("reason")) for line, fields in self.log.told if line in lines)

    def announced(self) -> Counter[str]:
        """How often each event was announced without saying that it may have been before."""
        return Counter(
            item.entry.event.id
            for item in self.one.emitted
            if not item.recovered and not item.entry.event.type.startswith(("worker-lost", "events-lost"))
        )


def one_of_many(inside: Inside, prefix: str) -> Callable[[Going], str]:
    """Gives the key of `BY_PREFIX` that an instance uses."""
    which = BY_PREFIX[prefix][1]
    return lambda going: inside.keys.prefix + prefix + which.replace("{token}", str(going.one.store.token))


def put(client: redis.Redis, key: str, kind: str) -> None:
    """In one transaction: instances that run would write the key in between."""
    with client.pipeline(transaction=True) as both:
        both.delete(key)
        FOREIGN[kind](both, key)
        both.execute()


def expected(url: str, inside: Inside) -> set[str]:
    """What is announced where nothing is in the way."""
    going = Going(url)
    for number in range(4):
        going.round(number)
    inside.let_wait_end()
    going.do(going._tick)
    assert going.troubles == []
    found = going.announced()
    assert set(found.values()) == {1}
    inside.redis.flushdb()
    return set(found)


def check(url: str, inside: Inside, key_of: Callable[[Going], str], kind: str, *, needed: bool = False) -> None:
    """With each foreign type in place of a key, after two rounds without one."""
    wanted = expected(url, inside)
    for foreign in FOREIGN:
        if foreign == kind:
            continue
        inside.redis.flushdb()
        going = Going(url)
        going.round(0)
        key = key_of(going)
        kept = inside.redis.dump(key)
        put(inside.redis, key, foreign)
        if needed:
            with pytest.raises(StoreUnavailable):
                going.round(1)
            assert key in going.said("store-unavailable"), foreign
            assert inside.redis.type(key).decode() == foreign
            inside.redis.delete(key)
            if kept is not None:
                inside.redis.restore(key, 0, kept)
        going.round(1)
        going.one.store.close()
        going.round(2)
        said = going.said("store-damaged", "lease-lost", "store-unavailable")
        # What is only ever written anew is written over; records are begun anew, and the merge says so.
        assert key in said or kind == "string", foreign
        before = len(going.troubles)
        going.round(3)
        inside.let_wait_end()
        going.do(going._tick)
        assert going.troubles[before:] == [], foreign
        found = going.announced()
        assert wanted - set(found) == set(), foreign
        assert {item for item, times in found.items() if times > 1} == set(), foreign
        if key_of(going) == key:
            assert inside.redis.type(key).decode() in (kind, "none"), foreign


@pytest.mark.parametrize("name", TYPES)
def test_something_foreign_in_place_of_a_key(store_url: str, inside: Inside, name: str) -> None:
    """Given any other type in place of a key, all that an instance does goes on after a line that names the key. Where
    announcements would be lost, nothing is merged until it is gone, and nothing is lost.
    """
    kind = TYPES[name]
    check(store_url, inside, lambda going: getattr(going.one.store.keys, name), kind.type, needed=kind.needed)


@pytest.mark.parametrize("prefix", BY_PREFIX)
def test_something_foreign_in_place_of_one_of_many_keys(store_url: str, inside: Inside, prefix: str) -> None:
    """Given any other type in place of a record, an account, an entry or an outbox, all goes on, and nothing else is
    lost by it.
    """
    check(store_url, inside, one_of_many(inside, prefix), BY_PREFIX[prefix][0])


def test_what_was_in_place_of_a_key_is_kept_for_a_while(store_url: str, inside: Inside) -> None:
    """Given something foreign in place of a key, the line says where it is afterwards."""
    put(inside.redis, inside.keys.workers, "string")
    going = Going(store_url)
    going.round(0)

    aside = inside.keys.aside + "workers"
    assert (inside.redis.get(aside), inside.redis.ttl(aside) > 0) == (b"foreign", True)
    assert aside in going.said("store-damaged")


def test_no_key_is_left_out_of_these_tests(store_url: str, inside: Inside) -> None:
    """Given all that an instance does, each key in Redis is one that these tests are about, of the type that they
    expect; and so is each that the program has a name for.
    """
    going = Going(store_url)
    going.round(0)
    going.round(1)
    named = {value: name for name, value in vars(inside.keys).items() if name not in ("prefix", "aside")}
    # These depend on the date: test_name_statistics.py, test_queue_flow.py, test_worker_runs.py
    elsewhere = ("s:", "m:", "f:", "d:")
    assert set(named.values()) == set(TYPES)
    for raw in inside.redis.scan_iter():
        key = raw.decode(errors="replace")
        kind = inside.redis.type(key).decode()
        if key in named:
            assert kind == TYPES[named[key]].type, key
        elif not key.startswith(tuple(inside.keys.prefix + mark for mark in elsewhere)):
            found = re.match(r"(\w+:)", key.removeprefix(inside.keys.prefix))
            assert found is not None
            assert found[1] in BY_PREFIX, key
            assert kind == BY_PREFIX[found[1]][0], key


def test_what_a_dead_instance_left_is_taken_over_without_its_entry(store_url: str, inside: Inside) -> None:
    """Given an instance that died with entries, and something foreign in place of its own entry, another one announces
    what it left.
    """
    dead, going = Instance(store_url).start(), Going(store_url, "2")
    dead.apply(event("custom", uuid=None, n=1), announce=False)
    put(inside.redis, inside.keys.instance(dead.store.token), "list")
    inside.let_lease_end(dead.store.token)
    going.do(lambda: going.one.stay_in_contact().trouble)

    assert going.one.types == ["custom"]
    assert going.one.emitted[0].recovered
    assert inside.keys.instance(dead.store.token) in going.troubles[0]
    assert not inside.redis.exists(inside.keys.instance(dead.store.token))


def test_an_outbox_that_is_none_stops_nobody_else(store_url: str, inside: Inside) -> None:
    """Given something foreign in place of the outbox of an instance that died, the others go on, and say at each tick
    which key it is, until it is gone.
    """
    dead, going = Instance(store_url).start(), Going(store_url, "2")
    dead.apply(event("custom", uuid=None, n=1), announce=False)
    outbox = inside.keys.outbox(dead.store.token)
    put(inside.redis, outbox, "hash")
    inside.let_lease_end(dead.store.token)
    going.do(lambda: going.one.stay_in_contact().trouble)
    going.do(lambda: going.one.apply(event("custom", uuid=None, n=2, at=TIME + 1)).trouble)

    assert outbox in going.said("store-damaged")
    assert going.one.types == ["custom"]
    inside.redis.delete(outbox)
    assert [going.one.tick().trouble for _ in range(2)] == ["", ""]
    assert inside.redis.zcard(inside.keys.leases) == 1


def test_who_only_reads_is_told_which_key_it_is(one: Instance, inside: Inside) -> None:
    """Given something foreign in place of a key that stays where it is, `status` names it."""
    put(inside.redis, inside.keys.waiting, "list")
    reader = StoreReader(one.settings, NODE)
    reader.connect()

    with pytest.raises(StoreUnavailable, match=re.escape(inside.keys.waiting)):
        reader.counts()


def test_instances_whose_shared_keys_are_foreign_go_on(tmp_path: Path, broker_url: str, store_url: str) -> None:
    """Given two running instances and something foreign in place of all shared keys that may be set aside, at once,
    every task that is published then is announced, one of them leads, and each of the keys that they read is named.
    """
    client, keys = redis.Redis.from_url(store_url), Keys("ha-monitor", "fleet")

    def tasks(mark: str) -> list[Recorded]:
        bodies = [body for number in range(20) for body in life(f"{mark}-{number}")]
        return [Recorded("task", "application/json", "utf-8", json.dumps(body)) for body in bodies]

    with Fleet(tmp_path, broker_url, store_url, size=2).start() as fleet:
        publish(broker_url, tasks("before"))
        wait_for_value(lambda: len(fleet.said("task-succeeded")), 20, 30, "the first tasks", 0.1)
        for name, kind in TYPES.items():
            if not kind.needed:
                put(client, getattr(keys, name), "list" if kind.type != "list" else "hash")
        publish(broker_url, tasks("after"))
        wait_until(lambda: len(fleet.said("task-succeeded")) >= 40, 30, "the others", 0.1)
        wait_until(lambda: any(entry.leads for entry in fleet.entries()), 30, "a leader", 0.1)
        said = " ".join(line["reason"] for line in fleet.said("store-damaged"))

        assert keys.leader in said
        assert keys.liveness in said
        found = Counter(line["task_id"] for line in fleet.said("task-succeeded") if not line.get("recovered"))
        assert (len(found), set(found.values())) == (40, {1})
