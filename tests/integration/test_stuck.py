"""Tasks that go no further in a real Redis: which are found, that each is told once, and what is reconciled."""

from __future__ import annotations

import itertools
import json
import random
import time
from datetime import UTC, datetime
from typing import Any

import pytest

from ha_monitor.config.schema import StuckSettings, TaskLimits
from ha_monitor.errors import LeaseLost
from ha_monitor.events.catalogue import State
from ha_monitor.events.facts import Fact
from ha_monitor.outputs.line import Identity, build_line, encode_line
from ha_monitor.store.duties import Duties
from ha_monitor.store.record import record_at
from ha_monitor.store.results import Candidate, Confirmation, FinishedTask, OrphanedTask, StuckTask, Watching
from ha_monitor.store.stuck import MAX_CANDIDATES, MAX_RECORDS, MIN_RUN_TIME, RedisOpenTasks
from tests.integration.storing import Inside, Instance
from tests.integration.test_counting import counter, samples
from tests.support.process import wait_until
from tests.unit.builders import UUID, event, fact_builder
from tests.unit.test_line import problems

LIMITS = StuckSettings(sent_after=100, received_after=200, started_after=400, run_time_factor=0)
GONE_ON = [
    event("task-received", at=9_000),
    event("task-started", at=9_000),
    event("task-retried", at=9_000),
    event("task-succeeded", at=9_000),
]
IDENTITY = Identity("node", "1", "host", 1)


class Leader:
    """An instance with the leader's duty towards tasks."""

    def __init__(self, url: str, settings: StuckSettings = LIMITS, **changes: Any) -> None:
        self.instance = Instance(url, stuck=settings, **changes).start()
        self.tasks = RedisOpenTasks(self.instance.store, settings)

    def lead(self) -> bool:
        return self.instance.store.tick(b"{}", [], watermark_age=0.0).leads

    def found(self) -> list[Candidate]:
        candidates = self.tasks.candidates()
        assert candidates is not None
        return candidates.tasks

    def confirm(self, *confirmations: tuple[Candidate, Confirmation], required_watermark: int = 0) -> list[str]:
        """The types of what was announced, once it is not too early."""
        items = self.tasks.confirm(required_watermark, list(confirmations))
        assert items is not None, "it is too early"
        self.instance.announce(items)
        return [item.entry.event.type for item in items]


@pytest.fixture
def one(store_url: str) -> Leader:
    leader = Leader(store_url)
    leader.lead()
    return leader


@pytest.fixture
def two(store_url: str, one: Leader) -> Leader:
    leader = Leader(store_url)
    assert not leader.lead()
    return leader


def ago(seconds: float) -> float:
    return time.time() - seconds


def make_due(inside: Inside) -> None:
    """As if the time had come to look at every open task again."""
    for uuid in inside.redis.zrange(inside.keys.open, 0, -1):
        inside.redis.zadd(inside.keys.open, {uuid: 1})


def is_open(inside: Inside, uuid: str = UUID) -> bool:
    return inside.redis.zscore(inside.keys.open, uuid) is not None


def held(seen_in: Any = "started") -> StuckTask:
    return StuckTask(seen_in, ["worker"], 1)


def finished(event_type: str = "task-succeeded", at: float | None = None, **changes: Any) -> FinishedTask:
    body = event(event_type, at=ago(10) if at is None else at, pid=None, clock=None, **changes)
    return FinishedTask(fact_builder().task_fact(body, event_type, "reconciled"))


def lose(leader: Leader, inside: Inside, *names: str) -> None:
    """As if nothing had been heard of the workers for long, and the leader had seen that."""
    leader.instance.apply(*(event("worker-heartbeat", hostname=name) for name in names))
    now = inside.redis.time()[0] * 1000
    inside.redis.zadd(inside.keys.workers, dict.fromkeys(names, now - 61_000))
    watched = Duties(leader.instance.store).watch(Watching(10, 60), [], may_declare_lost=True, watermark=(0.0, 0.0))
    assert watched is not None


# --- which are found -----------------------------------------------------------------------

SENT = ["task-sent"]
RECEIVED = ["task-sent", "task-received"]
STARTED = ["task-sent", "task-received", "task-started"]
RETRIED = [*STARTED, "task-retried"]


