"""The fields of a task that filters use: one vocabulary for filters, JSON and tables."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import NamedTuple

from ha_monitor.events.catalogue import State
from ha_monitor.store.queries import KeptTask

Value = str | float | bool | None
OPEN = frozenset({State.SENT, State.RECEIVED, State.STARTED, State.RETRY, State.UNKNOWN})
"""The states of tasks that are not finished."""
BAD_ENDS = frozenset({State.FAILURE, State.REJECTED, State.REVOKED})


class Kind(StrEnum):
    """What kind of values a field has."""

    STATE = "a state"
    TEXT = "a text"
    NUMBER = "a number"
    DURATION = "a duration"
    FLAG = "yes or no"
    TIME = "a time"


class Field(NamedTuple):
    """A field of a task."""

    name: str
    kind: Kind
    meaning: str
    values: Callable[[KeptTask, float], tuple[Value, ...]]
    """Its values for a task at a time in seconds since the epoch; a condition holds if it holds for one of them."""


def first_heard(task: KeptTask) -> float:
    """When the first event of a task was sent, by the senders' clocks; 0 if that is not known."""
    return task.first_heard


def last_heard(task: KeptTask) -> float:
    """When a task ended, or otherwise when its latest event was sent; 0 if that is not known."""
    return task.last_heard


def runtime_of(task: KeptTask, now: float) -> float | None:
    """Seconds that a task took, or has been running."""
    if task.state is State.STARTED and (started := task.started) is not None:
        return max(0.0, now - started)
    return task.record.runtime


def queue_time_of(task: KeptTask, now: float) -> float | None:
    """Seconds that a task waited before its run, or has been waiting."""
    record = task.record
    since = record.sent or record.received
    if record.state in (State.SENT, State.RECEIVED) and since is not None:
        return max(0.0, now - max(since, record.eta or 0.0))
    return record.queue_time


FIELDS = {
    field.name: field
    for field in (
        Field("state", Kind.STATE, "its state, or open for all that are not finished", lambda t, _: (t.state,)),
        Field("name", Kind.TEXT, "its name", lambda t, _: (t.name,)),
        Field("queue", Kind.TEXT, "its queue, where producers send task-sent", lambda t, _: (t.queue,)),
        Field("worker", Kind.TEXT, "the worker that last had it", lambda t, _: (t.worker,)),
        Field(
            "error",
            Kind.TEXT,
            "id of its error's group, or of a retry's",
            lambda t, _: (t.record.error_group, *t.record.retry_error_groups),
        ),
        Field("exception", Kind.TEXT, "its exception as text", lambda t, _: (t.record.exception,)),
        Field("root", Kind.TEXT, "id of the task at the root of its tree", lambda t, _: (t.record.root_id,)),
        Field("parent", Kind.TEXT, "id of the task that sent it", lambda t, _: (t.record.parent_id,)),
        Field("task_id", Kind.TEXT, "its id", lambda t, _: (t.record.task_id,)),
        Field("retries", Kind.NUMBER, "how often it was retried", lambda t, _: (t.record.retries,)),
        Field("runtime", Kind.DURATION, "how long it took, or has been running", lambda t, now: (runtime_of(t, now),)),
        Field(
            "queue_time",
            Kind.DURATION,
            "how long it waited, or has been waiting",
            lambda t, now: (queue_time_of(t, now),),
        ),
        Field("runs", Kind.NUMBER, "how often it was started", lambda t, _: (t.record.runs,)),
        Field("arg", Kind.TEXT, "its arguments, where they are kept", lambda t, _: (t.record.args, t.record.kwargs)),
        Field("reconciled", Kind.FLAG, "its end is from the result backend", lambda t, _: (t.reconciled,)),
        Field("incomplete", Kind.FLAG, "some of its events never came", lambda t, _: (not t.complete,)),
        Field("since", Kind.TIME, "it ended, or was last heard of, then or later", lambda t, _: (last_heard(t),)),
        Field("until", Kind.TIME, "… then or earlier", lambda t, _: (last_heard(t),)),
    )
}
"""By name, in the order in which they are listed."""
