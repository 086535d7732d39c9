"""A call that fails half-way, at whichever command: what was to be announced is announced when it is repeated."""

from __future__ import annotations

import contextlib
import random
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import pytest

from ha_monitor.config.schema import StuckSettings
from ha_monitor.errors import LeaseLost, StoreUnavailable
from ha_monitor.events.model import Event
from ha_monitor.metrics.retirement import relabelled
from ha_monitor.schedules.model import Source
from ha_monitor.store.duties import Duties
from ha_monitor.store.incidents import Incident, IncidentChanges, Phase, Severity
from ha_monitor.store.outbox import Entry, retry_entry
from ha_monitor.store.reader import StoreReader
from ha_monitor.store.results import Candidate, Confirmation, Counting, FinishedTask, StuckTask, Watching
from ha_monitor.store.schedules import KnownSource, ScheduleChanges
from ha_monitor.store.stuck import RedisOpenTasks
from tests.integration.faulty_scripts import Fault, Snapshot, failing, make_faulty, was_hit
from tests.integration.storing import NODE, Inside, Instance, settings
from tests.support.services import PrivateRedis
from tests.support.store_contract import a_judgement
from tests.unit.builders import TIME, decode, event, fact_builder

LIMITS = StuckSettings(sent_after=100, received_after=200, started_after=400, run_time_factor=0)
TASKS = 6
NOW = float(int(time.time()))


class Case(NamedTuple):
    """A call, and what comes before it."""

    prepare: Callable[[Instance, Instance, Inside], None]
    call: Callable[[Instance], Any]
    leads: bool = False
    """Whether only the leader may make it."""


def life(uuid: str, at: float = TIME, **end: Any) -> list[dict[str, Any]]:
    return [
        event("task-sent", at=at, uuid=uuid, queue="celery"),
        event("task-received", at=at + 0.1, uuid=uuid),
        event("task-started", at=at + 0.2, uuid=uuid),
        event("task-succeeded", at=at + 0.3, uuid=uuid, **end),
    ]


def nothing(one: Instance, two: Instance, inside: Inside) -> None:
    """Nothing comes before."""


# --- merging -------------------------------------------------------------------------------


def prepare_merge(one: Instance, two: Instance, inside: Inside) -> None:
    """Some tasks are known, of others an end waits for its name, one is said to be stuck."""
    for number in range(TASKS):
        one.apply(life(f"known-{number}")[:2])
        one.apply(event("task-failed", uuid=f"nameless-{number}", at=TIME - 1))
        one.apply(life(f"nameless-{number}")[3])
    inside.redis.hset(inside.keys.stuck, "known-0", "received 1")


def merge(one: Instance) -> Any:
    lives = [life(f"{kind}-{number}") for kind in ("known", "nameless", "new") for number in range(TASKS)]
    ends = [event("task-failed", at=TIME + 9, uuid=f"waits-{number}") for number in range(TASKS)]
    others = [event("custom", at=TIME, uuid=None, n=1), event("worker-online"), event("worker-heartbeat")]
    return one.apply(*lives, *ends, *others)


# --- time ----------------------------------------------------------------------------------


def prepare_tick(one: Instance, two: Instance, inside: Inside) -> None:
    """Announcements wait, a handler is to be called again, and a third instance has died with entries."""
    third = Instance(f"redis://{host_of(inside)}", counting=one_counting("3")).start()
    third.apply(event("custom", uuid=None, n=1), event("custom", uuid=None, n=2, at=TIME + 1), announce=False)
    one.apply(*(event("task-failed", at=TIME + number, uuid=f"waits-{number}") for number in range(TASKS)))
    one.apply(event("custom", uuid=None, n=3, at=TIME + 2), announce=False)
    item = one.store.recover().items[0]
    one.announce([item])
    one.store.record_outcome(item.sequence + 1, [(0, retry_entry(item.entry, "handler", 1))], [], 10)
    one.stay_in_contact()
    one.apply(*(event("task-failed", at=TIME + number, uuid=f"again-{number}") for number in range(TASKS)))
    one.store.flush()
    inside.let_lease_end(third.store.token)


