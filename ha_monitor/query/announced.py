"""What the tail shows: whether an announcement matches a filter, and its line."""

from __future__ import annotations

from msgspec.structs import replace

from ha_monitor.events.catalogue import State
from ha_monitor.outputs.line import Identity, build_line, encode_line, iso_time
from ha_monitor.query.fields import OPEN
from ha_monitor.query.language import Filter
from ha_monitor.store.outbox import OutboxItem
from ha_monitor.store.queries import KeptTask
from ha_monitor.store.record import Facts, TaskRecord, record_at
from ha_monitor.store.tail import TailEvent

_OF_EVENTS = {
    "task-sent": State.SENT,
    "task-received": State.RECEIVED,
    "task-started": State.STARTED,
    "task-retried": State.RETRY,
}
"""The state in which an event leaves a task, for events that do not end it."""


def task_of(shown: TailEvent) -> KeptTask:
    """The task of an announcement as its event left it, for filters. If it is about no task, only the worker is set."""
    event, facts = shown.entry.event, shown.entry.facts
    if event.task_id is None:
        return KeptTask(TaskRecord(task_id="", state=State.UNKNOWN, worker=event.worker or None))
    record = record_at(event, facts or Facts())
    state = _OF_EVENTS.get(event.type, record.state)
    if event.type == "task-rejected" and event.fields.get("requeue") is not False:
        state = State.RETRY
    if state is not record.state and state in OPEN:
        # Undo what later events changed: they were merged in the same call.
        record = replace(record, state=state, finished=None, runtime=None, exception=None, error_group=None)
    exception = event.fields.get("exception")
    if record.exception is None and isinstance(exception, str):
        record = replace(record, exception=exception)  # of a retry
    return KeptTask(record, complete=not shown.entry.incomplete)


def matches(wanted: Filter, task: KeptTask, shown: TailEvent) -> bool:
    """Whether an announcement matches a filter.

    :param task: from `task_of`.
    """
    return not wanted.conditions or wanted.holds(task, shown.at)


def line_of(shown: TailEvent, node_id: str) -> bytes:
    """The line as the instance writes it, with the time at which it was put into the outbox. If the instance is no
    longer known, its name is missing.
    """

    def text(name: str) -> str:
        value = shown.who.get(name)
        return value if isinstance(value, str) else ""

    pid = shown.who.get("pid")
    identity = Identity(node_id, text("instance"), text("host"), pid if isinstance(pid, int) else 0)
    return encode_line(build_line(OutboxItem(0, shown.entry), identity, iso_time(shown.at)))
