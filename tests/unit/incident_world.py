"""A fleet with all that the rules look at, in which a test brings about each kind of incident, lets it grow, and ends
it: with the loop, store and broker in memory, and a simulated clock.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import msgspec

from ha_monitor.broker.memory import MemorySource
from ha_monitor.broker.survey import Survey, TaskQueue
from ha_monitor.broker.task_query import Held, WorkerAnswers
from ha_monitor.config.schema import Config, StuckSettings, Workers
from ha_monitor.pipeline.incident_detector import IncidentDetector
from ha_monitor.pipeline.investigator import Investigator
from ha_monitor.pipeline.schedule_discovery import ScheduleDiscovery
from ha_monitor.schedules.learned import Habit
from ha_monitor.schedules.model import SETTLING_TIME
from ha_monitor.store.incidents import Incident
from ha_monitor.store.memory.duties import own_event
from ha_monitor.store.memory.errors import MemoryErrorMarks
from ha_monitor.store.memory.incidents import MemoryReader
from tests.unit.builders import event
from tests.unit.loop_bed import OWN_CONFIG, Bed, Instance, live
from tests.unit.test_loop_incidents import AtOnce, LookingAtOnce, beat
from tests.unit.test_loop_schedules import EVERY, Fleet

LIMIT = 240.0
"""Seconds that a run may take."""
DEFAULTS = msgspec.structs.replace(OWN_CONFIG, workers=Workers(), stuck=StuckSettings(started_after=LIMIT))
"""With the defaults of all that says when something is wrong, but for the limit of a run: it is only waited for."""
STEP = 2.0
"""Seconds between two heartbeats of a worker."""
HEARD, SETTLED = 100.0, SETTLING_TIME + 3 * EVERY
"""Seconds after which workers are judged; and after which schedules are, and an error is new."""
FIRST, SECOND, RARE = "a.one", "a.two", "a.three"
RARELY = 3
"""Of so many rounds of beat, the last schedule is due in one."""
HABIT, HABITUALLY = "a.habit", 5
"""What beat sends, too, and nobody tells; and of so many rounds, in one."""
WORKER = "celery@a"
"""The worker that runs what schedules send."""
LOST = tuple(f"celery@{letter}" for letter in "bcdef")
"""Those that may be lost, in this order."""


class AllAtOnce(LookingAtOnce):
    """What a test sees does not depend on how long a look or a question takes."""

    def calls(self, name: str) -> Any:
        return AtOnce() if name == "schedules" else super().calls(name)


class World(Fleet):
    """A beat with three schedules, workers, a queue, and instances that watch it all."""

    def __init__(self, size: int = 1, config: Config = DEFAULTS) -> None:
        super().__init__(Bed(), tasks=(FIRST, SECOND))
        self.conf["beat_schedule"][f"{RARE} rarely"] = {"task": RARE, "schedule": RARELY * EVERY}
        self.config = config
        self.heard = [WORKER, *LOST, "celery@z"]
        """The workers that send heartbeats."""
        self.queues = [TaskQueue("mail", 5, 1, 1, 0)]
        """As broker and workers say."""
        self.held: dict[str, Held] = {}
        """The tasks that workers say they have."""
        self.acks_late = False
        self.times = Counter({FIRST: 1, SECOND: 1, RARE: 1, HABIT: 1})
        """How often each schedule is sent when it is due."""
        self.ends: dict[str, str] = {}
        """How the runs of a schedule end, if not well."""
        self.foreign: list[MemorySource] = []
        """Consumers of the queue of events that know another store."""
        self.all: list[Instance] = []
        """All instances that there ever were."""
        self.begun = 0.0
        """When what a test brought about began to be wrong, by the simulated clock."""
        self._number = self._rounds = 0
        now = self.bed.clock.time()
        every = HABITUALLY * EVERY
        self.bed.server.schedules.habits[HABIT] = Habit(HABIT, now - 10 * 86400, now - every, (every,) * 20)
        self.living = [self.add(str(number + 1)) for number in range(size)]

    @property
    def due(self) -> float:
        """When the schedules are due next, by the simulated clock."""
        return self._next

    @property
    def habit_due(self) -> float:
        """When what nobody tells is due next."""
        return self._next + (-self._rounds % HABITUALLY) * EVERY

    def add(self, name: str) -> Instance:
        """Start an instance; it lives if it is in `living`."""
        threads = AllAtOnce(self.bed.clock)
        one = Instance(
            self.bed,
            name,
            config=self.config,
            detector=IncidentDetector(MemoryReader(self.bed.server), threads),
            investigator=Investigator(self._answer, None, self.bed.clock, threads),
            discovery=ScheduleDiscovery(self.confs, None, threads),
            threads=threads,
        )
        self.all.append(one)
        return one

    def kill(self, one: Instance) -> None:
        """As kill -9 does: the system closes its connections."""
        self.living.remove(one)
        one.source.close()

    def _answer(self, _ids: Sequence[str], _workers: Sequence[str]) -> WorkerAnswers:
        return WorkerAnswers(frozenset(self.heard), self.held, {"shop.pay": self.acks_late})

    def pass_by(self, seconds: float = STEP) -> None:
        """Let time pass, in which workers and beat do what they do."""
        clock, until = self.bed.clock, self.bed.clock.now + seconds
        while clock.now < until:
            if clock.now >= self._next:
                self._next += EVERY
                self._rounds += 1
                for _ in range(self.beats):
                    self.send()
            beat(self.bed, *self.heard)
            for one in self.living:
                one.telemetry.surveyed(Survey(self.queues, {}), self.bed.clock.now)
            if self.living:
                live(STEP, *self.living)
            else:
                clock.now += STEP

    def send(self) -> None:
        """What beat does when its schedules are due, and the worker with it."""
        told = {entry["task"]: entry["schedule"] / EVERY for entry in self.conf["beat_schedule"].values()}
        due = [task for task, rounds in told.items() if self._rounds % round(rounds) == 0]
        if self._rounds % HABITUALLY == 1:
            due.append(HABIT)
        for task in due:
            for _ in range(self.times[task]):
                self.runs += 1
                now, uuid = self.bed.clock.time(), f"run-{self.runs}"
                kinds = ("task-sent", "task-received", "task-started", self.ends.get(task, "task-succeeded"))
                for number, kind in enumerate(kinds):
                    known = {"name": task} if kind in ("task-sent", "task-received") else {}
                    sender = "gen1@host" if kind == "task-sent" else WORKER
                    self.bed.publish(event(kind, at=now + number / 1000, uuid=uuid, hostname=sender, **known))

    def until(self, condition: Callable[[], object], seconds: float = 1500.0) -> None:
        """Let time pass until something is so. :raises AssertionError: if it is not after so many seconds."""
        until = self.bed.clock.now + seconds
        while not condition():
            assert self.bed.clock.now < until, self.lines_of()
            self.pass_by()

    def lines_of(self, kind: str = "", event_type: str = "") -> list[dict[str, Any]]:
        """The lines of incidents of a kind, of all instances."""
        return [
            line
            for one in self.all
            for line in one.output.lines
            if line["event"].startswith(event_type or "incident-") and kind in ("", line.get("kind"))
        ]

    def incident(self, kind: str) -> Incident:
        """The only one of a kind."""
        (found,) = (one for one in self.bed.server.incidents.values() if one.kind == kind)
        return found

    def run(self, *kinds: str, worker: str = WORKER, count: int = 1) -> list[str]:
        """Have a worker send these events of so many new tasks; their ids."""
        ids = []
        for _ in range(count):
            self._number += 1
            ids.append(f"own-{self._number}")
            for number, kind in enumerate(kinds):
                self.bed.publish(event(kind, at=self.bed.clock.time() + number / 1e6, uuid=ids[-1], hostname=worker))
        return ids

    def end(self, *ids: str) -> None:
        """Have tasks succeed."""
        for one in ids:
            self.bed.publish(event("task-succeeded", at=self.bed.clock.time(), uuid=one, hostname=WORKER))


RECEIVED, STARTED = "task-received", "task-started"


class Cause(NamedTuple):
    """What brings a kind of incident about."""

    begin: Callable[[World], None]
    """It is wrong from now on, or from `World.begun`, if that is set."""
    end: Callable[[World], None]
    again: Callable[[World], None] | None
    """None for one that cannot come again soon."""
    grow: Callable[[World], None] | None = None
    """None for one that does not grow. `_nothing` for one that grows by itself."""
    size: int = 1
    """Instances that it needs."""


def _nothing(_world: World) -> None: ...


def _lose(world: World) -> None:
    world.heard.remove(next(name for name in LOST if name in world.heard))


def _lose_two(world: World) -> None:
    _lose(world)
    world.pass_by(20)
    _lose(world)


def _come_back(world: World) -> None:
    world.heard = [WORKER, *LOST, "celery@z"]


def _wait_in_queue(world: World, ago: float = 0.0) -> None:
    uuid = f"waits-{world.bed.clock.now}"
    world.bed.publish(event("task-sent", at=world.bed.clock.time() - ago, uuid=uuid, queue="mail"))


def _empty_queue(world: World) -> None:
    for one in [one for one in world.bed.server.tasks if one.startswith("waits-")]:
        for number, kind in enumerate((RECEIVED, STARTED, "task-succeeded")):
            world.bed.publish(event(kind, at=world.bed.clock.time() + number / 1e6, uuid=one, hostname=WORKER))


def _unconsumed(length: int) -> Callable[[World], None]:
    def change(world: World) -> None:
        world.queues = [TaskQueue("mail", length, None, 0, 0)]

    return change


def _consumed(world: World) -> None:
    world.queues = [TaskQueue("mail", 5, 1, 1, 0)]


def _fail(world: World) -> None:
    world.run(RECEIVED, STARTED, "task-failed")


def _groups(world: World) -> list[str]:
    return list(world.bed.server.errors.groups)


def _resolve(world: World) -> None:
    for group in _groups(world):
        MemoryErrorMarks(world.bed.server).resolve(group)


def _reopen(world: World) -> None:
    for group in _groups(world):
        MemoryErrorMarks(world.bed.server).reopen(group)


def _regress(world: World) -> None:
    _fail(world)
    world.pass_by(20)
    _resolve(world)
    world.pass_by(20)
    world.begun = world.bed.clock.now
    _fail(world)


def _many(end: str, bad: int, good: int = 0) -> Callable[[World], None]:
    def change(world: World) -> None:
        world.run(RECEIVED, STARTED, "task-succeeded", count=good)
        world.run(RECEIVED, STARTED, end, count=bad)

    return change


def _hang(world: World) -> None:
    (task,) = world.run(RECEIVED, STARTED)
    world.held[task] = Held(WORKER, True)
    world.begun = world.bed.clock.now + LIMIT


def _finish(world: World) -> None:
    world.end(*(one for one in world.bed.server.tasks if one.startswith("own-")))
    world.held = {}


def _lose_with_task(world: World, task: str | None = None) -> str:
    """Have the next worker run a task, and lose it; which task that was."""
    worker = next(name for name in LOST if name in world.heard)
    if task is None:
        (task,) = world.run(RECEIVED, STARTED, worker=worker)
    else:
        for kind in (RECEIVED, STARTED):
            world.bed.publish(event(kind, at=world.bed.clock.time(), uuid=task, hostname=worker))
    world.pass_by(10)
    world.begun = world.bed.clock.now
    world.heard.remove(worker)
    return task


def _orphan(world: World) -> None:
    _lose_with_task(world)


def _poison(world: World) -> None:
    world.acks_late = True
    task = _lose_with_task(world)
    world.pass_by(90)
    _lose_with_task(world, task)


def _more_poison(world: World) -> None:
    task = next(one for one, kept in world.bed.server.tasks.items() if one.startswith("own-") and kept.phase())
    _lose_with_task(world, task)


def _lose_events(world: World) -> None:
    now = world.bed.clock.time()
    world.bed.server.lost_events.append(
        own_event("events-lost", WORKER, now, worker=WORKER, time=now, fields={"lost": 3})
    )


def _times(task: str, times: int) -> Callable[[World], None]:
    def change(world: World) -> None:
        world.times[task] = times
        world.begun = world.due

    return change


def _miss_habit(world: World) -> None:
    world.times[HABIT] = 0
    world.begun = world.habit_due


def _be_habitual(world: World) -> None:
    world.times[HABIT] = 1


def _beats(count: int) -> Callable[[World], None]:
    def change(world: World) -> None:
        world.beats = count
        world.begun = world.due

    return change


def _run_ends(end: str) -> Callable[[World], None]:
    def change(world: World) -> None:
        world.ends[FIRST] = end
        world.begun = world.due

    return change


def _instance_dies(world: World) -> None:
    follower = next(one for one in world.living if not one.telemetry.is_leader())
    world.kill(follower)


def _instances_come_back(world: World) -> None:
    there = {one.identity.instance for one in world.living}
    missing = {one.identity.instance for one in world.all} - there
    world.living += [world.add(name) for name in sorted(missing)]


def _go_back(world: World) -> None:
    before = world.bed.server.state()
    world.pass_by(4)
    world.begun = world.bed.clock.now
    world.bed.server.go_back(before)


def _share(world: World) -> None:
    world.foreign.append(MemorySource(world.bed.broker))
    world.foreign[-1].connect()


def _share_no_more(world: World) -> None:
    while world.foreign:
        world.foreign.pop().close()


_ONCE_MORE = _times(FIRST, 1)
CAUSES: dict[str, Cause] = {
    "worker-lost": Cause(_lose_two, _come_back, _lose, _nothing),
    "queue-late": Cause(_wait_in_queue, _empty_queue, lambda world: _wait_in_queue(world, 250.0), _wait_in_queue),
    "no-consumer": Cause(_unconsumed(1), _consumed, _unconsumed(1), _unconsumed(2)),
    "error-new": Cause(_fail, _resolve, _reopen, _fail),
    "error-regressed": Cause(_regress, _resolve, _fail, _fail),
    "failing": Cause(_many("task-failed", 2, 18), _nothing, _many("task-failed", 30), _many("task-failed", 5)),
    "retry-storm": Cause(_many("task-retried", 50), _nothing, _many("task-retried", 50), _many("task-retried", 5)),
    "task-stuck": Cause(_hang, _finish, _hang, _hang),
    "task-orphaned": Cause(_orphan, _finish, _orphan, _orphan),
    "poison-task": Cause(_poison, _finish, _poison, _more_poison),
    "events-lost": Cause(_lose_events, _nothing, _lose_events, _lose_events),
    "schedule-missed": Cause(_times(FIRST, 0), _ONCE_MORE, _times(FIRST, 0), _nothing),
    "learned-missed": Cause(_miss_habit, _be_habitual, None),
    "schedule-doubled": Cause(_times(FIRST, 2), _ONCE_MORE, _times(FIRST, 2)),
    "beat-silent": Cause(_beats(0), _beats(1), _beats(0), _nothing),
    "schedule-failed": Cause(_run_ends("task-failed"), _run_ends("task-succeeded"), _run_ends("task-failed")),
    "monitor": Cause(_instance_dies, _instances_come_back, _instance_dies, _instance_dies, size=3),
    "store-went-back": Cause(_go_back, _nothing, _go_back),
    "queue-shared": Cause(_share, _share_no_more, _share, _share),
}
"""By kind, in the order of the catalogue."""


def world_of(kind: str, size: int = 1) -> World:
    """One in which nothing is wrong, and a kind of incident may be brought about."""
    world = World(max(size, CAUSES[kind].size))
    world.pass_by(SETTLED if kind.startswith(("schedule-", "beat-", "error-", "learned-")) else HEARD)
    assert world.lines_of() == []
    return world


def begin(world: World, kind: str) -> float:
    """Bring it about. Returns since when it is wrong, by the simulated clock."""
    world.begun = world.bed.clock.now
    CAUSES[kind].begin(world)
    return world.begun


def opened(world: World, kind: str) -> list[dict[str, Any]]:
    return world.lines_of(kind, "incident-opened")


def resolved(world: World, kind: str) -> list[dict[str, Any]]:
    return world.lines_of(kind, "incident-resolved")