# --- the rest of an instance's calls -------------------------------------------------------


def prepare_outbox(one: Instance, two: Instance, inside: Inside) -> None:
    """Some of the outbox is announced, and Redis has not heard of it."""
    items = one.apply(*(event("custom", uuid=None, at=TIME + number) for number in range(6)), announce=False).items
    one.announce(items[:2])


def record_outcome(one: Instance) -> None:
    failed = Entry(0, Event("custom", "ab" * 12), None, incomplete=False)
    one.store.record_outcome(3, [(0, retry_entry(failed, "handler", 1))], [b"{}"], 10)


def recover(one: Instance) -> None:
    one.announce(one.store.recover().items)


# --- the leader's duties -------------------------------------------------------------------


def prepare_watch(one: Instance, two: Instance, inside: Inside) -> None:
    """Two workers were not heard of for long."""
    one.apply(event("worker-heartbeat", hostname="a@h"), event("worker-heartbeat", hostname="b@h"))
    now = inside.redis.time()[0] * 1000
    inside.redis.zadd(inside.keys.workers, {"a@h": now - 61_000, "b@h": now - 61_000})


def watch(one: Instance) -> None:
    watched = Duties(one.store).watch(
        *(Watching(10, 60), ["celery"]), may_declare_lost=True, watermark=(0.0, 0.0), consumes={"a@h": "celery"}
    )
    assert watched is not None
    one.announce(watched.items)


def prepare_losses(one: Instance, two: Instance, inside: Inside) -> None:
    """A worker has begun more runs than it sent events for."""
    for beat in range(8):
        at = TIME + 2 * beat
        if beat > 0:
            one.apply(event("task-started", at=at - 1, uuid=f"t{beat}"))
        one.apply(event("worker-heartbeat", at=at, processed=beat + (2 if beat > 2 else 0)))
    time.sleep(1.05)
    for instance in (one, two):
        instance.announce(instance.store.tick(b"{}", [], watermark_age=0.0).items)


def losses(one: Instance) -> None:
    one.announce(Duties(one.store).losses())


def prepare_confirm(one: Instance, two: Instance, inside: Inside) -> None:
    """Three tasks are overdue."""
    for uuid in ("a", "b", "c"):
        one.apply(life(uuid, NOW - 1000)[:3])
    one.store.flush()
    for instance in (one, two):
        instance.store.tick(b"{}", [], watermark_age=0.0)


def confirm(one: Instance) -> None:
    one.store.tick(b"{}", [], watermark_age=0.0)
    tasks = RedisOpenTasks(one.store, LIMITS)
    for uuid in Inside(one.settings.url).redis.zrange(one.store.keys.open, 0, -1):
        Inside(one.settings.url).redis.zadd(one.store.keys.open, {uuid: 1})
    candidates = tasks.candidates()
    assert candidates is not None
    end = event("task-succeeded", at=NOW - 10, uuid="c", pid=None, clock=None)
    reconciled = FinishedTask(fact_builder().task_fact(end, "task-succeeded", "reconciled"))
    confirmations: list[tuple[Candidate, Confirmation]] = [
        (one, reconciled if one.task_id == "c" else StuckTask("started", ["worker"], 1)) for one in candidates.tasks
    ]
    items = tasks.confirm(0, confirmations)
    assert items is not None
    one.announce(items)


def incidents(one: Instance) -> None:
    incident = Incident("ab", "failing", "shop.pay", Severity.WARN, Phase.FIRING, NOW, NOW, "some fail")
    events = [Event("incident-opened", f"{number:024x}", fields={"incident": "ab"}) for number in range(2)]
    one.announce(Duties(one.store).incidents(IncidentChanges([incident], ["gone"], events)))
    assert Inside(one.settings.url).redis.hkeys(one.store.keys.incidents) == [b"ab"]


def prepare_incidents(one: Instance, two: Instance, inside: Inside) -> None:
    """One is kept that is not to be kept any longer."""
    inside.redis.hset(inside.keys.incidents, "gone", "{}")


