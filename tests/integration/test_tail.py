"""`ha-monitor tail` over a real Redis: the contract, its bounds, and whole instances of which one is killed."""

from __future__ import annotations

import json
import signal
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from ha_monitor.store.redis_tail import START_COUNT, START_INTERVAL
from ha_monitor.store.tail import WANTED_FOR, TailGap
from tests.integration.storing import Inside, Instance
from tests.integration.test_store_contract import RedisBed
from tests.support.instances import ROOT, Fleet
from tests.support.process import OwnProcess, wait_for_value, wait_until
from tests.support.recording import Recorded, publish
from tests.support.rights import as_monitor
from tests.support.services import PrivateRedis
from tests.support.store_contract import life
from tests.support.tail_contract import TailContract, looking, read, told
from tests.unit.builders import TIME, event

EACH = ("task-received", "task-started", "task-succeeded")


@pytest.fixture
def bed(store_url: str) -> RedisBed:
    return RedisBed(store_url)


@pytest.fixture
def inside(store_url: str) -> Inside:
    return Inside(store_url)


class TestTail(TailContract):
    """The contract."""


def calls(inside: Inside) -> Counter[str]:
    """How often each command was called."""
    return Counter({name: one["calls"] for name, one in inside.redis.info("commandstats").items()})


def test_nobody_who_looks_costs_nothing(bed: RedisBed, store_url: str, inside: Inside) -> None:
    """Given calls that announce, before somebody looks and long after nothing is written for that, and no command more
    is made; meanwhile, there is one piece of the stream for a call."""
    one = Instance(store_url).start()
    done = []
    for number, task_id in enumerate(("a", "b", "c")):
        tail = looking(bed) if task_id == "b" else None
        before = calls(inside)
        one.apply(life(task_id, start=TIME + 10 * number))
        done.append(calls(inside) - before)
        if tail is not None:
            assert len(told(read(tail))) == 3
            bed.let_wish_end()
            inside.redis.delete(inside.keys.tail)

    counts = [(one["cmdstat_xadd"], one["cmdstat_incrby"], one["cmdstat_exists"]) for one in done]
    assert counts == [(0, 0, 3), (1, 1, 5), (0, 0, 3)]
    assert not inside.redis.exists(inside.keys.tail, inside.keys.tail_wanted)


def test_the_tail_is_bounded_and_what_was_trimmed_is_told(bed: RedisBed, store_url: str, inside: Inside) -> None:
    """Given a reader that does not keep up, the stream keeps some pieces, none larger than 128 kB and some bytes more;
    the reader is told how many announcements it missed."""
    one = Instance(store_url).start()
    tail = looking(bed)
    for number in range(700):
        one.apply(event("custom", uuid=None, at=TIME + number, n=number))
    long = "x" * 20_000
    one.apply([event("custom", uuid=None, at=TIME + 1000 + n, text=long, n=1000 + n) for n in range(30)])

    assert inside.redis.xlen(inside.keys.tail) < 700
    sizes = [len(fields[b"e"]) for _, fields in inside.redis.xrange(inside.keys.tail)]
    assert max(sizes) <= 131072 + 21_000
    assert 0 < inside.ttl(inside.keys.tail) <= 60
    found = read(tail)
    (gap,) = (one for one in found if isinstance(one, TailGap))
    assert found[0] is gap
    assert gap.missing == 730 - len(told(found))
    assert gap.since <= gap.until


def test_a_stream_that_was_begun_anew_is_read(bed: RedisBed, store_url: str, inside: Inside) -> None:
    """Given a stream that was lost, and whose places begin earlier than those that were read, as on a host whose clock
    is behind, what comes is read."""
    one = Instance(store_url).start()
    tail = looking(bed)
    one.apply(life("a"))
    assert len(read(tail)) == 3
    one.apply(life("b", start=TIME + 10))
    (piece,) = inside.redis.xrange(inside.keys.tail)[-1:]
    inside.redis.delete(inside.keys.tail)
    inside.redis.xadd(inside.keys.tail, piece[1], id="5-1")

    found: list[Any] = []
    for _ in range(3):
        found += read(tail, bed)
    assert told(found) == [("b", kind) for kind in EACH]


