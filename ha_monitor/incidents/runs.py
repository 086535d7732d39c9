"""The run of a task by which schedules are judged."""

from __future__ import annotations

from ha_monitor.schedules.arguments import arguments_of_event
from ha_monitor.schedules.model import Run
from ha_monitor.store.queries import KeptTask


def run_of(task: KeptTask, orphaned: frozenset[str] = frozenset()) -> Run:
    """The run that a task represents.

    :param orphaned: ids of tasks that nobody has any longer.
    """
    record = task.record
    return Run(
        task_id=record.task_id,
        sent=record.sent,
        received=record.received,
        started=record.started,
        ended=record.finished,
        state=record.state.value,
        is_child=record.parent_id is not None,
        is_orphaned=record.task_id in orphaned,
        queue=record.queue,
        arguments=arguments_of_event(record.args, record.kwargs),
    )
