"""Tasks and dead letters as JSON, the same for the command line and for everything else that answers questions.

Times are in ISO 8601, UTC; durations in seconds. Unknown values are null.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from msgspec import UNSET, Struct, UnsetType

from ha_monitor.events.catalogue import State
from ha_monitor.outputs.line import iso_time
from ha_monitor.query.fields import queue_time_of, runtime_of
from ha_monitor.query.groups import KnownGroup
from ha_monitor.query.statistics import Compared
from ha_monitor.query.story import steps_of
from ha_monitor.query.tree import Leg, Tree
from ha_monitor.store.dead_letters import KeptLetter
from ha_monitor.store.error_groups import GroupState
from ha_monitor.store.name_statistics import NameStatistic
from ha_monitor.store.queries import Gap, KeptTask


class GapItem(Struct):
    """Something that an answer may lack. A time that is not known is null."""

    what: str
    since: str | None
    until: str | None


class ChangeItem(Struct):
    """What changed: a deployment that was marked, or workers that were started one after the other."""

    what: str
    since: str | None
    until: str | None


class Document(Struct):
    """An answer as one document."""

    time: str
    """When the question was asked, by the store's clock."""
    complete: bool
    """Whether nothing is known to be missing."""
    gaps: list[GapItem]
    searched: str
    more: bool
    """Whether there are more items than were asked for."""
    items: Sequence[Struct]
    after: str | UnsetType = UNSET
    """Where to continue a list that can be continued."""
    changes: list[ChangeItem] | UnsetType = UNSET
    """What changed in the hour before; only with problems."""


class StepItem(Struct):
    """An event of a task."""

    type: str
    time: str | None
    after: float | None
    """Seconds since the previous event."""
    error: str | None
    """The error group, if the event is an error."""


class LegItem(Struct):
    """A task on the critical path; durations in seconds."""

    task_id: str
    name: str | None
    before: float
    waited: float | None
    ran: float | None


class BranchItem(Struct):
    """A task in a tree, and its parent there."""

    task_id: str
    parent: str | None
    name: str | None
    state: State


class TaskItem(Struct):
    """A task: its fields as filters name them, and its times."""

    task_id: str
    state: State
    name: str | None
    queue: str | None
    worker: str | None
    retries: int
    runs: int
    sent: str | None
    received: str | None
    started: str | None
    finished: str | None
    eta: str | None
    runtime: float | None
    """Seconds that it took, or has been running."""
    queue_time: float | None
    """Seconds that it waited, or has been waiting."""
    exception: str | None
    error: str | None
    """The group of the error that ended it."""
    root: str | None
    parent: str | None
    args: str | None
    kwargs: str | None
    reconciled: bool
    incomplete: bool
    shrunk: bool
    """Whether its arguments, root, parent and custom events are no longer kept."""
    story: list[StepItem] | UnsetType = UNSET
    remarks: list[str] | UnsetType = UNSET
    tree: list[BranchItem] | UnsetType = UNSET
    critical_path: list[LegItem] | UnsetType = UNSET


class LetterItem(Struct):
    """A handler call that failed for good."""

    id: str
    time: str | None
    handler: str
    error: str
    traceback: str
    attempts: int
    instance: str
    host: str
    event: Any
    task: Any


class GroupTaskItem(Struct):
    """A task with an error of a group, and the time of its latest such error."""

    task_id: str
    time: str | None


class GroupItem(Struct):
    """A group of errors."""

    group: str
    state: GroupState
    name: str
    error_class: str
    place: str
    message: str
    failures: int
    retries: int
    first: str | None
    last: str | None
    by_hour: list[int]
    """Failures in each of the last 24 clock hours, the current hour last."""
    resolved: str | None
    ignored_until: str | None
    new_since: str | None
    """The label of the latest deployment before the group, if the group is new."""
    workers: list[str]
    """The workers that had its latest tasks."""
    tasks: list[GroupTaskItem]
    """Its latest tasks, latest first."""
    traceback: str | UnsetType = UNSET


class Numbers(Struct):
    """The runs of a name in a period; durations in seconds."""

    runs: int
    succeeded: int
    failed: int
    retried: int
    runtime_p50: float | None
    runtime_p95: float | None
    waited_p50: float | None
    waited_p95: float | None