@pytest.mark.parametrize(
    ("types", "phase", "limit"),
    [
        (SENT, "sent", 100),
        (RECEIVED, "received", 200),
        (STARTED, "started", 400),
        (RETRIED, "sent", 100),
        (["task-started"], "started", 400),
        ([*STARTED, "task-received"], "received", 200),
    ],
)
def test_a_task_is_found_when_its_phase_takes_too_long_and_not_before(
    one: Leader, types: list[str], phase: str, limit: float
) -> None:
    """Given a task that goes no further, it is found as soon as the limit of its phase is over, with what is known."""
    early, late = "early", "late"
    for uuid, age in ((early, limit - 20), (late, limit + 1)):
        began = ago(age)
        one.instance.apply(
            [event(kind, at=began - 0.001 * (len(types) - n), uuid=uuid) for n, kind in enumerate(types)]
        )

    (candidate,) = one.found()
    assert candidate.task_id == late
    assert candidate.phase == phase
    assert candidate.since / 1e6 == pytest.approx(ago(limit + 1), abs=5)
    assert (candidate.name, candidate.queue) == (("shop.pay", "celery") if "task-sent" in types else ("", ""))
    assert candidate.worker == ("" if types == SENT else "celery@host")


@pytest.mark.parametrize("last", ["task-succeeded", "task-failed", "task-revoked", "task-rejected"])
def test_a_finished_task_is_never_found(one: Leader, inside: Inside, last: str) -> None:
    """Given a task that has ended, in whichever order its events came, it is not looked at any more."""
    began = ago(10_000)
    events = [event(kind, at=began + n) for n, kind in enumerate([*STARTED, last])]
    random.Random(last).shuffle(events)
    for body in events:
        one.instance.apply(body)

    assert one.found() == []
    assert not is_open(inside)


def test_a_task_that_goes_on_is_not_found(one: Leader) -> None:
    """Given a task that was overdue, once it is received or started its time begins anew."""
    one.instance.apply(event("task-sent", at=ago(1000)))
    one.instance.apply(event("task-received", at=ago(10)))
    assert one.found() == []
    one.instance.apply(event("task-started", at=ago(5)))

    assert one.found() == []


def eta(seconds_from_now: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime(time.time() + seconds_from_now))


@pytest.mark.parametrize("types", [SENT, RECEIVED], ids=["sent", "received"])
def test_a_task_is_not_overdue_before_its_eta(one: Leader, inside: Inside, types: list[str]) -> None:
    """Given a task sent long ago with an eta, its time begins with the eta."""
    for uuid, due in (("not yet", 60), ("just due", -20), ("long due", -300)):
        one.instance.apply(*(event(kind, at=ago(5000), uuid=uuid, eta=eta(due)) for kind in types))

    (candidate,) = one.found()
    assert candidate.task_id == "long due"
    assert candidate.since / 1e6 == pytest.approx(ago(300), abs=5)


def test_a_retry_is_not_overdue_before_its_eta(one: Leader) -> None:
    """Given a retry with a countdown, sent and received by a worker that waits for its time, it is not overdue."""
    began = ago(5000)
    one.instance.apply(*(event(kind, at=began) for kind in STARTED), event("task-retried", at=began + 1))
    one.instance.apply(event("task-sent", at=began + 1, retries=1, eta=eta(60)))
    assert one.found() == []
    one.instance.apply(event("task-received", at=began + 2, retries=1, eta=eta(60)))

    assert one.found() == []


def test_limits_by_name_come_before_all_others(store_url: str) -> None:
    """Given limits for names, the first pattern that fits a name decides; what it leaves open is as for all others, and
    0 is no limit. A pattern's other characters stand for themselves.
    """
    leader = Leader(
        store_url,
        StuckSettings(
            sent_after=100,
            started_after=400,
            run_time_factor=0,
            tasks={
                "reports.nightly": TaskLimits(started_after=0),
                "reports.*": TaskLimits(started_after=5000),
                "mail.s%d[x]": TaskLimits(started_after=10),
            },
        ),
    )
    leader.lead()
    ages = {
        "reports.nightly": 100_000,
        "reports.weekly": 4000,
        "reports.monthly": 6000,
        "areports.x": 500,
        "mail.s%d[x]": 20,
        "mail.s%dx": 20,
    }
    for name, age in ages.items():
        leader.instance.apply(*(event(kind, at=ago(age), uuid=name, name=name) for kind in STARTED))
    leader.instance.apply(event("task-sent", at=ago(200), uuid="sent", name="reports.weekly"))

    assert {one.task_id for one in leader.found()} == {"reports.monthly", "areports.x", "mail.s%d[x]", "sent"}


def run(name: str, seconds: float | None, number: int) -> list[dict[str, Any]]:
    """A run that took so long."""
    uuid = f"{name} {number}"
    began = ago(1000)
    events = [event(kind, at=began, uuid=uuid, name=name) for kind in STARTED]
    return [*events, event("task-succeeded", at=began + 1, uuid=uuid, runtime=seconds)]