def test_what_is_not_of_the_program_s_making_is_passed_over(bed: RedisBed, store_url: str, inside: Inside) -> None:
    """Given entries in the stream that nobody can read, the others come."""
    one = Instance(store_url).start()
    tail = looking(bed)
    for number, raw in (("1", b"\xc1"), (b"\xff", b"\x90"), ("9" * 30, b"\x91\x01"), ("1", b"")):
        inside.redis.xadd(inside.keys.tail, {"n": number, "e": raw})
    inside.redis.xadd(inside.keys.tail, {"x": "y"})
    one.apply(life("a"))

    assert told(read(tail)) == [("a", kind) for kind in EACH]


class Tailing:
    """`ha-monitor tail` as a process."""

    def __init__(self, folder: Path, store_url: str, node_id: str, *arguments: str) -> None:
        self._path = folder / f"tail-{len(list(folder.glob('tail-*')))}.out"
        env = {"HA_MONITOR_STORE_URL": store_url, "HA_MONITOR_NODE_ID": node_id, "PYTHONPATH": str(ROOT)}
        env |= {"HA_MONITOR_STORE_TIMEOUT": "2"}
        command = [sys.executable, "-m", "ha_monitor", "tail", "-o", "jsonl", *arguments]
        self.process = OwnProcess(command, self._path, env=env, cwd=folder)
        wait_until(lambda: "^C ends it" in self.text(), 60, "the tail's begin")

    def text(self) -> str:
        return self._path.read_text(encoding="utf-8")

    def lines(self) -> list[dict[str, Any]]:
        """The whole lines so far, without what is said beside them."""
        return [json.loads(line) for line in self.text().split("\n")[:-1] if line.startswith("{")]

    def end(self) -> int:
        """As ^C does; the exit status."""
        self.process.send(signal.SIGINT)
        return self.process.wait(20)


def message(*events: dict[str, Any]) -> Recorded:
    return Recorded("task.multi", "application/json", "utf-8", json.dumps(list(events)))


def lives(first: int, count: int) -> list[Recorded]:
    return [message(*life(f"task-{n}", start=TIME + n)) for n in range(first, first + count)]


def ids(lines: list[dict[str, Any]]) -> Counter[str]:
    return Counter(line["event_id"] for line in lines if line["event"].startswith("task-"))


@pytest.mark.parametrize("leads", [True, False], ids=["the leader", "the other one"])
def test_no_event_is_missing_over_the_death_of_an_instance(
    tmp_path: Path, broker_url: str, store_url: str, *, leads: bool
) -> None:
    """Given two instances, of which one is killed under load while somebody looks, each event is shown once, with the
    line that the log has for it; what is filtered is of the tasks asked for alone. ^C ends it with status 130."""
    settings = {"log": {"level": "debug"}}
    with Fleet(tmp_path, broker_url, store_url, size=2, settings=settings).start() as fleet:
        url = as_monitor(store_url)
        all_of_it = Tailing(tmp_path, url, fleet.node_id)
        some = Tailing(tmp_path, url, fleet.node_id, "state=SUCCESS", "task_id=task-1*")
        publish(broker_url, lives(0, 400))
        wait_until(lambda: len(all_of_it.lines()) > 100, 60, "some events")
        wait_for_value(lambda: sorted(one.leads for one in fleet.entries()), [False, True], 60, "one that leads of two")
        (name,) = [entry.who["instance"] for entry in fleet.entries() if entry.leads is leads]
        (victim,) = [instance for instance in fleet.instances if instance.name == name]
        victim.kill()
        publish(broker_url, lives(400, 400))
        wait_until(lambda: len(ids(all_of_it.lines())) >= 2400, 90, "all events", 0.2)
        wait_until(lambda: len(ids(list(fleet.lines()))) >= 2400, 60, "all lines", 0.2)

        shown, logged = all_of_it.lines(), {line["event_id"]: line for line in fleet.lines() if "event_id" in line}
        wait_until(lambda: len(some.lines()) >= 111, 60, "the filtered events", 0.2)
        statuses = all_of_it.end(), some.end()

    assert set(ids(shown).values()) == {1}
    assert "may lack" not in all_of_it.text()
    assert statuses == (130, 130)
    for line in shown:
        if line["event"].startswith("task-"):
            log = logged[line["event_id"]]
            apart = ("timestamp", "instance", "pid", "recovered")
            assert {k: v for k, v in line.items() if k not in apart} == {k: v for k, v in log.items() if k not in apart}
            assert log.get("recovered") or line["instance"] == log["instance"]
    found = {line["task_id"] for line in some.lines()}
    assert {line["event"] for line in some.lines()} == {"task-succeeded"}
    assert found == {f"task-{n}" for n in range(800) if str(n).startswith("1")}