def schedules(one: Instance) -> None:
    assert Duties(one.store).schedules(ScheduleChanges([a_judgement()], ["gone"], {Source.CONF: KnownSource()}))
    assert Inside(one.settings.url).redis.hkeys(one.store.keys.schedules) == [a_judgement().definition.name.encode()]


def prepare_schedules(one: Instance, two: Instance, inside: Inside) -> None:
    """One is kept that there is no longer."""
    inside.redis.hset(inside.keys.schedules, "gone", "{}")
    inside.redis.hset(inside.keys.schedule_runs, "gone", "[]")


CASES = {
    "schedules": Case(prepare_schedules, schedules, leads=True),
    "incidents": Case(prepare_incidents, incidents, leads=True),
    "apply": Case(prepare_merge, merge),
    "tick": Case(prepare_tick, lambda one: one.tick()),
    "record_outcome": Case(prepare_outbox, record_outcome),
    "recover": Case(prepare_outbox, recover),
    "unregister": Case(prepare_outbox, lambda one: one.store.unregister()),
    "register": Case(nothing, lambda one: one.store.register({})),
    "watch": Case(prepare_watch, watch, leads=True),
    "losses": Case(prepare_losses, losses, leads=True),
    "candidates and confirm": Case(prepare_confirm, confirm, leads=True),
}


def host_of(inside: Inside) -> str:
    options = inside.redis.connection_pool.connection_kwargs
    return f"127.0.0.1:{options['port']}/{options['db']}"


def one_counting(name: str) -> Counting:
    return Counting(name, [0.1, 1.0], room=20)


def prepared(url: str, case: Case) -> Snapshot:
    """Two instances, just before the call."""
    inside = Inside(url)
    pair = []
    for name in ("1", "2"):
        # Its lease outlasts the whole test, which goes back to this moment again and again.
        instance = Instance(url, counting=one_counting(name), stuck=LIMITS, lease=3600.0)
        make_faulty(instance)
        pair.append(instance.start())
    if case.leads:
        pair[0].tick()
    case.prepare(pair[0], pair[1], inside)
    return Snapshot(inside.redis, *pair)


class Done(NamedTuple):
    """How a call ended."""

    reply: Any
    at_once: bool
    """It did not have to be repeated."""


def call_until_done(caller: Instance, repeater: Instance, case: Case, inside: Inside, fault: Fault | None) -> Done:
    """What the program does: a call that failed is repeated, here or, if the messages went there, by another one."""
    try:
        if fault is None:
            return Done(case.call(caller), at_once=True)
        with failing(inside.redis, fault):
            return Done(case.call(caller), at_once=True)
    except StoreUnavailable:
        try:
            caller.recover()
        except LeaseLost:
            caller.store.register({})
        if case.leads:
            caller.announce(caller.store.tick(b"{}", [], watermark_age=0.0).items)
            repeater.store.tick(b"{}", [], watermark_age=0.0)
        return Done(case.call(repeater), at_once=False)


def end(caller: Instance, other: Instance, inside: Inside) -> None:
    """All leases but that of the other run out, and all that waits is over."""
    with contextlib.suppress(LeaseLost):
        caller.store.flush()
    # What a call left that moved half of an entry looks as in a store that went back. That was a lease ago.
    inside.redis.delete(inside.keys.rollback)
    for token in inside.redis.zrange(inside.keys.leases, 0, -1):
        if int(token) != other.store.token:
            inside.let_lease_end(int(token))
    inside.let_wait_end()
    other.stay_in_contact()


def announced(*instances: Instance) -> tuple[Counter[str], Counter[str]]:
    """How often each event was announced, and how often without saying that it may have been before."""
    items = [item for instance in instances for item in instance.emitted]
    names = [(f"{item.entry.event.id}{item.entry.handler}", item.recovered) for item in items]
    return Counter(name for name, _ in names), Counter(name for name, recovered in names if not recovered)