def test_a_run_may_take_a_multiple_of_its_baseline_run_time(store_url: str) -> None:
    """Given names with short, long and unknown run times, each one's run is overdue after the factor times what is
    its baseline, yet never in the first minutes; where too few runs are known, after the time for all.
    """
    leader = Leader(store_url, StuckSettings(started_after=1000, run_time_factor=10))
    leader.lead()
    for name, seconds, runs in (("short", 0.5, 10), ("long", 500.0, 12), ("new", 1.0, 9)):
        for number in range(runs):
            leader.instance.apply(run(name, seconds * (0.5 + number % 2), number))
    leader.instance.apply(run("short", None, 99))
    ages = {
        "short": (MIN_RUN_TIME - 20, MIN_RUN_TIME + 5),
        "long": (4900, 5100),
        "new": (980, 1020),
    }
    for name, (early, late) in ages.items():
        for age, said in ((early, "early"), (late, "late")):
            leader.instance.apply(*(event(kind, at=ago(age), uuid=f"{name} {said}", name=name) for kind in STARTED))

    assert {one.task_id for one in leader.found()} == {"short late", "long late", "new late"}


def test_the_baseline_run_time_follows_what_changes(store_url: str, inside: Inside) -> None:
    """Given a task that becomes ten times slower, its baseline run time does, too, whatever the size of the batches."""
    leader = Leader(store_url, StuckSettings())
    leader.lead()
    for number in range(150):
        leader.instance.apply(run("changing", 1.0, number))
    leader.instance.apply([body for number in range(200, 700) for body in run("changing", 10.0, number)])

    runs, mean = inside.redis.hget(inside.keys.baselines, "changing").split()
    assert int(runs) == 100
    assert float(mean) == pytest.approx(10.0, abs=0.1)


def test_nothing_is_kept_where_nobody_looks(store_url: str, inside: Inside) -> None:
    """Given `stuck.enabled = false`, the merge keeps neither an index nor run times."""
    instance = Instance(store_url).start()
    instance.apply(*(event(kind, at=ago(10_000)) for kind in STARTED), run("short", 1.0, 1))

    assert inside.redis.exists(inside.keys.open, inside.keys.baselines) == 0


def test_whether_workers_know_a_task_by_its_id_is_told(one: Leader) -> None:
    """Given overdue tasks of which one has a UUID for an id, that one is marked: workers cannot be asked about it."""
    other = {"__type__": "uuid", "__value__": {"hex": "0" * 31 + "1"}}
    for uuid in ("a", other):
        one.instance.apply(*(event(kind, at=ago(10_000), uuid=None) | {"uuid": uuid} for kind in STARTED))
    one.instance.apply(event("worker-heartbeat"))

    found = {candidate.task_id: candidate.is_known for candidate in one.found()}

    assert found == {"a": True, "00000000-0000-0000-0000-000000000001": False}


# --- lost workers --------------------------------------------------------------------------


def test_tasks_of_a_lost_worker_are_found_at_once(one: Leader, inside: Inside) -> None:
    """Given a worker that is lost, the tasks that it had started are found though no limit is over, and no other
    worker's, nor what it had only received: that comes back into its queue.
    """
    for uuid, name in (("a1", "a@host"), ("a2", "a@host"), ("b1", "b@host")):
        one.instance.apply(*(event(kind, at=ago(5), uuid=uuid, hostname=name) for kind in STARTED))
    one.instance.apply(*(event(kind, at=ago(5), uuid="a3", hostname="a@host") for kind in RECEIVED))
    one.instance.apply(*(event(kind, at=ago(5), uuid="a4", hostname="a@host") for kind in [*STARTED, "task-succeeded"]))
    one.instance.apply(event("worker-heartbeat", hostname="b@host"))
    assert one.found() == []
    lose(one, inside, "a@host")

    candidates = one.found()
    assert {candidate.task_id for candidate in candidates} == {"a1", "a2"}
    assert {candidate.worker_state for candidate in candidates} == {"lost"}
    assert one.found() == []


def test_a_task_that_was_asked_for_before_its_worker_was_lost_is_found_again_at_once(
    one: Leader, inside: Inside
) -> None:
    """Given an overdue task whose worker did not answer, it is found again as soon as the worker is lost, and need not
    wait until it would be asked for again.
    """
    one.instance.apply(*(event(kind, at=ago(500)) for kind in STARTED))
    assert len(one.found()) == 1
    assert one.found() == []
    lose(one, inside, "celery@host")

    (candidate,) = one.found()
    assert (candidate.task_id, candidate.worker_state) == (UUID, "lost")


def test_all_of_ten_thousand_open_tasks_are_looked_through_in_bounded_rounds(store_url: str, inside: Inside) -> None:
    """Given 10,000 open tasks of which a lost worker had 300, all of those are found within some rounds, of which none
    returns more than it may nor blocks Redis for long.
    """
    leader = Leader(store_url)
    leader.lead()
    mine = set()
    for start in range(0, 10_000, 500):
        bodies = []
        for number in range(start, start + 500):
            worker = "a@host" if number % 33 == 0 and number < 9_900 else "b@host"
            if worker == "a@host":
                mine.add(f"t{number}")
            bodies += [event(kind, at=ago(5), uuid=f"t{number}", hostname=worker) for kind in STARTED]
        leader.instance.apply(bodies)
    leader.instance.apply(event("worker-heartbeat", hostname="b@host"))
    lose(leader, inside, "a@host")
    inside.redis.config_resetstat()

    found: set[str] = set()
    rounds = 0
    while found != mine and rounds < 60:
        candidates = leader.found()
        rounds += 1
        assert len(candidates) <= MAX_CANDIDATES
        found |= {candidate.task_id for candidate in candidates}

    assert found == mine
    assert len(mine) == 300
    calls = inside.redis.info("commandstats")
    assert calls["cmdstat_get"]["calls"] <= MAX_RECORDS * calls["cmdstat_evalsha"]["calls"]


