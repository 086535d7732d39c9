"""How fast workers are, and what became of the tasks of lost workers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from enum import StrEnum
from typing import NamedTuple

from ha_monitor.events.catalogue import State
from ha_monitor.query.fields import OPEN
from ha_monitor.query.queues import rates_since
from ha_monitor.store.queries import KeptTask, Queries
from ha_monitor.store.reader import WorkerEntry
from ha_monitor.store.worker_runs import KEPT, WorkerRuns

_SLACK = 10.0
"""Seconds by which tasks may be found abandoned before their worker's last events are merged."""


class Fate(StrEnum):
    """What became of a task that a lost worker had."""

    RUN_AGAIN = "run again elsewhere"
    ENDED = "ended"
    ORPHANED = "orphaned"
    OPEN = "still open"
    EXPIRED = "record expired"


class SeenWorker(NamedTuple):
    """A worker, and what is known of its runs."""

    entry: WorkerEntry
    rate: float
    """Runs per second that ended in the last five minutes."""
    failed: int
    """Runs that failed in the last hour."""
    left: dict[Fate, list[str]] | None = None
    """The tasks that it had when it was lost, by what became of them, latest first; None if it is not lost, or if that
    was not asked for.
    """


def seen_workers(queries: Queries, entries: Sequence[WorkerEntry], now: float, *, named: bool) -> list[SeenWorker]:
    """What is known of workers, in the given order.

    :param now: by the store's clock, in seconds since the epoch.
    :param named: whether they were asked for by name; only then are the tasks of lost workers looked up.
    :raises StoreUnavailable: as the port does.
    """
    names, since = [one.name for one in entries], rates_since(now)
    lately: list[WorkerRuns] = queries.worker_runs(names, since, now)
    longer: list[WorkerRuns] = queries.worker_runs(names, now - KEPT, now)
    found = []
    for entry, short, hour in zip(entries, lately, longer, strict=True):
        left = None
        if named and entry.state == "lost":
            left = left_by(queries, entry.name, (now - entry.silent if entry.lost is None else entry.lost) - _SLACK)
        found.append(SeenWorker(entry, short.ended / (now - since), hour.failed, left))
    return found


def left_by(queries: Queries, worker: str, since: float) -> dict[Fate, list[str]]:
    """The tasks that a worker had when it was lost, by what became of them.

    :param since: when it was lost or last heard from, in seconds since the epoch; what was found earlier is ignored.
    """
    found: dict[Fate, list[str]] = {fate: [] for fate in Fate}
    left = queries.abandoned(worker, since)
    tasks = queries.tasks([one.task_id for one in left])
    for one, task in zip(left, tasks, strict=True):
        fate = _fate_of(task, worker, is_orphaned=one.is_orphaned)
        if fate is not None:
            found[fate].append(one.task_id)
    return found


def _fate_of(task: KeptTask | None, worker: str, *, is_orphaned: bool) -> Fate | None:
    """What became of a task; None if the worker had finished its run."""
    if task is None:
        return Fate.EXPIRED
    if task.record.worker != worker:
        return Fate.RUN_AGAIN if _was_taken(task) else None
    if task.record.state not in OPEN:
        return Fate.ENDED
    if task.record.state is State.RETRY:
        return None
    return Fate.ORPHANED if is_orphaned else Fate.OPEN


def _was_taken(task: KeptTask) -> bool:
    """Whether a run was still open when another one began: more runs began than were retried, requeued or ended."""
    kinds = Counter(event.type for event in task.story)
    closed = kinds["task-retried"] + sum(event.requeued for event in task.story)
    last = 0 if task.record.state is State.RETRY else 1
    return not task.story or max(kinds["task-received"], kinds["task-started"]) > closed + last