def found_by(inside: Inside) -> Any:
    """What those who search get to see, whatever the order."""
    reader = StoreReader(settings(f"redis://{host_of(inside)}"), NODE)
    reader.connect()
    ask = reader.queries
    ids = [key.decode().removeprefix(inside.keys.task("")) for key in inside.redis.scan_iter(inside.keys.task("*"))]
    stories = {one.record.task_id: one.story for one in ask.tasks(ids) if one}
    trees = {root: set(ask.children(root, 1000)) for root in (event("task-sent")["root_id"], *ids)}
    by_name = {name: set(ask.newest(name, 1000)) for name in ask.names()}
    waiting = {queue: ask.waiting(queue, 1000) for queue in ask.queues()}
    ended = ask.ended_badly(0.0, 4e9, 1000)
    reader.close()
    return stories, trees, by_name, waiting, ended


def run(
    snapshot: Snapshot, case: Case, inside: Inside, fault: Fault | None, *, elsewhere: bool
) -> tuple[Done, Counter[str], Counter[str]]:
    caller, other = snapshot.restore()
    done = call_until_done(caller, other if elsewhere else caller, case, inside, fault)
    end(caller, other, inside)
    return done, *announced(caller, other)


@pytest.mark.parametrize("all_after", [False, True], ids=["one command fails", "aborted"])
@pytest.mark.parametrize("name", CASES)
def test_whichever_command_fails_nothing_is_lost_or_silently_twice(
    store_url: str, name: str, *, all_after: bool
) -> None:
    """Given each command of each script failing in turn, the repeated call brings every announcement, and none twice
    unless it says so.
    """
    case, inside = CASES[name], Inside(store_url)
    snapshot = prepared(store_url, case)
    _, expected, _ = run(snapshot, case, inside, None, elsewhere=False)
    searched = found_by(inside)
    assert max(expected.values(), default=1) == 1
    assert expected or name in ("register", "schedules")

    faults = 0
    while True:
        fault = Fault(faults + 1, all_after)
        done, found, silent = run(snapshot, case, inside, fault, elsewhere=bool(faults % 2) and name == "apply")
        if not was_hit(inside.redis):
            break
        faults += 1
        assert not expected - found, f"lost when command {fault.at} failed"
        assert max(silent.values(), default=1) == 1, f"announced twice when command {fault.at} failed"
        assert not inside.redis.exists(inside.keys.prefix + "unfinished")
        if name == "apply" and not done.at_once:
            assert found_by(inside) == searched, f"an index is not what it would be when command {fault.at} failed"
        if done.at_once and name in ("apply", "tick"):
            assert done.reply.trouble.endswith("made to fail"), f"nobody heard that command {fault.at} failed"

    assert faults > 3


def prepare_counts(one: Instance, two: Instance, inside: Inside) -> None:
    """Two tasks are counted under two workers, by each instance; of the second nothing was heard for long."""
    for instance, name in ((one, "a"), (two, "b")):
        instance.apply(*(life(f"{name}{number}", hostname=f"celery@h{number % 2}") for number in range(4)))
    for instance in (one, two):
        instance.announce(instance.tick().items)
    inside.redis.zadd(inside.keys.counting, {"2": 1})


def move_counts(one: Instance, *, of: str | None = None) -> bool:
    """Add up what an instance has counted for the workers, and what it has counted for one of them already."""
    counts = one.store.counts.read() if of is None else one.store.counts.read_of(of)
    moves = [(field, relabelled(field, "retired")) for field in counts.fields()]
    return one.store.counts.move(moves, [b"shop.pay\x1fcelery@h0\x1fcelery"], None if of is None else (of, 60))


def counted(*instances: Instance) -> Counter[str]:
    """All numbers that are stored, by what they count."""
    found: Counter[str] = Counter()
    for instance in instances:
        for count in instance.store.counts.read():
            found[count.kind] += count.number
    return found