def test_many_overdue_tasks_get_their_turn(store_url: str, inside: Inside) -> None:
    """Given 10,000 overdue tasks, each round brings others, until all were found once."""
    leader = Leader(store_url)
    leader.lead()
    for start in range(0, 10_000, 500):
        leader.instance.apply([event("task-sent", at=ago(1000), uuid=f"t{n}") for n in range(start, start + 500)])

    found = list(itertools.chain.from_iterable(leader.found() for _ in range(100)))
    assert len(found) == len({candidate.task_id for candidate in found}) == 10_000
    assert leader.found() == []


# --- what is announced ---------------------------------------------------------------------


def test_a_stuck_task_is_announced_once_over_all_instances(one: Leader, two: Leader, inside: Inside) -> None:
    """Given a task that hangs, one line says so, also when the leader changes and it is found again and again."""
    one.instance.apply(*(event(kind, at=ago(500)) for kind in STARTED))
    (candidate,) = one.found()
    assert one.confirm((candidate, held())) == ["task-stuck"]
    make_due(inside)
    (again,) = one.found()
    assert one.confirm((again, held())) == []
    inside.let_lease_end(one.instance.store.token)
    assert two.lead()
    make_due(inside)
    (again,) = two.found()
    assert two.confirm((again, held())) == []

    line = build_line(one.instance.emitted[-1], IDENTITY, "2026-01-01T00:00:00.000000Z")
    assert (line.level, line.event, line.task_id, line.task_name) == ("warning", "task-stuck", UUID, "shop.pay")
    assert (line.queue, line.worker, line.phase, line.confirmed_by) == ("celery", "celery@host", "started", ["worker"])
    assert line.seconds == pytest.approx(500, abs=5)
    assert line.answered == 1
    assert problems(json.loads(encode_line(line))) == []


@pytest.mark.parametrize(("age", "pause"), [(500, 400), (8_000, 2_000), (10_000_000, 3_600)])
def test_the_longer_a_task_is_stuck_the_rarer_it_is_asked_for(
    one: Leader, inside: Inside, age: float, pause: float
) -> None:
    """Given a task that was announced, it is asked for again after its limit or a quarter of the time that it has been
    there, but within an hour, so that many that never change leave room for others.
    """
    one.instance.apply(*(event(kind, at=ago(age)) for kind in STARTED))
    one.confirm((one.found()[0], held()))

    due = inside.redis.zscore(inside.keys.open, UUID)
    assert due is not None
    assert due / 1000 - time.time() == pytest.approx(pause, abs=60)


def test_open_tasks_are_looked_at_when_redis_clock_was_put_back(one: Leader, inside: Inside) -> None:
    """Given a task that is to be looked at in some minutes, and messages that were just requeued, a step of Redis's
    clock by an hour delays neither the look nor what it confirms, once the messages had their time to come."""
    one.instance.apply(*(event(kind, at=ago(500)) for kind in STARTED))
    inside.redis.zadd(inside.keys.open, {UUID: (time.time() + 100) * 1000})
    one.instance.store.tick(b"{}", [], requeued=True)

    inside.put_clock_back(3600)
    one.lead()
    (candidate,) = one.found()

    assert wait_until(lambda: one.lead() and one.tasks.confirm(0, [(candidate, held())]))


def test_a_task_that_is_stuck_in_its_next_run_is_announced_again(one: Leader, inside: Inside) -> None:
    """Given a task that was stuck, went on, and is stuck again, that is news, with another id; it ends as any other."""
    one.instance.apply(*(event(kind, at=ago(5000)) for kind in STARTED))
    assert one.confirm((one.found()[0], held())) == ["task-stuck"]
    one.instance.apply(event("task-retried", at=ago(1000)), event("task-received", at=ago(999), retries=1))
    assert inside.redis.exists(inside.keys.stuck) == 0
    assert one.confirm((one.found()[0], held("received"))) == ["task-stuck"]
    one.instance.apply(event("task-started", at=ago(3)), event("task-succeeded", at=ago(2)))

    assert one.instance.types[-1] == "task-succeeded"
    stuck = [item.entry.event.id for item in one.instance.emitted if item.entry.event.type == "task-stuck"]
    assert len(set(stuck)) == 2
    assert inside.redis.exists(inside.keys.stuck) == 0
    assert inside.task(UUID).state is State.SUCCESS


