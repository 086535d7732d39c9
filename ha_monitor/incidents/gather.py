"""Gathers the facts: what the leader knows, and what it must ask the store. It asks in small calls, so that nothing
else waits long for the store, but blocks until all are answered.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from ha_monitor.events.catalogue import State
from ha_monitor.incidents.catalogue import DAY, MINUTE
from ha_monitor.incidents.facts import (
    Facts,
    InstanceFacts,
    LostTasks,
    NamedTasks,
    PoisonTasks,
    QueueFacts,
    SurveyedQueue,
)
from ha_monitor.incidents.listeners import Listener
from ha_monitor.incidents.rules.names import WINDOW
from ha_monitor.incidents.schedules import ScheduleGatherer, ScheduleView
from ha_monitor.incidents.shared_queue import SharedQueue
from ha_monitor.store.error_groups import ErrorGroup
from ha_monitor.store.incidents import Incident, Mark, Silence
from ha_monitor.store.name_statistics import NameStatistic
from ha_monitor.store.queries import KeptTask, Queries
from ha_monitor.store.queue_flow import base_of
from ha_monitor.store.reader import InstanceEntry
from ha_monitor.store.results import WorkerState
from ha_monitor.store.schedules import KeptSchedules, ScheduleChanges
from ha_monitor.store.worker_runs import LostRun

LATEST_GROUPS = 100
"""Error groups that are looked at besides those of open incidents: the latest ones."""
NAMES_AT_ONCE, NAMES_EVERY = 100, 15.0
"""Task names whose runs are counted per turn, and seconds between two turns."""
MAX_OPEN_TASKS = 5000
"""Open tasks that are searched for those of a lost worker."""
MAX_TASKS = 1000
"""Stuck tasks that are looked at; orphaned ones likewise."""
NAMELESS = "unknown"
"""The key of an incident of tasks whose name never arrived, as in counts and groups of errors."""
MIN_LOST_RUNS = 2
"""Runs of a task that must have lost their worker before the task counts as poison."""
MEMORY_EVERY = MINUTE
MAX_LAG = 30.0
"""Seconds between an event and its merge; above this, nothing that depends on events is judged."""
MAX_TAKEOVERS = 100
CONSUMING = "consuming"
_ENDED = (State.SUCCESS, State.FAILURE, State.REJECTED, State.REVOKED)


class IncidentReader(Protocol):
    """What the rules need from the stored incidents."""

    def kept(self) -> list[Incident]:
        """All incidents, as the leader wrote them."""

    def silences(self) -> list[Silence]:
        """The silences that are still in effect."""

    def marks(self) -> list[Mark]:
        """The latest deployments, newest first."""


class Reader(Protocol):
    """A separate connection to the store. Each call raises `StoreUnavailable`."""

    @property
    def queries(self) -> Queries: ...

    @property
    def incidents(self) -> IncidentReader: ...

    @property
    def schedules(self) -> KeptSchedules: ...

    def connect(self) -> None: ...

    def close(self) -> None: ...

    def instances(self) -> list[InstanceEntry]:
        """All instances that have not deregistered."""

    def latest(self, kind: str, count: int) -> list[dict[str, Any]]:
        """The newest entries, for `takeovers`."""

    def server(self) -> tuple[dict[str, str], str]:
        """What the store reports about itself."""


class LeaderView(NamedTuple):
    """What the leader already knows."""

    workers: Sequence[WorkerState]
    all_workers: bool
    survey: Sequence[SurveyedQueue] | None
    stuck: int
    orphaned: int
    went_back_at: float
    failing_channels: Sequence[str]
    may_judge: bool
    """Whether everything sent until some seconds ago is merged, as far as the leader knows."""
    schedules: ScheduleView = ScheduleView()
    event_queue: SharedQueue | None = None
    """As in `Facts`."""
    believed: Collection[str] | None = ()
    """Ids of the incidents that a channel believes to fire; None if that is not known."""


class FactGatherer:
    """Gathers the facts, and remembers what need not be asked at each look."""

    def __init__(self) -> None:
        self._names: dict[str, NameStatistic] = {}
        self._next_name = 0
        self._names_at = self._memory_at = float("-inf")
        self._memory: float | None = None
        self.schedules = ScheduleGatherer()

    def gather(self, reader: Reader, view: LeaderView) -> tuple[list[Incident], Facts, ScheduleChanges]:
        """The incidents as stored, the facts, and what to write about the schedules.

        :raises StoreUnavailable: as the reader does.
        """
        queries = reader.queries
        now = queries.now()
        kept = reader.incidents.kept()
        open_ones = [one for one in kept if one.is_open]
        instances = instances_of(reader, now)
        lag = max((one.lag for one in instances if one.is_alive), default=0.0)
        is_merged = view.may_judge and lag <= MAX_LAG and not 0 <= now - view.went_back_at < MINUTE
        stuck = queries.stuck(MAX_TASKS) if view.stuck else []
        orphaned = queries.orphaned(MAX_TASKS) if view.orphaned else []
        lost = [worker.name for worker in view.workers if worker.state == "lost" and worker.is_confirmed]
        gaps = queries.gaps(now - DAY, now + DAY)
        judged, changes = self.schedules.gather(
            reader,
            view.schedules,
            now,
            lost=[(gap.since, gap.until) for gap in gaps],
            orphaned=frozenset(orphaned),
            went_back_at=view.went_back_at,
            is_merged=is_merged,
        )
        facts = Facts(
            now,
            workers=view.workers,
            all_workers=view.all_workers,
            lost_tasks=_lost_tasks(queries, lost, open_ones, set(orphaned)) if is_merged else {},
            queues=_queues(queries),
            survey=view.survey,
            errors=_errors(queries, open_ones),
            names=self._statistics(queries, now, open_ones),
            stuck=_by_name(queries, stuck),
            orphaned=_by_name(queries, orphaned),
            poison=_poison(queries),
            gaps=gaps,
            instances=instances,
            memory=self._memory_of(reader, now),
            went_back_at=view.went_back_at,
            marks=reader.incidents.marks(),
            failing_channels=view.failing_channels,
            event_queue=view.event_queue,
            open_keys=frozenset((one.kind, one.key) for one in open_ones),
            schedules=judged,
            partial=frozenset(
                kind for kind, ids in (("task-stuck", stuck), ("task-orphaned", orphaned)) if len(ids) >= MAX_TASKS
            ),
            are_events_merged=is_merged,
        )
        return kept, facts, changes

    def _statistics(self, queries: Queries, now: float, open_ones: Iterable[Incident]) -> list[NameStatistic]:
        """Counts of some names per turn and of those of open incidents; the counts of other names stay as they were."""
        if 0 <= now - self._names_at < NAMES_EVERY:
            return list(self._names.values())
        self._names_at = now
        known = queries.names()
        first = self._next_name if self._next_name < len(known) else 0
        self._next_name = first + NAMES_AT_ONCE
        wanted = {one.key for one in open_ones if one.kind in ("failing", "retry-storm")} & set(known)
        names = sorted(wanted.union(known[first : self._next_name]))
        current = {name: self._names[name] for name in known if name in self._names}
        self._names = current | {one.name: one for one in queries.statistics(names, now - WINDOW, now)}
        return list(self._names.values())

    def _memory_of(self, reader: Reader, now: float) -> float | None:
        if not 0 <= now - self._memory_at < MEMORY_EVERY:
            self._memory_at = now
            self._memory = memory_share(reader.server()[0])
        return self._memory


def instances_of(reader: Reader, now: float) -> list[InstanceFacts]:
    """The live instances, the dead ones whose outbox nobody has taken over, and, as far as known, those whose outbox
    was taken over.
    """
    found = [_instance(entry, now) for entry in reader.instances()]
    for taken in reader.latest("takeovers", MAX_TAKEOVERS):
        who, at = taken.get("who"), taken.get("at")
        if isinstance(who, str):
            try:
                who = json.loads(who)
            except (ValueError, RecursionError):
                continue
        if isinstance(who, dict) and isinstance(at, int | float) and 0 <= at / 1000 <= now:
            found.append(InstanceFacts(_name_of(who), is_alive=False, died_at=at / 1000))
    return found


def memory_share(info: Mapping[str, str]) -> float | None:
    """The share of its memory that a Redis has used, according to its INFO; None if it has no limit."""
    used, limit = info.get("used_memory", ""), info.get("maxmemory", "")
    if not (used.isdecimal() and limit.isdecimal() and int(limit) > 0):
        return None
    return int(used) / int(limit)


def _instance(entry: InstanceEntry, now: float) -> InstanceFacts:
    lag = entry.stats.get("lag")
    is_alive = entry.lease_left > 0
    is_consuming = is_alive and entry.stats.get("state") == CONSUMING
    return InstanceFacts(
        _name_of(entry.who),
        is_alive,
        is_consuming=is_consuming,
        lag=float(lag) if isinstance(lag, int | float) and 0 <= lag < 1e9 else 0.0,
        died_at=None if is_alive else now - entry.silent,
        broker=str(entry.stats.get("broker", "")),
        listener=Listener.of(entry.stats) if is_consuming and entry.stats.get("place") else None,
    )


def _name_of(who: Mapping[str, Any]) -> str:
    return f"{who.get('host', '?')}/{who.get('instance', '?')}"


def _queues(queries: Queries) -> list[QueueFacts]:
    names = [one.name for one in queries.known_queues() if one.has_producers]
    whole: dict[str, QueueFacts] = {}
    for name, wait in zip(names, queries.queue_waits(names), strict=True):
        base = base_of(name)
        one = whole.get(base, QueueFacts(base, 0, None))
        oldest = min((at for at in (one.oldest, wait.oldest) if at is not None), default=None)
        whole[base] = QueueFacts(base, one.waiting + wait.waiting, oldest)
    return list(whole.values())


def _errors(queries: Queries, open_ones: Iterable[Incident]) -> list[ErrorGroup]:
    ids = [one.key for one in open_ones if one.kind in ("error-new", "error-regressed")]
    wanted = dict.fromkeys([*queries.error_ids()[:LATEST_GROUPS], *ids])
    return [group for group in queries.error_groups(list(wanted)) if group is not None]


def _by_name(queries: Queries, ids: Sequence[str]) -> list[NamedTasks]:
    named: dict[str, list[KeptTask]] = {}
    for task in queries.tasks(ids) if ids else []:
        if task is not None:
            named.setdefault(task.record.name or NAMELESS, []).append(task)
    return [NamedTasks(name, tuple(tasks)) for name, tasks in named.items()]


def _poison(queries: Queries) -> list[PoisonTasks]:
    """By name; only the tasks whose suspicion is most recent, if there are too many."""
    runs: dict[str, list[LostRun]] = {}
    for run in queries.lost_runs():
        runs.setdefault(run.task_id, []).append(run)
    ids = [task_id for task_id, lost in runs.items() if len(lost) >= MIN_LOST_RUNS][-MAX_TASKS:]
    found: dict[str, list[KeptTask]] = {}
    for task in queries.tasks(ids) if ids else []:
        if task is not None and task.record.state not in _ENDED:
            found.setdefault(task.record.name or NAMELESS, []).append(task)
    made = []
    for name, tasks in found.items():
        lost = [runs[task.record.task_id] for task in tasks]
        workers = sorted({run.worker for some in lost for run in some})
        made.append(PoisonTasks(name, tuple(tasks), tuple(workers), max(map(len, lost))))
    return made


def _lost_tasks(
    queries: Queries, lost: Sequence[str], open_ones: Iterable[Incident], orphaned: set[str]
) -> dict[str, LostTasks]:
    """What became of the tasks of lost workers, by worker. The tasks of workers that were lost together are all listed
    under the first of them, because nobody looks at them separately.
    """
    groups = [one for one in open_ones if one.kind == "worker-lost"]
    still = {one.id: [name for name in one.members if name in lost] for one in groups}
    new = frozenset(lost).difference(*(one.members for one in groups))
    # A worker that was back, and is lost again, may have got other tasks meanwhile.
    again = {name for one in groups if len(still[one.id]) > one.size for name in still[one.id]}
    held, is_partial = _held(queries, new | again) if new or again else ({}, False)
    found: dict[str, LostTasks] = {}
    for name in new:
        had = held.get(name, [])
        found[name] = _decided([task.record.task_id for task in had], had, new, orphaned, is_partial=is_partial)
    for one in groups:
        if names := still[one.id]:
            more = [task for name in again.intersection(names) for task in held.get(name, [])]
            is_cut = is_partial and not again.isdisjoint(names)
            found[names[0]] = _followed(queries, one, more, orphaned, is_partial=is_cut)
    return found


def _held(queries: Queries, workers: Collection[str]) -> tuple[dict[str, list[KeptTask]], bool]:
    """The open tasks of workers, and whether there may be more."""
    ids = queries.open(MAX_OPEN_TASKS)
    held: dict[str, list[KeptTask]] = {}
    for task in queries.tasks(ids) if ids else []:
        if task is not None and task.record.worker in workers:
            held.setdefault(task.record.worker or "", []).append(task)
    return held, len(ids) >= MAX_OPEN_TASKS


def _followed(
    queries: Queries, one: Incident, held: Iterable[KeptTask], orphaned: set[str], *, is_partial: bool
) -> LostTasks:
    """What became of the tasks of an incident, including the tasks that its workers got later."""
    counted = one.facts.get("tasks")
    more = max(0, counted - len(one.tasks)) if isinstance(counted, int) else 0
    tasks = queries.tasks(one.tasks) if one.tasks else []
    added = [task for task in held if task.record.task_id not in one.tasks]
    ids = [*one.tasks, *(task.record.task_id for task in added)]
    # It is not known which the tasks that are not followed were.
    may_lack = bool(one.facts.get("incomplete")) or is_partial or bool(added and more)
    found = _decided(ids, [*tasks, *added], frozenset(one.members), orphaned, is_partial=may_lack)
    return found._replace(more=max(0, more - len(added)))


def _decided(
    ids: Sequence[str],
    tasks: Sequence[KeptTask | None],
    lost: frozenset[str],
    orphaned: set[str],
    *,
    is_partial: bool,
) -> LostTasks:
    again = ended = without = asked = 0
    for task_id, task in zip(ids, tasks, strict=True):
        if task is None or task.record.state in _ENDED:
            ended += 1
        elif task_id in orphaned:
            without += 1
        elif task.record.state is State.RETRY or task.record.worker not in lost:
            again += 1
        else:
            asked += 1
    return LostTasks(tuple(ids), is_partial, again, ended, without, asked)