class NameItem(Struct):
    """A name, its runs in a period, and its runs in the same period of the day before."""

    name: str
    now: Numbers
    day_before: Numbers


def time_or_null(seconds: float | None) -> str | None:
    """A time, or None if there is none."""
    return iso_time(seconds) if seconds else None


def gap_item(gap: Gap) -> GapItem:
    return GapItem(gap.what, time_or_null(gap.since), time_or_null(gap.until))


def task_item(task: KeptTask, now: float, **more: Any) -> TaskItem:
    """A task.

    :param more: fields that only the answer about a single task has.
    """
    record = task.record
    return TaskItem(
        task_id=record.task_id,
        state=record.state,
        name=record.name,
        queue=record.queue,
        worker=record.worker,
        retries=record.retries,
        runs=record.runs,
        sent=time_or_null(record.sent),
        received=time_or_null(record.received),
        started=time_or_null(record.started),
        finished=time_or_null(record.finished),
        eta=time_or_null(record.eta),
        runtime=rounded(runtime_of(task, now)),
        queue_time=rounded(queue_time_of(task, now)),
        exception=record.exception,
        error=record.error_group,
        root=record.root_id,
        parent=record.parent_id,
        args=record.args,
        kwargs=record.kwargs,
        reconciled=task.reconciled,
        incomplete=not task.complete,
        shrunk=task.shrunk,
        **more,
    )


def step_items(task: KeptTask) -> list[StepItem]:
    """The events of a task, oldest first."""
    return [StepItem(one.type, time_or_null(one.time), rounded(one.after), one.error) for one in steps_of(task)]


def branch_items(tree: Tree) -> list[BranchItem]:
    """All tasks of a tree."""
    records = {name: task.record for name, task in tree.tasks.items()}
    return [BranchItem(name, tree.parents[name], one.name, one.state) for name, one in records.items()]


def leg_items(legs: Sequence[Leg]) -> list[LegItem]:
    """The critical path, starting at the root."""
    return [
        LegItem(
            one.task.record.task_id, one.task.record.name, round(one.before, 6), rounded(one.waited), rounded(one.ran)
        )
        for one in legs
    ]


def letter_item(kept: KeptLetter) -> LetterItem:
    """A dead letter."""
    letter = kept.letter
    return LetterItem(
        id=kept.id,
        time=letter.time or None,
        handler=letter.handler,
        error=letter.error,
        traceback=letter.traceback,
        attempts=letter.attempts,
        instance=letter.instance,
        host=letter.host,
        event=letter.event,
        task=letter.task,
    )


def rounded(seconds: float | None) -> float | None:
    """Seconds rounded to microseconds."""
    return None if seconds is None else round(seconds, 6)


def group_item(one: KnownGroup, *, with_traceback: bool = False) -> GroupItem:
    """A group of errors."""
    group = one.group
    return GroupItem(
        group=group.id,
        state=group.state,
        name=group.name,
        error_class=group.error_class,
        place=group.place,
        message=group.message,
        failures=group.failures,
        retries=group.retries,
        first=time_or_null(group.first),
        last=time_or_null(group.last),
        by_hour=list(group.by_hour),
        resolved=time_or_null(group.resolved_at),
        ignored_until=time_or_null(group.ignored_until),
        new_since=None if one.mark is None else one.mark.label,
        workers=one.workers,
        tasks=[GroupTaskItem(task.task_id, time_or_null(task.time)) for task in group.tasks],
        traceback=group.traceback if with_traceback else UNSET,
    )


def name_item(one: Compared) -> NameItem:
    """The runs of a name."""
    return NameItem(one.now.name, _numbers(one.now), _numbers(one.day_before))


def _numbers(one: NameStatistic) -> Numbers:
    return Numbers(
        runs=one.runs,
        succeeded=one.succeeded,
        failed=one.failed,
        retried=one.retried,
        runtime_p50=rounded(one.runtime.quantile(0.5)),
        runtime_p95=rounded(one.runtime.quantile(0.95)),
        waited_p50=rounded(one.waiting.quantile(0.5)),
        waited_p95=rounded(one.waiting.quantile(0.95)),
    )