def test_a_stuck_task_whose_worker_is_then_lost_is_orphaned_as_well(one: Leader, inside: Inside) -> None:
    """Given a task that was stuck, when its worker is lost it is orphaned, once, and not stuck any more."""
    one.instance.apply(*(event(kind, at=ago(500)) for kind in STARTED))
    one.confirm((one.found()[0], held()))
    lose(one, inside, "celery@host")
    (candidate,) = one.found()
    orphaned = OrphanedTask(True, ["worker-lost"], 0)
    assert one.confirm((candidate, orphaned)) == ["task-orphaned"]
    make_due(inside)
    assert one.confirm((one.found()[0], orphaned)) == []
    assert one.confirm((candidate, held())) == []

    watched = Duties(one.instance.store).watch(Watching(10, 60), [], may_declare_lost=True, watermark=(0.0, 0.0))
    assert watched is not None
    assert (watched.stuck, watched.orphaned) == (0, 1)
    line = build_line(one.instance.emitted[-1], IDENTITY, "2026-01-01T00:00:00.000000Z")
    assert (line.level, line.event, line.confirmed_by) == ("error", "task-orphaned", ["worker-lost"])
    assert problems(json.loads(encode_line(line))) == []


def test_a_worker_that_came_back_meanwhile_has_lost_nothing(one: Leader, inside: Inside) -> None:
    """Given a task of a lost worker, when the worker is back before the confirmation, it is not orphaned."""
    one.instance.apply(*(event(kind, at=ago(5)) for kind in STARTED))
    lose(one, inside, "celery@host")
    (candidate,) = one.found()
    one.instance.apply(event("worker-heartbeat", at=time.time()))
    Duties(one.instance.store).watch(Watching(10, 60), [], may_declare_lost=True, watermark=(0.0, 0.0))

    assert one.confirm((candidate, OrphanedTask(True, ["worker-lost"], 0))) == []


@pytest.mark.parametrize("moved_on", GONE_ON, ids=lambda body: body["type"])
def test_a_task_that_moved_on_while_it_was_asked_for_is_left_alone(one: Leader, moved_on: dict[str, Any]) -> None:
    """Given a task that was found and goes on before the confirmation, nothing is said of it."""
    one.instance.apply(event("task-sent", at=ago(500)), event("task-received", at=ago(450)))
    (candidate,) = one.found()
    one.instance.apply({**moved_on, "timestamp": ago(1)})
    lost = OrphanedTask(False, ["workers"], 1)

    assert one.confirm((candidate, held("received")), (candidate, lost), (candidate, finished("task-failed"))) == []
    assert "task-failed" not in one.instance.types


def test_a_task_that_is_further_than_its_record_gets_the_time_of_that_phase(one: Leader, inside: Inside) -> None:
    """Given a task whose start was never heard of, and which a worker runs, it is stuck when the time of a run is over,
    and not when that of a received task is.
    """
    one.instance.apply(*(event(kind, at=ago(300)) for kind in RECEIVED))
    assert one.confirm((one.found()[0], held("started"))) == []
    one.instance.apply(*(event(kind, at=ago(500), uuid="older") for kind in RECEIVED))

    assert one.confirm((one.found()[0], held("started"))) == ["task-stuck"]
    assert one.instance.emitted[-1].entry.event.fields["phase"] == "started"


def test_nothing_is_confirmed_while_an_event_may_be_on_its_way(one: Leader, two: Leader) -> None:
    """Given an instance that has not merged yet what it was given before the workers answered, nothing is confirmed."""
    one.instance.apply(*(event(kind, at=ago(500)) for kind in STARTED))
    candidates = one.tasks.candidates()
    assert candidates is not None
    confirmations: list[tuple[Candidate, Confirmation]] = [(candidates.tasks[0], held())]
    assert one.tasks.confirm(candidates.at, confirmations) is None
    two.instance.store.tick(b"{}", [], watermark_age=60.0)
    assert one.tasks.confirm(candidates.at - 50_000, confirmations) is None
    two.lead()
    one.lead()

    assert one.confirm(*confirmations, required_watermark=candidates.at - 2000) == ["task-stuck"]


def test_ages_are_by_the_clock_of_the_store(one: Leader, inside: Inside) -> None:
    """Given a worker whose clock is known to be two hours behind, its task is overdue when its limit is over, and not
    at once; the line has the right age.
    """
    inside.redis.hset(inside.keys.skewed, "celery@host", 7_200_000)
    one.instance.apply(*(event(kind, at=ago(7200 + 390), uuid="early") for kind in STARTED))
    assert one.found() == []
    one.instance.apply(*(event(kind, at=ago(7200 + 410)) for kind in STARTED))
    (candidate,) = one.found()
    assert candidate.task_id == UUID
    assert one.confirm((candidate, held())) == ["task-stuck"]
    assert one.instance.emitted[-1].entry.event.fields["seconds"] == pytest.approx(410, abs=60)


