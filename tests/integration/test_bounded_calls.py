"""One call of a script does only so much, whatever it was given: the calls that follow do the rest, once."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from hashlib import sha1
from typing import Any

import pytest

from ha_monitor.config.schema import StuckSettings
from ha_monitor.events.decode import Batch
from ha_monitor.pipeline.collector import split
from ha_monitor.store.duties import Duties
from ha_monitor.store.results import Candidate, Candidates, Counting, StuckTask, Watching
from ha_monitor.store.scripts import read_scripts
from ha_monitor.store.stuck import RedisOpenTasks
from tests.integration.storing import Inside, Instance
from tests.support.process import wait_for_value, wait_until
from tests.unit.builders import TIME, decode, event

SetTimeOfACall = Callable[[float], None]
LIVES = 150
KINDS = ("task-sent", "task-received", "task-started", "task-succeeded")
LONG = 240 * "x"
READ_CLOCK = "local function now_ms()\n  local time = redis.call('TIME')\n"
STOPPED = "  looks = looks + 1\n  if looks > 3 then time[1] = time[1] + 1 end\n"


@pytest.fixture
def change_scripts(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    """Replaces a text in the scripts that merge, and look for losses."""

    def change(before: str, after: str) -> None:
        scripts = read_scripts()
        for name in ("apply", "losses"):
            source = scripts[name].source
            changed = source.replace(before, after)
            assert changed != source
            digest = sha1(changed.encode(), usedforsecurity=False).hexdigest()
            scripts[name] = scripts[name]._replace(source=changed, sha=digest)
        monkeypatch.setattr("ha_monitor.store.calls.read_scripts", lambda: scripts)

    return change


@pytest.fixture
def time_of_a_call(change_scripts: Callable[[str, str], None]) -> SetTimeOfACall:
    """Sets how many ms a merge, or a look for losses, may work: with 0, it ends wherever it looks at its clock."""
    return lambda milliseconds: change_scripts("work = 6,", f"work = {milliseconds:.0f},")


def counter(url: str) -> Instance:
    counting = Counting("host/1", [0.1, 1.0])
    return Instance(url, counting=counting, stuck=StuckSettings(), name_wait=600.0).start()


def lives(count: int, **changes: Any) -> list[dict[str, Any]]:
    bodies = []
    for number in range(count):
        own = {key: value.format(number) for key, value in changes.items()}
        bodies += [event(kind, at=TIME + n / 10, uuid=f"t{number}", **own) for n, kind in enumerate(KINDS)]
    return bodies


def calls_for(one: Instance, batch: Batch) -> list[int]:
    """How many tasks each call merges, until all are."""
    calls: list[int] = []
    while not calls or batch.tasks:
        one.store.send_apply(batch)
        applied = one.store.receive_apply()
        one.announce(applied.items)
        calls.append(applied.merged)
        if applied.merged == len(batch.tasks):
            break
        _, batch = split(batch, applied.merged)
    return calls


def counted(one: Instance) -> Counter[str]:
    """Events counted, by their code or what else stands first in the field."""
    found: Counter[str] = Counter()
    for count in one.store.counts.read():
        found[count.kind] += count.number
    return found


def test_a_call_whose_time_is_over_leaves_the_rest_to_the_next(
    store_url: str, inside: Inside, time_of_a_call: SetTimeOfACall
) -> None:
    """Given a merge whose time is over at once, each call merges some tasks, and says how many; the calls together
    merge, announce and count everything once, and what belongs to no task comes with the last of them.
    """
    time_of_a_call(0)
    one = counter(store_url)
    others = [event("worker-heartbeat"), event("custom", uuid=None)]

    calls = calls_for(one, decode(lives(LIVES), others))

    assert sum(calls) == LIVES
    assert 1 < len(calls) < LIVES
    assert min(calls) > 0
    announced = Counter(item.entry.event.id for item in one.emitted)
    assert (len(announced), set(announced.values())) == (len(KINDS) * LIVES + len(others), {1})
    assert set(one.types[-len(others) :]) == {"worker-heartbeat", "custom"}
    found = counted(one)
    assert [found[code] for code in ("1", "2", "3", "10")] == [LIVES] * 4
    assert inside.redis.zcard(inside.keys.workers) == 1
    assert one.apply(*lives(LIVES)).new == 0


def test_a_call_is_not_cut_for_time_in_which_redis_did_not_run(
    store_url: str, change_scripts: Callable[[str, str], None]
) -> None:
    """Given a busy machine, on which Redis does not run for a second within a merge, it merges the whole batch."""
    change_scripts(READ_CLOCK, f"local looks = 0\n{READ_CLOCK}{STOPPED}")
    one = Instance(store_url).start()

    calls = calls_for(one, decode([event("task-sent", uuid=f"t{number}") for number in range(LIVES)]))

    assert calls == [LIVES]


def test_what_is_behind_a_rest_is_merged_after_it(store_url: str, time_of_a_call: SetTimeOfACall) -> None:
    """Given three batches under way of which the first is merged in part, the others are refused; sent again behind the
    rest, each is merged, and another instance is not concerned.
    """
    time_of_a_call(0)
    one, other = counter(store_url), counter(store_url)
    batches = [decode(lives(LIVES)), decode(event("worker-heartbeat")), decode(event("custom", uuid="t0"))]
    for batch in batches:
        one.store.send_apply(batch)
    other.apply(event("custom", uuid="other"))
    answers = [one.store.receive_apply() for _ in batches]

    assert [answer.is_refused for answer in answers] == [False, True, True]
    assert 0 < answers[0].merged < LIVES
    assert not answers[1].items and not answers[2].items
    one.announce(answers[0].items)
    calls_for(one, split(batches[0], answers[0].merged)[1])
    for batch in batches[1:]:
        one.apply_batch(batch)
    assert one.types[-2:] == ["worker-heartbeat", "custom"]
    assert len(one.types) == len(KINDS) * LIVES + 2


def test_a_call_ends_sooner_where_there_is_more_to_write(store_url: str, time_of_a_call: SetTimeOfACall) -> None:
    """Given all the time that there is, one call merges lives of one worker, and several are needed for as many
    of which each has its own long names, though these, too, are announced and counted once.
    """
    time_of_a_call(1e9)
    ordinary, wide = counter(store_url), counter(store_url)
    assert calls_for(ordinary, decode(lives(LIVES))) == [LIVES]

    names = {"name": "n{}" + LONG, "queue": "q{}" + LONG, "hostname": "w{}@" + LONG}
    again = [{**body, "uuid": "wide-" + body["uuid"]} for body in lives(LIVES, **names)]
    calls = calls_for(wide, decode(again))

    assert sum(calls) == LIVES
    assert len(calls) >= 3
    assert len({item.entry.event.id for item in wide.emitted}) == len(wide.emitted) == len(KINDS) * LIVES


def test_a_tick_ends_sooner_where_there_is_more_to_write(store_url: str, inside: Inside) -> None:
    """Given very many events that wait to be counted, each under labels of its own, one tick counts some of them, and
    the ticks that follow the others, each once.
    """
    one = counter(store_url)
    tasks, starts = 60, 32
    for number in range(tasks):
        hosts = (f"{number}.{start}@{LONG}" for start in range(starts))
        batch = decode([event("task-started", uuid=f"t{number}", hostname=host) for host in hosts])
        for fact in batch.tasks[f"t{number}"]:
            fact[4] = None  # nobody wants its line
        one.apply_batch(batch)
    inside.let_wait_end()
    left: list[int] = []
    while not left or left[-1]:
        one.tick()
        left.append(inside.redis.zcard(inside.keys.waiting))

    assert tasks > left[0] > 0
    assert counted(one)["3"] == tasks * starts


SIZES_READ = 3
"""STRLENs of a look at a process."""
LARGE, WAITING = 40, 3
LARGE_DATA = ["x" * 990] * 45
OTHER_READS = 12
"""GETs of a call that are of no record."""


def large(count: int, kind: str, at: float = TIME, **fields: Any) -> list[list[dict[str, Any]]]:
    """Events of tasks whose name nobody knows, so that all of them wait: some 50 kB for each task."""
    own = {"traceback": "x" * 16_000, "exception": "E" * 200, **fields}
    return [[event(kind, at=at + n, uuid=f"t{number}", **own) for n in range(WAITING)] for number in range(count)]


class Reads:
    """Counts what is read of records that are all of one size."""

    def __init__(self, inside: Inside, uuid: str) -> None:
        self._redis = inside.redis
        self.size: int = inside.redis.strlen(inside.keys.task(uuid))
        assert self.size > 40_000

    def made(self) -> int:
        """How many reads there were so far."""
        stats = self._redis.info("commandstats")
        return int(stats.get("cmdstat_get", {"calls": 0})["calls"])

    def of(self, call: Callable[[], Any]) -> Any:
        """What a call returns, which has read no more than one may."""
        before = self.made()
        reply = call()
        assert (self.made() - before - OTHER_READS) * self.size <= 2**20 + self.size
        return reply


def due(inside: Inside, key: str) -> list[bytes]:
    """The members of such a key whose time has come."""
    seconds, _ = inside.redis.time()
    return list(inside.redis.zrangebyscore(key, "-inf", seconds * 1000))


def test_what_cannot_be_announced_yet_is_not_read(store_url: str, inside: Inside) -> None:
    """Given many large records that wait while an instance has just vanished, no tick reads them, though their time is
    over, and it is not said that more is due at once. What the vanished one left is taken over meanwhile.
    """
    dead, one = Instance(store_url).start(), Instance(store_url, name_wait=0.01, requeue_delay=60.0).start()
    one.stay_in_contact()
    for bodies in large(LARGE, "task-failed"):
        one.apply(bodies)
    at_once = len(one.emitted)
    dead.apply(event("custom", uuid=None), announce=False)
    inside.let_lease_end(dead.store.token)
    wait_for_value(lambda: len(due(inside, inside.keys.waiting)), LARGE, 30, "the end of their time")
    reads = Reads(inside, "t0")
    for _ in range(3):
        before = reads.made()
        assert (one.tick().next_due or 0) > 0.5
        assert reads.made() - before <= OTHER_READS

    assert one.types[at_once:] == ["custom"]
    assert inside.redis.zcard(inside.keys.waiting) == LARGE


def test_a_tick_takes_over_only_so_much(store_url: str, inside: Inside) -> None:
    """Given a large outbox of an instance that vanished, each tick takes over some of it, and all together everything
    once.
    """
    dead, one = Instance(store_url).start(), Instance(store_url).start()
    one.stay_in_contact()
    dead.apply(*[event("custom", uuid=None, clock=n, data=LARGE_DATA) for n in range(LARGE)], announce=False)
    size = min(map(len, inside.redis.lrange(inside.keys.outbox(dead.store.token), 0, -1)))
    inside.let_lease_end(dead.store.token)
    ticks = 0
    while inside.redis.zcard(inside.keys.leases) > 1:
        taken = one.tick().items
        ticks += 1
        assert 0 < len(taken) * size <= 2**20 + 10 * size

    assert ticks > 1
    announced = Counter(item.entry.event.id for item in one.emitted)
    assert (len(announced), set(announced.values())) == (LARGE, {1})
    assert all(item.recovered for item in one.emitted)


@pytest.mark.parametrize(("milliseconds", "most"), [(1e9, 50), (0, 4)])
def test_a_look_for_losses_is_at_few_processes(
    *,
    store_url: str,
    inside: Inside,
    time_of_a_call: SetTimeOfACall,
    monkeypatch: pytest.MonkeyPatch,
    milliseconds: float,
    most: int,
) -> None:
    """Given a thousand processes, one call looks at fifty of them at most, and at fewer where its time is over; the
    calls together look at all of them.
    """
    time_of_a_call(milliseconds)
    processes = 1000
    one = counter(store_url)
    one.tick()
    for runs in range(3):
        hosts = (f"celery@pod-{number}" for number in range(processes))
        one.apply([event("worker-heartbeat", at=TIME + 2 * runs, hostname=host, processed=runs) for host in hosts])
    inside.put_clock_back(-2)  # the grace for what is on its way is over
    one.tick()
    duties, run = Duties(one.store), one.store.run
    looks: list[int] = []

    def commands() -> int:
        return int(inside.redis.info("commandstats").get("cmdstat_strlen", {"calls": 0})["calls"])

    def counted_run(*arguments: Any) -> Any:
        before = commands()
        reply = run(*arguments)
        looks.append((commands() - before) // SIZES_READ)
        return reply

    monkeypatch.setattr(one.store, "run", counted_run)
    duties.losses()
    while not duties.all_accounted:
        duties.losses()

    # Of the first one that is left to the next call, the size is read, too.
    assert max(looks) == most + 1
    assert len(list(inside.redis.scan_iter(inside.keys.prefix + "l:*", count=1000))) == processes


LIMITS = StuckSettings(sent_after=100, received_after=100, started_after=100, run_time_factor=0)
NEVER = StuckSettings(sent_after=0, received_after=0, started_after=0, run_time_factor=0)
LONG_AGO = TIME - 30 * 86_400


class Looking:
    """A leader that looks at large records of open tasks."""

    def __init__(self, url: str, kind: str, limits: StuckSettings = LIMITS, **fields: Any) -> None:
        self.one = Instance(url, stuck=limits, name_wait=600.0).start()
        for bodies in large(LARGE, kind, **fields):
            self.one.apply(bodies)
        assert self.one.store.tick(b"{}", [], watermark_age=0.0).leads
        self.tasks = RedisOpenTasks(self.one.store, limits)

    def found(self, reads: Reads) -> list[Candidate]:
        """What all looks find until there is no more to look at."""
        found: list[Candidate] = []
        for _ in range(2 * LARGE):
            candidates: Candidates = reads.of(self.tasks.candidates)
            found += candidates.tasks
            if not candidates.more:
                return found
        raise AssertionError("there is always more")


def test_a_look_at_open_tasks_reads_only_so_much(
    store_url: str, inside: Inside, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given many large records of tasks that are overdue, a look reads some of them, and the looks that follow find
    the others, each once. So do the calls that confirm them.
    """
    looking = Looking(store_url, "task-retried", at=LONG_AGO)
    reads = Reads(inside, "t0")
    found = looking.found(reads)

    assert Counter(candidate.task_id for candidate in found) == Counter(f"t{number}" for number in range(LARGE))
    run, calls = looking.one.store.run, []

    def bounded(*arguments: Any) -> Any:
        calls.append(arguments)
        return reads.of(lambda: run(*arguments))

    monkeypatch.setattr(looking.one.store, "run", bounded)
    items = looking.tasks.confirm(0, [(candidate, StuckTask("sent", ["queue"], 1)) for candidate in found])
    assert items is not None
    assert len(calls) > 1
    assert Counter(item.entry.event.task_id for item in items) == Counter(candidate.task_id for candidate in found)


def test_the_search_for_tasks_of_a_lost_worker_reads_only_so_much(store_url: str, inside: Inside) -> None:
    """Given a worker that was lost and many large records of its tasks, a call looks through some of the index, and the
    calls that follow find all of them, each once, while other tasks get their turn.
    """
    looking = Looking(store_url, "custom", NEVER, at=time.time(), data=LARGE_DATA[:16])
    one = looking.one
    one.apply([event("task-started", uuid=f"t{number}", at=time.time()) for number in range(LARGE)])
    one.apply(event("worker-heartbeat"))
    duties = Duties(one.store)

    def is_lost() -> bool:
        watched = duties.watch(Watching(0.001, 0.002), [], may_declare_lost=True, watermark=(0.0, 0.0))
        return watched is not None and [worker.state for worker in watched.workers] == ["lost"]

    wait_until(is_lost, 10, "the loss")
    found = looking.found(Reads(inside, "t0"))

    assert Counter(candidate.task_id for candidate in found) == Counter(f"t{number}" for number in range(LARGE))
