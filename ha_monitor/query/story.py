"""What became of one task, step by step."""

from __future__ import annotations

from typing import NamedTuple

from ha_monitor.events.catalogue import State
from ha_monitor.query.fields import OPEN
from ha_monitor.store.queries import KeptTask, StoryEvent
from ha_monitor.store.record import TaskRecord
from ha_monitor.text.times import duration

_ENDS = {
    State.SUCCESS: "task-succeeded",
    State.FAILURE: "task-failed",
    State.REJECTED: "task-rejected",
    State.REVOKED: "task-revoked",
}


class Step(NamedTuple):
    """An event, and the time since the previous one."""

    type: str
    time: float
    """Seconds since the epoch."""
    after: float | None
    """Seconds; negative if two clocks disagree; None for the first event, and after one without a time."""
    note: str = ""
    """What the type of the event does not say."""
    error: str | None = None
    """The error group, if the event is an error."""


def steps_of(task: KeptTask) -> list[Step]:
    """The events of a task, oldest first. If its record has no story, the latest of each kind, as far as known."""
    events = task.story or _derived(task.record)
    steps: list[Step] = []
    seen: dict[str, int] = {}
    before = 0.0
    for event in events:
        after = event.time - before if steps and before and event.time else None
        seen[event.type] = seen.get(event.type, 0) + 1
        steps.append(Step(event.type, event.time, after, _note(event, seen), event.error_group))
        before = event.time
    return steps


def _note(event: StoryEvent, seen: dict[str, int]) -> str:
    count = seen[event.type]
    if event.type == "task-rejected" and event.requeued:
        return "back into its queue"
    if event.type == "task-received" and count > 1:
        # Each retry causes another delivery.
        return f"attempt {count}" if count <= seen.get("task-retried", 0) + 1 else "delivered again"
    if event.type == "task-started" and count > 1:
        return f"run {count}"
    return f"retry {count}" if event.type == "task-retried" else ""


def _derived(record: TaskRecord) -> tuple[StoryEvent, ...]:
    found = [
        StoryEvent(kind, at)
        for kind, at in (
            ("task-sent", record.sent),
            ("task-received", record.received),
            ("task-started", record.started),
            (_ENDS.get(record.state, ""), record.finished),
        )
        if at is not None and kind
    ]
    return tuple(sorted(found, key=lambda one: one.time))


def remarks_on(
    task: KeptTask, now: float, worker_state: str | None = None, detail_ttl: float | None = None
) -> list[str]:
    """Sentences about what is noteworthy: how long an open task has been in its state, why it may wait, what happened
    twice, what is missing.

    :param now: seconds since the epoch.
    :param worker_state: state of the worker that has the task, if known.
    :param detail_ttl: seconds for which details of a succeeded task are kept, if known.
    """
    record = task.record
    found = [_phase(record, now)] if record.state in OPEN else []
    if record.state in OPEN and record.worker and worker_state in ("lost", "offline", "late"):
        found.append(f"Its worker {record.worker} is {worker_state}.")
    again = record.runs - record.retries - 1
    if again > 0:
        found.append(
            f"It was started {again} more time{'s' if again > 1 else ''} than it was retried: delivered again."
        )
    if task.reconciled:
        found.append("Its end is from the result backend: its last event never arrived.")
    if not task.story:
        found.append("Only the latest event of each kind is known: an earlier version wrote this record.")
    if task.shrunk:
        kept = "are no longer kept" if detail_ttl is None else f"were kept for {duration(detail_ttl)}"
        found.append(f"Its arguments, root, parent and custom events {kept} (store.detail_ttl).")
    if not task.complete:
        found.append("Some of its events never came, or are too old to be kept.")
    return found


def _phase(record: TaskRecord, now: float) -> str:
    def since(at: float | None) -> str:
        return "an unknown time" if at is None else duration(max(0.0, now - at))

    if record.state is State.STARTED:
        return f"It has been running for {since(record.started)} on {record.worker or 'an unknown worker'}."
    if record.eta is not None and record.eta > now and record.state in (State.SENT, State.RECEIVED, State.RETRY):
        return f"It waits for its eta, in {duration(record.eta - now)}."
    if record.state is State.RECEIVED:
        return f"{record.worker or 'A worker'} has had it for {since(record.received)}, and has not started it."
    if record.state is State.RETRY:
        return "It waits for its next attempt."
    if record.state is State.SENT:
        queue = f" in {record.queue}" if record.queue else ""
        return f"It has been waiting{queue} for {since(record.sent)}; no worker has received it."
    return "Only custom events of it are known."