# --- who may write -------------------------------------------------------------------------


def test_the_leader_may_die_at_any_moment(one: Leader, two: Leader, inside: Inside) -> None:
    """Given a leader that dies between the question and the confirmation, the next one finds the task again; one
    that dies between the confirmation and the line leaves it to the next. It is announced once, with one id.
    """
    one.instance.apply(*(event(kind, at=ago(500)) for kind in STARTED))
    (candidate,) = one.found()
    inside.let_lease_end(one.instance.store.token)
    assert two.lead()
    assert two.found() == []
    make_due(inside)
    (again,) = two.found()
    assert again == candidate
    items = two.tasks.confirm(0, [(again, held())])
    assert items is not None
    inside.let_lease_end(two.instance.store.token)
    three = Leader(inside_url(inside))
    ticked = three.instance.stay_in_contact()

    recovered = [item for item in (*three.instance.emitted, *ticked.items) if item.entry.event.type == "task-stuck"]
    assert {item.entry.event.id for item in recovered} == {items[0].entry.event.id}
    assert all(item.recovered for item in recovered)


def inside_url(inside: Inside) -> str:
    options = inside.redis.connection_pool.connection_kwargs
    return f"redis://{options['host']}:{options['port']}/{options['db']}"


def test_a_frozen_former_leader_cannot_write(one: Leader, two: Leader, inside: Inside) -> None:
    """Given a leader that was frozen between the question and its confirmation, that has no effect: neither while
    another one leads, nor once its outbox was taken over.
    """
    one.instance.apply(*(event(kind, at=ago(500)) for kind in STARTED))
    (candidate,) = one.found()
    inside.let_lease_end(one.instance.store.token)
    assert two.lead()
    before = inside.record(UUID)

    assert one.tasks.candidates() is None
    assert one.tasks.confirm(0, [(candidate, finished())]) == []
    two.instance.stay_in_contact()
    for confirmation in (held(), OrphanedTask(False, ["workers"], 1), finished()):
        with pytest.raises(LeaseLost):
            one.tasks.confirm(0, [(candidate, confirmation)])
    assert inside.record(UUID) == before
    assert inside.redis.exists(inside.keys.stuck, inside.keys.orphaned) == 0


def test_nothing_is_concluded_while_an_instance_may_have_the_end_for_itself(
    one: Leader, two: Leader, inside: Inside
) -> None:
    """Given a broker that does not redeliver and an instance that vanished, it may live without a store, and have been
    given the end of a task alone: until it may be taken for dead, no task is called stuck or orphaned."""
    one.instance.apply(*(event(kind, at=ago(500)) for kind in STARTED))
    (candidate,) = one.found()
    inside.let_lease_end(two.instance.store.token)
    one.instance.stay_in_contact()
    orphaned = OrphanedTask(False, ["workers"], 1)
    tasks = RedisOpenTasks(one.instance.store, LIMITS, max_absence=60.0)
    assert wait_until(lambda: one.lead() and one.tasks.confirm(0, []) is not None)

    assert tasks.confirm(0, [(candidate, orphaned)]) is None
    assert one.confirm((candidate, orphaned)) == ["task-orphaned"], "the broker redelivers: it would have come"


# --- reconciliation -------------------------------------------------------------------------


def test_a_reconciled_end_is_the_missing_end(one: Leader, inside: Inside) -> None:
    """Given a task of which the result is known and the last event is not, its record is completed and the event
    announced, with its source; it is not open any more, and a second confirmation changes nothing.
    """
    began = ago(500)
    one.instance.apply(*(event(kind, at=began) for kind in STARTED))
    (candidate,) = one.found()
    confirmation = finished(at=began + 7, runtime=None)

    assert one.confirm((candidate, confirmation)) == ["task-succeeded"]
    assert one.confirm((candidate, confirmation)) == []
    task = inside.task(UUID)
    assert task.state is State.SUCCESS
    assert task.finished == pytest.approx(began + 7, abs=0.01)
    assert task.runtime == pytest.approx(7, abs=0.01)
    assert not is_open(inside)
    line = build_line(one.instance.emitted[-1], IDENTITY, "2026-01-01T00:00:00.000000Z")
    assert (line.event, line.source, line.task_name, line.queue) == (
        *("task-succeeded", "reconciled", "shop.pay", "celery"),
    )
    assert problems(json.loads(encode_line(line))) == []


