"""Items of an outbox, as the store hands them over to be announced."""

from __future__ import annotations

from typing import Any

from ha_monitor.events.model import Event
from ha_monitor.store.outbox import Entry, OutboxItem
from ha_monitor.store.record import Facts

AT = 1_700_000_000.25


def announced(
    kind: str, task_id: str, name: str, worker: str, queue: str | None, *, wait: float | None = None, **fields: Any
) -> OutboxItem:
    """An event of a task. :param wait: seconds before its run."""
    facts = Facts(name=name, queue=queue, queue_wait=None if wait is None else int(wait * 1e6))
    event = Event(kind, f"event-{kind}-{task_id}", worker, AT, task_id, fields)
    return OutboxItem(0, Entry(0, event, facts, False))


def succeeded(
    task_id: str, name: str, worker: str = "celery@a", *, runtime: Any = 0.3, wait: float = 0.05
) -> OutboxItem:
    """A success."""
    return announced("task-succeeded", task_id, name, worker, "celery", wait=wait, runtime=runtime)


def failed(task_id: str, name: str, exception: Any = "KeyError('x')", worker: str = "celery@a") -> OutboxItem:
    """A failure."""
    return announced("task-failed", task_id, name, worker, "celery", exception=exception)