# One that is gone has a hash of its own: what was added is taken back, which a script that is aborted cannot do.
@pytest.mark.parametrize(("of", "all_after"), [(None, False), (None, True), ("2", False)])
def test_whichever_command_fails_while_counts_are_moved_the_sum_stays(
    store_url: str, of: str | None, *, all_after: bool
) -> None:
    """Given each command that moves counts failing in turn, the repeated call leaves the sums as they were."""
    case = Case(prepare_counts, partial(move_counts, of=of))
    inside = Inside(store_url)
    snapshot = prepared(store_url, case)
    expected = counted(*snapshot.restore())
    assert expected["2"] == 8

    faults, hit = 0, True
    while hit:
        caller, other = snapshot.restore()
        try:
            with failing(inside.redis, Fault(faults + 1, all_after)):
                case.call(caller)
        except StoreUnavailable:
            caller.recover()
        hit = was_hit(inside.redis)
        faults += hit
        assert counted(caller, other) == expected, f"when command {faults} failed"
        case.call(caller)
        assert counted(caller, other) == expected, f"when command {faults} failed, after the second call"
        left = [field for field in caller.store.counts.read_of(of or "1").fields() if b"retired" not in field]
        assert left == [], "not all were moved"

    assert faults > 5


# --- what makes a command fail -------------------------------------------------------------


def test_a_run_time_beyond_all_bounds_costs_no_announcement(store_url: str) -> None:
    """Given a hash of counts that is full, and a run time of which Redis makes no integer among ordinary ones, all are
    announced and the counts go on.
    """
    one = Instance(store_url, counting=one_counting("1")).start()
    one.apply(*(life(f"before-{number}", name=f"name-{number}") for number in range(20)))
    before = len(one.emitted)

    runtimes = [0.1] * 9 + [2e11] + [0.1] * 10
    lives = [life(f"t{number}", runtime=runtime, name="shop.new") for number, runtime in enumerate(runtimes)]
    applied = one.apply(*lives)

    assert len(one.emitted) - before == 4 * len(runtimes)
    assert applied.trouble == ""
    assert len(list(one.store.counts.read())) == len(one.store.counts.read())  # all of them are whole numbers


@pytest.mark.parametrize("value", [2e11, 1e18, -1.0, 2**63 - 1, float("inf"), float("nan"), 0.1], ids=str)
def test_no_number_of_a_fact_breaks_a_merge(store_url: str, value: float) -> None:
    """Given facts with numbers that the decoder should not let through, they are merged, and counted as integers."""
    one = Instance(store_url, counting=one_counting("1"), stuck=LIMITS).start()
    batch = decode(*life("t"), event("worker-heartbeat"))
    sent, received, started, succeeded = batch.tasks["t"]
    for fact in (sent, received):
        fact[5]["e"] = fact[6] = value
    started[5] = succeeded[5] = value
    for fact in batch.tasks["t"]:
        fact[2] = value
    batch.workers[0][2] = value
    batch.workers[0][5].update(pid=value, processed=value)

    applied = one.apply_batch(batch)
    again = one.apply(life("t"))
    if value == -1.0:
        # All came at the beginning of time, so that the success may be that of another run.
        Inside(store_url).let_wait_end()
        one.tick()

    assert (len(one.emitted), applied.trouble, again.trouble) == (5 if value == -1.0 else len(one.emitted), "", "")
    assert {item.entry.event.type for item in applied.items} >= {"task-sent", "task-received", "task-started"}
    assert len(list(one.store.counts.read())) == len(one.store.counts.read())  # all of them are whole numbers


DERIVED = ["producers", "processes", "open", "stuck", "orphaned", "baselines"]
NEEDED = ["waiting", "workers", "leases"]