@pytest.mark.parametrize("event_type", ["task-succeeded", "task-failed", "task-revoked"])
def test_an_event_that_comes_after_its_reconciliation_is_not_announced_again(
    store_url: str, one: Leader, inside: Inside, event_type: str
) -> None:
    """Given a reconciled task whose real last event comes late, it is not announced a second time, and the record
    is the same as if it had come in time.
    """
    began = ago(500)
    real = event(event_type, at=began + 6.9)
    whole = Instance(store_url, prefix="whole").start()
    in_time = Inside(store_url)
    in_time.keys = type(in_time.keys)("whole", "tests")
    for target in (one.instance, whole):
        target.apply(*(event(kind, at=began) for kind in STARTED))
    whole.apply(real)
    (candidate,) = one.found()
    assert one.confirm((candidate, finished(event_type, at=began + 7))) == [event_type]
    one.instance.apply(real)
    one.instance.apply(real)

    assert one.instance.types.count(event_type) == 1
    assert inside.record(UUID)[0] == in_time.record(UUID)[0]
    again = event(event_type, at=began + 90)
    one.instance.apply(event("task-received", at=began + 79), event("task-started", at=began + 80), again)
    assert one.instance.types.count(event_type) == 2, "the end of another run is one of its own"


def test_another_end_after_a_reconciled_one_follows_the_rules_for_several_ends(one: Leader, inside: Inside) -> None:
    """Given a task reconciled as failed, which then succeeds in another run, it has succeeded, and the line says so."""
    began = ago(500)
    one.instance.apply(*(event(kind, at=began) for kind in STARTED))
    one.confirm((one.found()[0], finished("task-failed", at=began + 7)))
    assert inside.task(UUID).state is State.FAILURE
    one.instance.apply(*(event(kind, at=began + 20) for kind in ("task-received", "task-started", "task-succeeded")))

    assert inside.task(UUID).state is State.SUCCESS
    assert one.instance.types[-1] == "task-succeeded"
    assert not is_open(inside)


def test_a_reconciled_end_is_counted_once(store_url: str) -> None:
    """Given a reconciled task whose real last event comes late, its counter and that of reconciled ones are 1. The
    repair is known as something counted, though nothing of it may be announced, and so is read for the next scrape.
    """
    instance = counter(store_url, stuck=LIMITS)
    instance.store.tick(b"{}", [], watermark_age=0.0)
    tasks = RedisOpenTasks(instance.store, LIMITS)
    began = ago(500)
    instance.apply(*(event(kind, at=began) for kind in STARTED))
    candidates = tasks.candidates()
    assert candidates is not None
    fact: Fact = finished(at=began + 7).fact
    instance.store.counts.read()
    items = tasks.confirm(0, [(candidates.tasks[0], FinishedTask(fact))])
    assert items is not None
    assert b"z\x1fshop.pay" in instance.store.counts.take_changes()
    instance.apply(event("task-succeeded", at=began + 6.9))

    found = samples(instance)
    assert found.sum("ha_monitor_tasks_reconciled_total", name="shop.pay") == 1
    assert found.sum("celery_task_succeeded_total", name="shop.pay") == 1


# --- runs after an end ---------------------------------------------------------------------


def run_before(*, hostname: str = "celery@a", ended: str = "task-succeeded", seconds: float = 5000) -> list[Any]:
    kinds = ("task-received", "task-started", ended)
    return [event(kind, at=ago(seconds - number), hostname=hostname) for number, kind in enumerate(kinds)]


@pytest.mark.parametrize("hostname", ["celery@a", "celery@b"], ids=["the same worker", "another worker"])
@pytest.mark.parametrize(
    ("kinds", "phase", "state"),
    [
        (["task-received"], "received", State.RECEIVED),
        (["task-received", "task-started"], "started", State.STARTED),
    ],
)
def test_a_later_run_that_hangs_is_found(
    one: Leader, inside: Inside, *, kinds: list[str], phase: Any, state: State, hostname: str
) -> None:
    """Given a task that ended after a retry and was begun once more under its id, the later run is found and told of as
    stuck, with its own retries, and as what has not ended; when it ends, it is over."""
    first = [event("task-received", at=ago(6000), retries=1), *run_before(ended="task-failed")]
    one.instance.apply(first)
    assert not is_open(inside)

    one.instance.apply([event(kind, at=ago(1000 - n), hostname=hostname) for n, kind in enumerate(kinds)])
    one.instance.emitted.clear()
    make_due(inside)
    (candidate,) = one.found()
    assert (candidate.phase, candidate.worker) == (phase, hostname)
    assert one.confirm((candidate, held(phase))) == ["task-stuck"]

    (item,) = one.instance.emitted
    assert item.entry.facts is not None
    record = record_at(item.entry.event, item.entry.facts)
    assert (record.state, record.retries, record.exception, record.finished) == (state, 0, None, None)

    one.instance.apply(event("task-started", at=ago(998.5), hostname=hostname))
    one.instance.apply(event("task-succeeded", at=ago(10), hostname=hostname))
    make_due(inside)
    assert (one.found(), is_open(inside)) == ([], False)


