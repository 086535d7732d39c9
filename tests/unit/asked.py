"""A record to ask, for tests: what the port answers about tasks that a test makes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

import pytest

from ha_monitor.clock import Clock
from ha_monitor.events.catalogue import State
from ha_monitor.events.histogram import bucket_of
from ha_monitor.query.fields import BAD_ENDS, OPEN, first_heard
from ha_monitor.store.dead_letters import KeptLetter
from ha_monitor.store.error_groups import ErrorGroup, FailedTask, GroupState
from ha_monitor.store.incidents import Incident, Mark, Phase, Severity, Silence
from ha_monitor.store.memory.incidents import MemoryIncidents
from ha_monitor.store.memory.schedules import MemorySchedules, write
from ha_monitor.store.memory.server import MemoryServer
from ha_monitor.store.name_statistics import Durations, NameStatistic
from ha_monitor.store.queries import Ended, Gap, KeptTask, OpenPage, StoryEvent
from ha_monitor.store.queue_flow import KnownQueue, QueueFlow, QueueWait
from ha_monitor.store.reader import Counts, InstanceEntry, WorkerEntry, Workers
from ha_monitor.store.record import TaskRecord
from ha_monitor.store.schedules import ScheduleChanges
from ha_monitor.store.tail import TailEvent, TailGap
from ha_monitor.store.worker_runs import Abandoned, LostRun, WorkerRuns
from tests.unit.builders import TurnedClock

NOW = 1_795_586_043.5
ENDS = {State.SUCCESS: "task-succeeded", State.FAILURE: "task-failed"}
ENDS |= {State.REJECTED: "task-rejected", State.REVOKED: "task-revoked"}


def task(task_id: str = "t1", state: State = State.SUCCESS, *, at: float = NOW - 60, **changes: Any) -> KeptTask:
    """A task that was sent at a time, and received, started and ended a second each later, as far as its state says."""
    steps = [("sent", "task-sent", at), ("received", "task-received", at + 1), ("started", "task-started", at + 2)]
    reached = {State.SENT: 1, State.RECEIVED: 2, State.STARTED: 3, State.UNKNOWN: 0}.get(state, 3)
    fields: dict[str, Any] = {"name": "shop.pay", "queue": "celery", "worker": "celery@a", "root_id": task_id}
    fields |= {name: time for name, _, time in steps[:reached]}
    story = [StoryEvent(type_, time) for _, type_, time in steps[:reached]]
    if state in ENDS:
        fields |= {"finished": at + 3, "runtime": 1.0, "queue_time": 2.0, "runs": 1}
        story.append(StoryEvent(ENDS[state], at + 3))
    kept = {"complete": changes.pop("complete", True), "reconciled": changes.pop("reconciled", False)}
    kept["shrunk"] = changes.pop("shrunk", False)
    story = changes.pop("story", story)
    return KeptTask(TaskRecord(task_id=task_id, state=state, **(fields | changes)), tuple(story), **kept)


def group(group_id: str = "0f3c52a9be", **changes: Any) -> ErrorGroup:
    """A group of errors, of which two came in this hour."""
    known = ErrorGroup(
        id=group_id,
        name="shop.pay",
        error_class="Declined",
        place="shop/tasks.py:charge",
        state=GroupState.KNOWN,
        failures=5,
        retries=1,
        first=NOW - 7200,
        last=NOW - 60,
        by_hour=(*(0,) * 21, 3, 0, 2),
        message="Declined('order 9')",
        tasks=(FailedTask("t1", NOW - 60),),
        traceback='Traceback (most recent call last):\n  File "/srv/shop/tasks.py", line 9, in charge\nDeclined: no\n',
    )
    return known._replace(**changes)


def statistic(name: str = "shop.pay", succeeded: int = 0, failed: int = 0, *, runtime: float = 0.5) -> NameStatistic:
    """So many runs in a minute, each of which took so long, and a wait of two seconds before each."""
    waits = Durations({bucket_of(2.0): succeeded + failed} if succeeded + failed else {})
    runtimes = Durations({bucket_of(runtime): succeeded} if succeeded else {})
    return NameStatistic(name, succeeded, failed, 0, runtimes, waits)


class Asked:
    """The port over tasks in memory, with the bounds of the indexes, and a count of what was read."""

    def __init__(
        self,
        *tasks: KeptTask,
        gaps: Sequence[Gap] = (),
        ring: int = 200,
        groups: Sequence[ErrorGroup] = (),
        runs: Sequence[tuple[float, NameStatistic]] = (),
        flows: Mapping[str, QueueFlow | None] | None = None,
        left: Mapping[str, list[Abandoned]] | None = None,
    ) -> None:
        """
        :param runs: what was run at which time.
        :param flows: what came into each queue and left it lately; None for one of which producers tell nothing.
        :param left: tasks that workers may have left.
        """
        self.flows = dict(flows or {})
        self.left = dict(left or {})
        self.kept = {one.record.task_id: one for one in tasks}
        self.read = 0
        """Records that were read."""
        self.groups = {one.id: one for one in sorted(groups, key=lambda one: one.last, reverse=True)}
        self._runs = runs
        self._gaps = gaps
        self._ring = ring

    def tasks(self, ids: Sequence[str], texts: frozenset[str] = frozenset()) -> list[KeptTask | None]:
        self.read += len(ids)
        found = [self.kept.get(one) for one in ids]
        return [one if one and not (texts and texts.isdisjoint({one.worker, one.queue})) else None for one in found]

    def names(self) -> list[str]:
        named = {one.record.name for one in self.kept.values() if one.record.name is not None}
        return sorted(named | {one.name for _, one in self._runs})

    def newest(self, name: str, count: int) -> list[str]:
        return self.newest_of([name], count)[0]

    def newest_of(self, names: Sequence[str], count: int, offset: int = 0) -> list[list[str]]:
        of_name: dict[str, list[KeptTask]] = {name: [] for name in names}
        for one in self.kept.values():
            if one.record.name in of_name:
                of_name[one.record.name].append(one)
        rings = (_ids(sorted(of_name[name], key=first_heard, reverse=True)) for name in names)
        return [ring[offset : min(offset + count, self._ring)] for ring in rings]

    def ended_badly(self, since: float, until: float, count: int, offset: int = 0) -> list[Ended]:
        ended = [
            Ended(one.record.task_id, one.record.finished or 0.0, one.record.state)
            for one in self.kept.values()
            if one.record.state in BAD_ENDS and since <= (one.record.finished or 0.0) <= until
        ]
        return sorted(ended, key=lambda one: one.at, reverse=True)[offset : offset + count]

    def open(self, count: int, offset: int = 0) -> list[str]:
        return _ids(one for one in self.kept.values() if one.record.state in OPEN)[offset : offset + count]

    def all_open(self) -> Iterator[list[str]]:
        for start in range(0, len(self.kept), 1000):
            yield self.open(1000, start)

    def newest_open(self, until: float | None = None, *, running: bool = False) -> Iterator[OpenPage]:
        found = [one for one in self.kept.values() if one.record.state in OPEN and first_heard(one) <= (until or NOW)]
        if running:
            found = [one for one in found if one.record.state not in (State.SENT, State.RECEIVED)]
        found.sort(key=first_heard, reverse=True)
        for start in range(0, len(found), 1000):
            some = found[start : start + 1000]
            yield OpenPage(_ids(some), first_heard(some[-1]))

    def stuck(self, count: int) -> list[str]:
        return []

    def orphaned(self, count: int) -> list[str]:
        return []

    def waiting(self, queue: str, count: int) -> list[tuple[str, float]]:
        waiting = (
            (one.record.task_id, max(one.record.sent or 0.0, one.record.eta or 0.0))
            for one in self.kept.values()
            if one.record.queue == queue and one.record.state in (State.SENT, State.RECEIVED)
        )
        return sorted(waiting, key=lambda one: one[1])[:count]

    def queues(self) -> list[str]:
        return sorted({one.record.queue for one in self.kept.values() if one.record.queue is not None})

    def known_queues(self) -> list[KnownQueue]:
        return [KnownQueue(name, one is not None, NOW - 5) for name, one in sorted(self.flows.items())]

    def queue_waits(self, queues: Sequence[str]) -> list[QueueWait]:
        found = []
        for queue in queues:
            since = [at for _, at in self.waiting(queue, len(self.kept))]
            now = [at for at in since if at <= NOW]
            found.append(QueueWait(len(now), min(now, default=None), len(since) - len(now)))
        return found

    def queue_flow(self, queues: Sequence[str], since: float, until: float) -> list[QueueFlow]:
        return [self.flows.get(queue) or QueueFlow(0, 0, 0, 0.0) for queue in queues]

    def children(self, root_id: str, count: int) -> list[str]:
        return _ids(one for one in self.kept.values() if one.record.root_id == root_id)[:count]

    def gaps(self, since: float, until: float) -> list[Gap]:
        return [gap for gap in self._gaps if gap.until >= since and gap.since <= until]

    def error_ids(self, beginning: str = "") -> list[str]:
        return [one for one in self.groups if one.startswith(beginning)]

    def error_groups(self, ids: Sequence[str]) -> list[ErrorGroup | None]:
        self.read += len(ids)
        return [self.groups.get(one) for one in ids]

    def statistics_by(self, names: Sequence[str], bounds: Sequence[float]) -> list[list[NameStatistic]]:
        by_time = [self.statistics(names, since, until) for since, until in pairwise(bounds)]
        return [list(found) for found in zip(*by_time, strict=True)]

    def queue_flow_by(self, queues: Sequence[str], bounds: Sequence[float]) -> list[list[QueueFlow]]:
        by_time = [self.queue_flow(queues, since, until) for since, until in pairwise(bounds)]
        return [list(found) for found in zip(*by_time, strict=True)]

    def statistics(self, names: Sequence[str], since: float, until: float) -> list[NameStatistic]:
        found = {name: statistic(name) for name in names}
        found |= {one.name: one for at, one in self._runs if one.name in found and since <= at < until}
        return [found[name] for name in names]

    def worker_runs(self, workers: Sequence[str], since: float, until: float) -> list[WorkerRuns]:
        ended = [one.record for one in self.kept.values() if since <= (one.record.finished or 0.0) < until]
        by_worker = [[one for one in ended if one.worker == name] for name in workers]
        return [WorkerRuns(len(some), sum(one.state is State.FAILURE for one in some)) for some in by_worker]

    def lost_runs(self) -> list[LostRun]:
        return []

    def abandoned(self, worker: str, since: float) -> list[Abandoned]:
        return self.left.get(worker, [])

    def now(self) -> float:
        return NOW


def _ids(tasks: Any) -> list[str]:
    return [one.record.task_id for one in tasks]


class Marks:
    """What is said of the groups of errors."""

    def __init__(self, asked: Asked) -> None:
        self._groups = asked.groups

    def resolve(self, group_id: str) -> bool:
        return self._mark(group_id, state=GroupState.RESOLVED, resolved_at=NOW)

    def ignore(self, group_id: str, seconds: float) -> bool:
        return self._mark(group_id, state=GroupState.IGNORED, ignored_until=NOW + seconds)

    def reopen(self, group_id: str) -> bool:
        return self._mark(group_id, state=GroupState.KNOWN, resolved_at=None, ignored_until=None)

    def _mark(self, group_id: str, **said: Any) -> bool:
        self._groups[group_id] = self._groups[group_id]._replace(**said)
        return True


class Shown:
    """A tail: what comes is given; then somebody interrupts it."""

    def __init__(self, coming: Sequence[Sequence[TailEvent | TailGap] | Exception]) -> None:
        """:param coming: what each read brings, or raises."""
        self._coming = list(coming)

    def begin(self) -> None:
        """Nothing has come before."""

    def read(self, within: float) -> list[TailEvent | TailGap]:
        assert within > 0
        if not self._coming:
            raise KeyboardInterrupt
        some = self._coming.pop(0)
        if isinstance(some, Exception):
            raise some
        return list(some)


class Reader:
    """In place of a `StoreReader`: the same tasks, and workers."""

    def __init__(
        self,
        asked: Asked,
        workers: Sequence[WorkerEntry] = (),
        more: int = 0,
        *,
        letters: Sequence[KeptLetter] = (),
        shown: Sequence[Sequence[TailEvent | TailGap] | Exception] = (),
        incidents: KeptIncidents | None = None,
        instances: Sequence[InstanceEntry] | None = None,
        schedules: ScheduleChanges | None = None,
    ) -> None:
        self.queries = asked
        server = MemoryServer(TurnedClock(0.0))
        write(server, schedules or ScheduleChanges())
        self.schedules = MemorySchedules(server)
        self.incidents = incidents or KeptIncidents()
        self._instances = [instance()] if instances is None else list(instances)
        self._tail = Shown(shown)
        self._letters = letters
        self.error_marks = Marks(asked)
        self._workers = Workers(list(workers), more)
        self.workers_read = 0
        """How often they were read."""

    def connect(self) -> None:
        """Nothing is connected."""

    def close(self) -> None:
        """Nothing is closed."""

    def workers(self, late_after: float) -> Workers:
        self.workers_read += 1
        return self._workers

    def instances(self) -> list[InstanceEntry]:
        return self._instances

    def latest(self, _kind: str, _count: int) -> list[dict[str, Any]]:
        return []

    def is_used(self) -> bool:
        return True

    def counts(self) -> Counts:
        return Counts(0, 0, 0, 0, 0, 0, 0)

    def tail(self, _clock: Clock) -> Shown:
        return self._tail

    @property
    def dead_letters(self) -> Letters:
        return Letters(self._letters)


class KeptIncidents(MemoryIncidents):
    """Incidents, silences and marks in memory."""

    def __init__(self, *incidents: Incident, silences: Sequence[Silence] = (), marks: Sequence[Mark] = ()) -> None:
        super().__init__(MemoryServer(TurnedClock(0.0)))
        self._server.incidents = {one.id: one for one in incidents}
        self._server.silences = {one.id: one for one in silences}
        self._server.marks = list(marks)


def incident(incident_id: str = "3f2a9c11d0e4", **changes: Any) -> Incident:
    """A lost worker."""
    fields: dict[str, Any] = {
        "kind": "worker-lost",
        "key": "celery@app3",
        "severity": Severity.PAGE,
        "phase": Phase.FIRING,
        "since": NOW - 8000,
        "changed": NOW - 7900,
        "summary": "celery@app3 is lost with 4 tasks: 2 orphaned, 1 run again, 1 ended",
        "command": "ha-monitor workers celery@app3",
        "opened": 1,
    }
    return Incident(incident_id, **(fields | changes))


def instance(
    name: str = "1",
    *,
    leads: bool = True,
    state: str = "consuming",
    judged: float = NOW - 3,
    lag: float = 0.015,
    **changes: Any,
) -> InstanceEntry:
    """An instance that is well, and has judged three seconds ago."""
    who, stats = {"host": "monitor1", "instance": name}, {"state": state, "lag": lag, "judged": judged}
    fields: dict[str, Any] = {"lease_left": 4.0, "silent": 1.0, "outbox": 0} | changes
    return InstanceEntry(token=7, who=who, stats=stats, leads=leads, **fields)


class Letters:
    """Dead letters in memory."""

    def __init__(self, kept: Sequence[KeptLetter]) -> None:
        self._kept = kept

    def newest(self) -> Iterator[KeptLetter]:
        return iter(self._kept)

    def retry(self, kept: KeptLetter) -> bool:
        return kept in self._kept

    def drop(self, kept: KeptLetter) -> bool:
        return kept in self._kept


def worker(name: str = "celery@a", state: str = "online", **changes: Any) -> WorkerEntry:
    """A worker that an instance has heard of a second ago."""
    heartbeat = {"active": 1, "processed": 40, "sw_ident": "py-celery", "sw_ver": "5.7.0", "loadavg": [0.1, 0.2, 0.3]}
    fields: dict[str, Any] = {"silent": 1.0, "heartbeat": heartbeat, "online": NOW} | changes
    return WorkerEntry(name=name, state=state, **fields)


def serve(patch: pytest.MonkeyPatch, *tasks: KeptTask, **more: Any) -> Asked:
    """Have commands ask these tasks.

    :param more: `workers`, `letters`, `shown`, `incidents`, `instances`, `schedules`, or what `Asked` takes.
    """
    workers = more.pop("workers", ())
    others = {name: more.pop(name, ()) for name in ("letters", "shown")}
    others |= {name: more.pop(name, None) for name in ("incidents", "instances", "schedules")}
    asked = Asked(*tasks, **more)
    patch.setattr("ha_monitor.store.reader.StoreReader", lambda *_: Reader(asked, workers, **others))
    return asked