def test_every_event_once_while_the_leader_is_stopped_and_continued(
    tmp_path: Path, broker_url: str, store_url: str
) -> None:
    """Given two instances, of which the leader is stopped under load while somebody looks, until the other one has
    taken its outbox over, and then continued, each event is shown once: those before, meanwhile and after."""
    settings = {"log": {"level": "debug"}}
    with Fleet(tmp_path, broker_url, store_url, size=2, settings=settings).start() as fleet:
        tail = Tailing(tmp_path, as_monitor(store_url), fleet.node_id)
        wait_for_value(lambda: sorted(one.leads for one in fleet.entries()), [False, True], 60, "one that leads of two")
        (name,) = [entry.who["instance"] for entry in fleet.entries() if entry.leads]
        (leader,) = [instance for instance in fleet.instances if instance.name == name]
        (other,) = [instance for instance in fleet.instances if instance is not leader]
        publish(broker_url, lives(0, 400))
        wait_until(lambda: len(tail.lines()) > 100, 60, "some events")
        leader.freeze()
        publish(broker_url, lives(400, 200))
        wait_until(lambda: other.said("outbox-taken-over"), 60, "the take-over")
        wait_for_value(lambda: [e.who["instance"] for e in fleet.entries() if e.leads], [other.name], 60, "a leader")
        # What the broker had handed to the one that is stopped comes when it goes on, or is given up.
        wait_until(lambda: any(line["instance"] == other.name for line in tail.lines()), 60, "events of the other")
        leader.thaw()
        wait_until(lambda: leader.said("store-connected") >= 2, 60, "that it registers again")
        publish(broker_url, lives(600, 200))
        wait_until(lambda: len(ids(tail.lines())) >= 2400, 90, "all events", 0.2)
        shown = tail.lines()
        status = tail.end()

    assert (len(ids(shown)), set(ids(shown).values()), status) == (2400, {1}, 130)
    assert "may lack" not in tail.text()


@pytest.mark.parametrize("start", [0, 1, START_COUNT - 1])
def test_an_instance_that_comes_back_leaves_the_count_of_the_tail(store_url: str, inside: Inside, start: int) -> None:
    """Given somebody who looks, whenever that began, an instance that connects again takes the count for the program's
    own, so that nothing is missing in the tail."""
    inside.redis.set(inside.keys.tail_wanted, start * START_INTERVAL + START_INTERVAL - 1)

    one = Instance(store_url).start()

    assert one.store.repair(registered=True) == []
    assert inside.redis.get(inside.keys.tail_wanted) == b"%d" % (start * START_INTERVAL + START_INTERVAL - 1)


def test_a_store_that_goes_away_is_waited_for(tmp_path: Path, own_redis: PrivateRedis) -> None:
    """Given a Redis that ends while somebody looks and is there again later, that is said once, and what comes then is
    shown."""
    url = own_redis.url()
    one = Instance(url).start()
    tail = Tailing(tmp_path, url, "tests")
    one.apply(life("a"))
    wait_for_value(lambda: len(tail.lines()), 3, 30, "the first events")
    own_redis.stop()
    wait_until(lambda: "waiting for it" in tail.text(), 30, "the word about the store")
    own_redis.start()
    wait_until(lambda: "the store is there again" in tail.text(), 60, "the return")
    other = Instance(url).start()
    other.apply(life("b"))
    wait_for_value(lambda: len(tail.lines()), 6, 30, "the later events")

    assert tail.end() == 130
    assert tail.text().count("waiting for it") == 1


def test_the_wish_ends_by_itself(bed: RedisBed, inside: Inside) -> None:
    """Given a reader, its wish lives for some seconds, and is renewed while it reads."""
    tail = looking(bed)
    assert 0 < inside.ttl(inside.keys.tail_wanted) <= WANTED_FOR
    inside.redis.expire(inside.keys.tail_wanted, 5)
    read(tail, bed)
    assert inside.ttl(inside.keys.tail_wanted) > 5