@pytest.mark.parametrize("key", [*DERIVED, "counts", "t:", "w:", "b:", "p:"])
def test_a_key_of_a_foreign_type_is_done_without(store_url: str, key: str) -> None:
    """Given something else in place of a key that is derived from events, all is announced, and the reply says so."""
    one, inside = Instance(store_url, counting=one_counting("1"), stuck=LIMITS).start(), Inside(store_url)
    full = {
        "counts": one.store.counts.key,
        "t:": inside.keys.task("new-0"),
        "w:": inside.keys.worker("celery@host"),
        "b:": f"{inside.keys.prefix}b:celery@host\x1f4711",
        "p:": f"{inside.keys.prefix}p:celery@host\x1f4711",
    }.get(key, inside.keys.prefix + key)
    if key in ("t:", "w:", "b:", "p:"):
        inside.redis.rpush(full, "foreign")
    else:
        inside.redis.set(full, "foreign")

    troubles = {merge(one).trouble, merge(one).trouble}
    for part in (life("of-after")[:2], life("of-after")[2:]):
        troubles.add(one.apply(part).trouble)

    assert any("WRONGTYPE" in trouble for trouble in troubles), troubles
    assert len({item.entry.event.id for item in one.emitted}) == len(one.emitted) >= 4 * 3 * TASKS


@pytest.mark.parametrize("key", NEEDED)
def test_a_key_of_a_foreign_type_that_is_needed_stops_the_merge(store_url: str, key: str) -> None:
    """Given something else in place of a key without which announcements would be lost, nothing is merged until it is
    gone; then all is announced once.
    """
    one, inside = Instance(store_url, counting=one_counting("1"), stuck=LIMITS).start(), Inside(store_url)
    full = inside.keys.prefix + key
    kept = inside.redis.dump(full)
    inside.redis.set(full, "foreign")
    with pytest.raises(StoreUnavailable, match="WRONGTYPE"):
        merge(one)

    inside.redis.delete(full)
    if kept:
        inside.redis.restore(full, 0, kept)
    one.recover()
    merge(one)
    inside.let_wait_end()
    one.tick()

    found, _ = announced(one)
    assert set(found.values()) == {1}
    assert len(found) == 4 * 3 * TASKS + TASKS + 3


def test_a_broken_record_is_begun_anew(store_url: str) -> None:
    """Given a value in place of a record that is none, the events of its task are announced, and the reply says so."""
    one, inside = Instance(store_url).start(), Inside(store_url)
    inside.redis.set(inside.keys.task("t"), b"\xc1")

    applied = one.apply(life("t"))

    assert len(applied.items) == 4
    assert "the value is broken" in applied.trouble


def test_a_redis_at_its_limit_of_memory(own_redis: PrivateRedis) -> None:
    """Given a Redis that reaches its maxmemory again and again, whatever was under way then, each event is announced
    once.
    """
    one = Instance(own_redis.url(), counting=one_counting("1"), stuck=LIMITS).start()
    chance, refused = random.Random(1), 0
    with own_redis.client() as client:
        for number in range(60):
            used = client.info("memory")["used_memory"]
            client.config_set("maxmemory", used + chance.randint(-300_000, 50_000))
            lives = [life(f"t{number}-{n}", TIME + number) for n in range(20)]
            try:
                one.apply(*lives)
            except StoreUnavailable as error:
                assert "maxmemory" in str(error)
                refused += 1
                client.config_set("maxmemory", 0)
                one.recover()
                one.apply(*lives)

    found, _ = announced(one)
    assert (set(found.values()), len(found)) == ({1}, 60 * 20 * 4)
    assert refused > 5


def test_a_redis_that_is_killed_while_it_merges(own_redis: PrivateRedis) -> None:
    """Given a Redis that is killed at any moment of a call and keeps each write, each event is announced once."""
    one = Instance(own_redis.url(), counting=one_counting("1"), stuck=LIMITS).start()
    chance, lost = random.Random(1), 0
    for number in range(12):
        lives = [life(f"t{number}-{n}", TIME + number) for n in range(100)]
        if number == 0:
            own_redis.pause()  # at least this one is killed before the call has ended
        one.store.send_apply(decode(*lives))
        time.sleep(chance.random() * 0.006)
        own_redis.kill()
        try:
            one.announce(one.store.receive_apply().items)
        except StoreUnavailable:
            lost += 1
        own_redis.start()
        one.recover()
        one.apply(*lives)

    found, _ = announced(one)
    assert (set(found.values()), len(found)) == ({1}, 12 * 100 * 4)
    assert lost > 0