def test_a_later_run_is_found_though_the_end_before_it_came_after_its_start(one: Leader, inside: Inside) -> None:
    """Given an instance that is behind with the end of a run when another merges the start of the next one."""
    received, began, ended = run_before()
    one.instance.apply(received, began, event("task-received", at=ago(1000), hostname="celery@a"))
    one.instance.apply(event("task-started", at=ago(999), hostname="celery@a"))

    one.instance.apply(ended)
    make_due(inside)

    (candidate,) = one.found()
    assert candidate.phase == "started"


def test_clocks_an_hour_apart_make_no_later_run(one: Leader, inside: Inside) -> None:
    """Given a retry, or a delivery to a worker that died, on a worker whose clock is an hour ahead, the end elsewhere
    is the end: nothing is open."""
    for uuid, extra in (("retried", [event("task-retried", at=ago(-3600), hostname="celery@ahead")]), ("died", [])):
        events = [
            event("task-received", at=ago(-3598), hostname="celery@ahead"),
            event("task-started", at=ago(-3599), hostname="celery@ahead"),
            *extra,
            event("task-received", at=ago(5), hostname="celery@behind", retries=len(extra)),
            event("task-started", at=ago(4), hostname="celery@behind"),
            event("task-succeeded", at=ago(3), hostname="celery@behind"),
        ]
        one.instance.apply([body | {"uuid": uuid} for body in events])

        assert not is_open(inside, uuid)


# --- how long a record lives ---------------------------------------------------------------

WEEK = 7 * 86400


def at(seconds: float) -> str:
    return datetime.fromtimestamp(time.time() + seconds, UTC).isoformat()


def test_a_task_with_an_eta_keeps_its_name_until_then(one: Leader, inside: Inside) -> None:
    """Given an eta later than `store.failure_ttl`, the record outlives it by that time; a success ends that, and an
    eta in another century counts as one in a year."""
    one.instance.apply(event("task-received", at=ago(1), eta=at(3 * WEEK)))
    one.instance.apply(event("task-received", uuid="other", at=ago(1), eta="2090-01-01T00:00:00+00:00"))

    assert inside.ttl(inside.keys.task(UUID)) == pytest.approx(4 * WEEK, abs=600)
    assert inside.ttl(inside.keys.task("other")) == pytest.approx(366 * 86400 + WEEK, abs=600)

    one.instance.apply(event("task-started", at=time.time()), event("task-succeeded", at=time.time()))
    assert inside.ttl(inside.keys.task(UUID)) <= 86400


@pytest.mark.parametrize("started_after", [0, 30 * 86400], ids=["without a limit", "with a long limit"])
def test_a_long_run_keeps_its_name_while_a_worker_has_it(store_url: str, inside: Inside, started_after: float) -> None:
    """Given a run that may take longer than `store.failure_ttl`, its worker is asked before the record expires, and
    the record lives on if it has it; nothing is said."""
    leader = Leader(store_url, StuckSettings(started_after=started_after, run_time_factor=0))
    leader.lead()
    leader.instance.apply(event("task-received", at=ago(100)), event("task-started", at=ago(100)))
    make_due(inside)
    assert leader.found() == [], "there is time"

    inside.redis.expire(inside.keys.task(UUID), WEEK // 2 - 60)
    make_due(inside)
    (candidate,) = leader.found()
    assert leader.confirm((candidate, held())) == []

    assert inside.ttl(inside.keys.task(UUID)) > WEEK - 600
    assert is_open(inside)
    make_due(inside)
    assert leader.found() == []


def test_a_run_within_its_limit_that_no_worker_has_is_let_go_without_a_word(store_url: str, inside: Inside) -> None:
    """Given a task that was asked for only because its record expires, that no worker has it is not said, and its
    record expires."""
    leader = Leader(store_url, StuckSettings(started_after=0, run_time_factor=0))
    leader.lead()
    leader.instance.apply(event("task-received", at=ago(100)), event("task-started", at=ago(100)))
    inside.redis.expire(inside.keys.task(UUID), 1000)
    make_due(inside)
    (candidate,) = leader.found()

    assert leader.confirm((candidate, OrphanedTask(False, ["workers"], 1))) == []

    assert inside.ttl(inside.keys.task(UUID)) <= 1000


def test_an_overdue_run_keeps_its_name_while_a_worker_has_it(one: Leader, inside: Inside) -> None:
    """Given a run that is stuck and that its worker has, its record does not expire meanwhile."""
    one.instance.apply(event("task-received", at=ago(500)), event("task-started", at=ago(500)))
    inside.redis.expire(inside.keys.task(UUID), 1000)
    (candidate,) = one.found()

    assert one.confirm((candidate, held())) == ["task-stuck"]

    assert inside.ttl(inside.keys.task(UUID)) > WEEK - 600
